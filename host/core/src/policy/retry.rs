//! When a message is tried again: the queue's policy, and the delay that it gives. Pure.

use std::time::Duration;

/// The longest delay that is accepted; a handler that asks for more gets this.
pub const DELAY_MAX: Duration = Duration::from_hours(365 * 24);

/// How often and when a queue retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; at least 1.
    pub max_attempts: u32,
    /// How long to wait between two.
    pub backoff: Backoff,
}

/// The wait between two attempts, where the handler does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// Doubles with each attempt; half of it is at random.
    Exponential {
        /// Before the second attempt.
        base: Duration,
        /// Never longer than this.
        cap: Duration,
    },
    /// The first before the second attempt, and so on; the last repeats. Never empty.
    Delays(Vec<Duration>),
}

impl Backoff {
    /// The wait after that attempt. Exponential backoff has equal jitter: half of the step is
    /// certain, half is random, so that messages that failed together do not come back together.
    ///
    /// Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    #[must_use]
    pub fn wait(&self, attempt: u32, jitter: f64) -> Duration {
        let retry = attempt.saturating_sub(1);
        match self {
            Self::Exponential { base, cap } => {
                let step = base.saturating_mul(1 << retry.min(31)).min(*cap);
                step.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
            }
            Self::Delays(delays) => {
                let delay = delays.get(retry as usize).or(delays.last());
                delay.copied().unwrap_or_default()
            }
        }
    }
}
