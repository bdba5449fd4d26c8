//! What decides on a message that has run, and writes its history: the queue's policy, and the
//! host's name. The decision itself is `host_core::policy::outcome`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::dispatch::failure_log::FailureLog;
use host_core::message::Expired;
use host_core::policy::outcome::{DeadReason, Outcome};
use host_core::policy::retry::RetryPolicy;
use host_core::settlement::{Effects, Ledger};

/// What is needed to decide what becomes of a message, and to write it down.
#[derive(Clone, Debug)]
pub(crate) struct OutcomeContext {
    /// The queue's.
    pub policy: RetryPolicy,
    /// This host's name, for the history.
    pub host_name: Arc<str>,
    /// Where failures are noted.
    pub failures: Arc<FailureLog>,
}

/// A call, as the history of its messages has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// The version that ran.
    pub version: i32,
    /// How long it took, if that is known.
    pub elapsed: Option<Duration>,
}

impl OutcomeContext {
    /// Makes a dead letter of a message whose deadline has passed.
    pub(crate) fn expire(&self, ledger: &mut Ledger, message: Expired) {
        let error = "its deadline passed before it could run".to_owned();
        let outcome = Outcome::DeadLetter { reason: DeadReason::Expired, error };
        self.failures.note(0, None, &outcome);
        let entry = |error: String| self.entry(message.attempt, None, &error);
        ledger.record(message.position, outcome, Effects::default(), entry);
    }

    /// A line of a message's history, written when an attempt is found to have ended. `None`: no
    /// call was made.
    pub(crate) fn entry(&self, attempt: u32, call: Option<Call>, error: &str) -> Value {
        let at = SystemTime::now();
        let time = |t| humantime::format_rfc3339_millis(t).to_string();
        let mut entry = json!({
            "attempt": attempt,
            "at": time(at),
            "host": *self.host_name,
            "error": error,
        });
        if let Some(Call { version, elapsed }) = call {
            entry["version"] = version.into();
            if let Some(elapsed) = elapsed {
                entry["started"] = time(at - elapsed).into();
            }
        }
        entry
    }
}
