//! Does on command what no batch handler should. For tests.
//!
//! A message is `{"n": 7}`, and acked; or it says what to `do`: `retry` and `dead` are its own
//! verdict, `trap`, `loop`, `sleep` and `short` (a verdict less than there are messages) hit its
//! whole call. Where `--config to=…` names a queue, each call reports the numbers that it acked in
//! one follow-up, as in `1,2,7`.

#![allow(missing_docs, clippy::same_length_and_capacity, reason = "what wit-bindgen generates")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use serde::Deserialize;

use crate::host::jobs::types::{Failure, RetryOptions};
use crate::host::jobs::{config, log, queue, results};

wit_bindgen::generate!({ path: "../../wit", world: "batch-handler" });

#[derive(Deserialize)]
struct Command {
    n: u64,
    #[serde(default)]
    r#do: String,
    /// For `sleep` and `retry`: how long, in milliseconds.
    #[serde(default)]
    ms: u64,
    /// For `retry`: the attempts that fail; nothing is: all.
    fails: Option<u32>,
    /// The result to leave, whatever becomes of the message.
    result: Option<String>,
}

/// Calls that this instance has seen.
static SEEN: AtomicU32 = AtomicU32::new(0);

struct Mob;

impl Guest for Mob {
    fn handle_batch(messages: Vec<Message>) -> Vec<Verdict> {
        let seen = SEEN.fetch_add(1, Relaxed) + 1;
        log::write(log::Level::Info, &format!("call {seen} of {}", messages.len()));
        let commands: Vec<Command> = messages
            .iter()
            .map(|m| serde_json::from_slice(&m.payload).expect("a command"))
            .collect();
        for (command, message) in commands.iter().zip(&messages) {
            if let Some(result) = &command.result {
                results::set(&message.id, result.as_bytes()).expect("a result is welcome");
            }
        }
        let mut verdicts: Vec<Verdict> =
            commands.iter().zip(&messages).map(|(c, m)| obey(c, m.attempt)).collect();
        let acked = commands.iter().zip(&verdicts).filter(|(_, v)| matches!(v, Verdict::Ack));
        let acked: Vec<String> = acked.map(|(command, _)| command.n.to_string()).collect();
        if let Some(queue) = config::get("to") {
            let payload = acked.join(",").into_bytes();
            let report = queue::FollowUp {
                queue,
                payload,
                headers: vec![],
                delay_ms: 0,
                key: None,
                priority: None,
                unique_key: None,
            };
            queue::enqueue(&report).expect("a queue to report to");
        }
        if commands.iter().any(|command| command.r#do == "short") {
            verdicts.pop();
        }
        verdicts
    }
}

fn obey(command: &Command, attempt: u32) -> Verdict {
    match command.r#do.as_str() {
        "retry" if command.fails.is_none_or(|fails| attempt <= fails) => {
            let reason = "on command".into();
            return Verdict::Retry(RetryOptions { after_ms: Some(command.ms), reason });
        }
        "dead" => return Verdict::DeadLetter(Failure { reason: "on command".into() }),
        "trap" => panic!("on command"),
        "sleep" => std::thread::sleep(Duration::from_millis(command.ms)),
        "loop" => loop {
            black_box(());
        },
        _ => {}
    }
    Verdict::Ack
}

export!(Mob);
