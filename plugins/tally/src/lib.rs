//! Adds up amounts by account: many messages in, one follow-up out. A model of a batch handler.
//!
//! A message is a posting, as JSON: `{"account": "a1", "amount": 5}`. For all of a call, one
//! message goes to the queue of `--config to=…` (`totals` unless given): `{"totals": {"a1": 12,
//! "b2": -3}, "postings": 4}`.
//!
//! It is committed with the acks of the same call, or not at all, so each posting is in the totals
//! once, whatever happens. A message that is no posting is a dead letter, and none of its
//! neighbours' business.

#![allow(missing_docs, clippy::same_length_and_capacity, reason = "what wit-bindgen generates")]

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use crate::host::jobs::types::{Failure, RetryOptions};
use crate::host::jobs::{config, queue};

wit_bindgen::generate!({ path: "../../wit", world: "batch-handler" });

#[derive(Deserialize)]
struct Posting {
    account: String,
    amount: i64,
}

struct Tally;

impl Guest for Tally {
    fn handle_batch(messages: Vec<Message>) -> Vec<Verdict> {
        let mut totals = BTreeMap::<String, i64>::new();
        let mut postings = 0;
        let mut verdicts: Vec<Verdict> = messages
            .iter()
            .map(|message| match add(&mut totals, message) {
                Ok(()) => {
                    postings += 1;
                    Verdict::Ack
                }
                Err(reason) => Verdict::DeadLetter(Failure { reason }),
            })
            .collect();
        if postings > 0 {
            let sums = json!({ "totals": totals, "postings": postings });
            if let Err(reason) = enqueue(sums.to_string().into_bytes()) {
                // Without the follow-up nothing is done, so nothing is acked.
                for verdict in verdicts.iter_mut().filter(|v| matches!(v, Verdict::Ack)) {
                    let reason = reason.clone();
                    *verdict = Verdict::Retry(RetryOptions { after_ms: None, reason });
                }
            }
        }
        verdicts
    }
}

fn add(totals: &mut BTreeMap<String, i64>, message: &Message) -> Result<(), String> {
    let posting: Posting = serde_json::from_slice(&message.payload)
        .map_err(|error| format!("the payload is no posting: {error}"))?;
    let total = totals.get(&posting.account).copied().unwrap_or_default();
    let sum = total.checked_add(posting.amount).ok_or("the sum is too large")?;
    totals.insert(posting.account, sum);
    Ok(())
}

fn enqueue(payload: Vec<u8>) -> Result<(), String> {
    let queue = config::get("to").unwrap_or_else(|| "totals".into());
    let totals = queue::FollowUp {
        queue,
        payload,
        headers: vec![],
        delay_ms: 0,
        key: None,
        priority: None,
        unique_key: None,
    };
    queue::enqueue(&totals).map_err(|refusal| format!("cannot enqueue the totals: {refusal:?}"))
}

export!(Tally);
