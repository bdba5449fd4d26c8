//! What came of a call, as a case expects it and as people read it.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::show;
use crate::visible::one_line;
use host_core::id::MessageId;
use host_core::message::FollowUp;
use host_core::policy::outcome::Verdict;
use host_sandbox::{BatchRun, Run};

/// What came of one message.
#[derive(Debug)]
pub(super) struct Happened {
    verdict: Verdict,
    follow_ups: Vec<FollowUp>,
    result: Option<Vec<u8>>,
    /// The lines that the guest wrote.
    pub log: Vec<String>,
    pub elapsed: Duration,
    pub cpu: Duration,
    /// Of the sandbox after the call; `None`: it did not survive.
    pub memory_bytes: Option<u64>,
}

impl Happened {
    pub(super) fn of(run: Run) -> Self {
        let Run { verdict, follow_ups, result, elapsed, cpu } = run;
        Self { verdict, follow_ups, result, log: vec![], elapsed, cpu, memory_bytes: None }
    }

    pub(super) fn of_batch(run: BatchRun, id: MessageId) -> Self {
        let BatchRun { verdicts, follow_ups, mut results, elapsed, cpu } = run;
        let verdict = match verdicts {
            Ok(mut verdicts) => verdicts.pop().unwrap_or(Verdict::Removed),
            Err(failure) => Verdict::Failed(failure),
        };
        let result = results.remove(&id).filter(|_| verdict == Verdict::Ack);
        Self { verdict, follow_ups, result, log: vec![], elapsed, cpu, memory_bytes: None }
    }

    /// Whether each of these occurs in a line of the log, in this order.
    pub(super) fn says(&self, texts: &[String]) -> bool {
        let mut lines = self.log.iter();
        texts.iter().all(|text| lines.any(|line| line.contains(text.as_str())))
    }

    /// For cases and for machines.
    pub(super) fn json(&self) -> Value {
        json!({
            "verdict": verdict_json(&self.verdict),
            "result": self.result.as_deref().map(content),
            "follow_ups": self.follow_ups.iter().map(follow_up_json).collect::<Value>(),
            "log": self.log,
        })
    }

    /// For people.
    pub(super) fn words(&self) -> String {
        let mut text = format!("verdict    {}\n", one_line(&verdict_words(&self.verdict)));
        let mut line = |name: &str, what: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<10} {}", show::line(what, 2_000));
        };
        if let Some(result) = &self.result {
            line("result", &content(result).to_string());
        }
        for follow_up in &self.follow_ups {
            line("follow-up", &follow_up_json(follow_up).to_string());
        }
        for said in &self.log {
            line("log", said);
        }
        text
    }
}

fn verdict_json(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Ack => json!("ack"),
        Verdict::Retry { after, reason } => {
            json!({ "retry": { "after_ms": after.map(|t| t.as_millis() as u64), "reason": reason } })
        }
        Verdict::DeadLetter { reason } => json!({ "dead_letter": { "reason": reason } }),
        Verdict::Failed(failure) => json!({ "failed": failure.to_string() }),
        Verdict::Removed => json!("removed"),
    }
}

fn verdict_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Ack => "ack".to_owned(),
        Verdict::Retry { after, reason } => {
            let when = after.map_or("by the queue's backoff".to_owned(), show::duration);
            format!("retry, after {when}: {reason}")
        }
        Verdict::DeadLetter { reason } => format!("dead letter: {reason}"),
        Verdict::Failed(failure) => format!("failed: {failure}"),
        Verdict::Removed => "removed".to_owned(),
    }
}

/// Only what the handler has given.
fn follow_up_json(message: &FollowUp) -> Value {
    let mut fields = json!({ "queue": message.queue, "payload": content(&message.payload) });
    if !message.headers.is_empty() {
        let header = |(name, value): &(String, String)| (name.clone(), Value::from(value.clone()));
        fields["headers"] = Value::Object(message.headers.iter().map(header).collect());
    }
    if !message.delay.is_zero() {
        fields["delay_ms"] = (message.delay.as_millis() as u64).into();
    }
    for (name, value) in [("key", &message.key), ("unique_key", &message.unique_key)] {
        if let Some(value) = value {
            fields[name] = value.clone().into();
        }
    }
    if let Some(priority) = message.priority {
        fields["priority"] = priority.name().into();
    }
    fields
}

/// Bytes as JSON, or as text if they are none, or else in base64.
fn content(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": BASE64_STANDARD.encode(bytes) }),
    })
}
