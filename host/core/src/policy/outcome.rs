//! From a verdict to an outcome: what a queue's policy makes of what a handler said. Pure
//! functions, no I/O and no clock.

use std::time::Duration;

use super::retry::{DELAY_MAX, RetryPolicy};
use crate::format::plural;
use crate::limits::ERROR_BYTES_MAX;

/// What the handler said, or how the call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done.
    Ack,
    /// Deliver it again.
    Retry {
        /// Wait this long; `None` leaves it to the policy.
        after: Option<Duration>,
        /// What went wrong; may be empty.
        reason: String,
    },
    /// Never deliver it again.
    DeadLetter {
        /// Why it can never succeed.
        reason: String,
    },
    /// The call gave no verdict.
    Failed(Failure),
    /// There was no call, or it was broken off: an operator has removed the message.
    Removed,
}

/// How a call can fail to give a verdict. Each counts as a retry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The guest trapped; the text is the first line of what wasmtime says.
    #[error("trap: {0}")]
    Trap(String),
    /// No verdict within the wall time.
    #[error("timeout: no verdict within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// More time on the processor than allowed.
    #[error("limit: more than {} of CPU time", humantime::format_duration(*.0))]
    Cpu(Duration),
    /// More linear memory than allowed.
    #[error("limit: more than {0} bytes of memory")]
    Memory(u64),
    /// The wasm stack is used up.
    #[error("limit: stack overflow")]
    Stack,
    /// The sandbox could not be made: the handler's module was at fault.
    #[error("cannot start: {0}")]
    Start(String),
    /// A batch whose verdicts cannot be told apart.
    #[error(
        "the handler gave {} for {}",
        plural(*verdicts as u64, "verdict"),
        plural(*messages as u64, "message")
    )]
    Verdicts {
        /// How many it gave.
        verdicts: usize,
        /// How many it was given.
        messages: usize,
    },
    /// The message's row could not be read, so that it was not run.
    #[error("the message cannot be read: {0}")]
    Unreadable(String),
    /// A follow-up could not be stored; the text is what Postgres said.
    #[error("follow-up refused: {0}")]
    FollowUp(String),
}

/// What the host does with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Settled.
    Ack,
    /// Settled, and copied to the schedule.
    Reschedule {
        /// From the settlement on.
        delay: Duration,
        /// For the message's history.
        error: String,
    },
    /// Settled, and copied to the dead letters.
    DeadLetter {
        /// For an operator: the kind of end.
        reason: DeadReason,
        /// For the message's history.
        error: String,
    },
    /// Settled, as an operator's doing.
    Removed,
}

/// Why a message is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadReason {
    /// The handler said so.
    Rejected,
    /// Its attempts are used up.
    Attempts,
    /// Its deadline passed before it could run.
    Expired,
}

impl DeadReason {
    /// The name in SQL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Attempts => "attempts used up",
            Self::Expired => "expired",
        }
    }
}

/// Decides what becomes of a message.
///
/// `attempt` is the one that has just ended, from 1; `jitter` is a random number in `0.0..1.0`.
#[must_use]
pub fn outcome(verdict: Verdict, policy: &RetryPolicy, attempt: u32, jitter: f64) -> Outcome {
    let (after, error) = match verdict {
        Verdict::Ack => return Outcome::Ack,
        Verdict::Removed => return Outcome::Removed,
        Verdict::DeadLetter { reason } => {
            return Outcome::DeadLetter { reason: DeadReason::Rejected, error: clip(reason) };
        }
        Verdict::Retry { after, reason } => (after, reason),
        Verdict::Failed(failure) => (None, failure.to_string()),
    };
    let error = clip(error);
    if attempt >= policy.max_attempts {
        return Outcome::DeadLetter { reason: DeadReason::Attempts, error };
    }
    let delay = after.unwrap_or_else(|| policy.backoff.wait(attempt, jitter));
    Outcome::Reschedule { delay: delay.min(DELAY_MAX), error }
}

/// One line that Postgres can store: what a handler says must not look like a further entry of a
/// history.
fn clip(mut text: String) -> String {
    if text.contains(breaks_a_line) {
        text = text.replace(breaks_a_line, " ");
    }
    if text.len() > ERROR_BYTES_MAX {
        text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
        text.push('…');
    }
    text
}

/// Whether a character ends a line, moves the cursor or turns the direction of what follows.
fn breaks_a_line(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::retry::Backoff;

    fn policy() -> RetryPolicy {
        RetryPolicy { max_attempts: 5, backoff: EXPONENTIAL }
    }

    const BASE: Duration = Duration::from_secs(1);
    const CAP: Duration = Duration::from_mins(1);
    const EXPONENTIAL: Backoff = Backoff::Exponential { base: BASE, cap: CAP };

    #[test]
    fn a_list_of_delays_is_kept_to_and_its_last_repeats() {
        let delays = [5, 60, 600].map(Duration::from_secs);
        let backoff = Backoff::Delays(delays.to_vec());
        let waits = [1, 2, 3, 4, 100].map(|attempt| backoff.wait(attempt, 0.7));
        assert_eq!(waits, [delays[0], delays[1], delays[2], delays[2], delays[2]]);
    }

    #[test]
    fn the_last_attempt_ends_in_the_dead_letters() {
        let retry = || Verdict::Retry { after: None, reason: "no".into() };
        assert!(matches!(outcome(retry(), &policy(), 4, 0.0), Outcome::Reschedule { .. }));
        assert_eq!(
            outcome(retry(), &policy(), 5, 0.0),
            Outcome::DeadLetter { reason: DeadReason::Attempts, error: "no".into() }
        );
    }

    #[test]
    fn the_handlers_own_delay_wins_up_to_a_year() {
        let after = Some(Duration::MAX);
        let verdict = Verdict::Retry { after, reason: String::new() };
        assert_eq!(
            outcome(verdict, &policy(), 1, 0.5),
            Outcome::Reschedule { delay: DELAY_MAX, error: String::new() }
        );
    }

    #[test]
    fn a_reason_is_one_line() {
        let reason = "no\r\n2026-01-01T00:00:00Z  settled\u{2028}\u{202e}\u{1b}[2J\0".into();
        let Outcome::DeadLetter { error, .. } =
            outcome(Verdict::DeadLetter { reason }, &policy(), 1, 0.0)
        else {
            panic!("it is given up on")
        };
        assert_eq!(error, "no  2026-01-01T00:00:00Z  settled   [2J ");
    }

    proptest! {
        #[test]
        fn backoff_grows_stays_under_the_cap_and_never_vanishes(attempt in 1u32..1_000, jitter in 0.0..1.0f64) {
            let delay = EXPONENTIAL.wait(attempt, jitter);
            prop_assert!(delay <= CAP);
            prop_assert!(delay >= BASE / 2);
            prop_assert!(EXPONENTIAL.wait(attempt + 1, jitter) >= delay);
        }

        #[test]
        fn any_error_text_can_be_stored(text in ".{0,3000}") {
            let clipped = clip(text);
            prop_assert!(!clipped.contains(breaks_a_line));
            prop_assert!(clipped.len() <= ERROR_BYTES_MAX + '…'.len_utf8());
        }
    }
}
