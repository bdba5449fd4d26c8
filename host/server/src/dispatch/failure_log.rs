//! What the log says of messages that fail: each kind of failure at once, then how many more, once
//! a minute. The counting is `host_core::health::failures`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use host_core::health::failures::{End, Failed, Failures, Line, Report};
use host_core::id::MessageId;
use host_core::policy::outcome::Outcome;

/// Between two looks at what is due.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The failures of one handler on this host.
#[derive(Debug)]
pub(crate) struct FailureLog {
    queue: String,
    handler: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    failures: Failures,
    told: Instant,
}

impl FailureLog {
    /// Of a handler that has just begun.
    pub(crate) fn new(queue: &str, handler: &str) -> Self {
        let told = Instant::now();
        let state = Mutex::new(State { failures: Failures::new(told), told });
        Self { queue: queue.to_owned(), handler: handler.to_owned(), state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes messages that have run, those that failed included.
    pub(crate) fn ran(&self, messages: u64) {
        self.state().failures.ran(messages);
    }

    /// Notes what became of a message, if it failed. `version`: 0 if none ran it.
    pub(crate) fn note(&self, version: i32, message: Option<MessageId>, outcome: &Outcome) {
        let (end, error) = match outcome {
            Outcome::Reschedule { error, .. } => (End::Retried, error),
            Outcome::DeadLetter { reason, error } => (End::Dead(*reason), error),
            Outcome::Ack | Outcome::Removed => return,
        };
        let failed = Failed { version, end, message, error };
        let line = self.state().failures.note(failed, Instant::now());
        if let Some(line) = line {
            self.write(&line);
        }
    }

    /// Logs what is due. Returns what to tell the database, if it is time.
    pub(crate) fn tell(&self, now: Instant) -> Option<Report> {
        let (lines, report) = {
            let State { failures, told } = &mut *self.state();
            if now.saturating_duration_since(*told) < TELL_EVERY {
                return None;
            }
            *told = now;
            (failures.due(now), failures.report(now))
        };
        for line in &lines {
            self.write(line);
        }
        report
    }

    fn write(&self, line: &Line) {
        let Self { queue, handler, .. } = self;
        let Line { version, end, message, count, error, is_first } = line;
        let version = (*version > 0).then_some(*version);
        let id = message.map(MessageId::get);
        match (end, is_first) {
            (End::Retried, true) => {
                tracing::warn!(
                    queue,
                    handler,
                    version,
                    id,
                    error,
                    "a message failed; it is tried again"
                );
            }
            (End::Dead(reason), true) => {
                let reason = reason.name();
                tracing::warn!(
                    queue,
                    handler,
                    version,
                    id,
                    reason,
                    error,
                    "a message became a dead letter"
                );
            }
            (End::Retried, false) => {
                tracing::warn!(
                    queue,
                    handler,
                    version,
                    count,
                    first = id,
                    error,
                    "more messages failed like this; they are tried again"
                );
            }
            (End::Dead(reason), false) => {
                let reason = reason.name();
                tracing::warn!(
                    queue,
                    handler,
                    version,
                    count,
                    first = id,
                    reason,
                    error,
                    "more messages like this became dead letters"
                );
            }
        }
    }
}
