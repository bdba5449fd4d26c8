//! A queue's settings: what an operator may choose of one. Never does I/O.

use std::time::Duration;

use super::queue_limits::QueueLimits;
use super::retry::{Backoff, RetryPolicy};
use super::unique::Unique;
use crate::limits::{
    ATTEMPTS, ATTEMPTS_DEFAULT, BACKOFF, BACKOFF_CAP_DEFAULT, BACKOFF_CAP_MAX, BACKOFF_DEFAULT,
    DELAYS, KEEP, OutOfRange, PAYLOAD_BYTES, PAYLOAD_BYTES_DEFAULT, ROTATE_AGE, ROTATE_AGE_DEFAULT,
    ROTATE_BYTES, ROTATE_BYTES_DEFAULT, bytes_within, count_within, duration_within,
};
use crate::message::PayloadType;
use crate::message::lane::Lanes;

/// All settings of a queue. The default is a queue of which nobody has said anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// What its `payload` column holds; never changes.
    pub payload_type: PayloadType,
    /// Its largest payload, in bytes.
    pub payload_bytes_max: u64,
    /// How often and when it retries.
    pub policy: RetryPolicy,
    /// A generation ends when its leaf has this many bytes …
    pub rotate_bytes: u64,
    /// … and this age.
    pub rotate_age: Duration,
    /// How long settled messages stay readable, at least; `None`: until their generation is
    /// truncated.
    pub keep: Option<Duration>,
    /// Whether an INSERT may wake a sleeping host.
    pub wake_up: bool,
    /// Its strands; never change.
    pub lanes: Lanes,
    /// How it takes unique keys, if it does.
    pub unique: Option<Unique>,
    /// Its limits, if it has any.
    pub limits: QueueLimits,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            payload_type: PayloadType::Jsonb,
            payload_bytes_max: PAYLOAD_BYTES_DEFAULT,
            policy: RetryPolicy {
                max_attempts: ATTEMPTS_DEFAULT,
                backoff: Backoff::Exponential { base: BACKOFF_DEFAULT, cap: BACKOFF_CAP_DEFAULT },
            },
            rotate_bytes: ROTATE_BYTES_DEFAULT,
            rotate_age: ROTATE_AGE_DEFAULT,
            keep: None,
            wake_up: true,
            lanes: Lanes::One,
            unique: None,
            limits: QueueLimits::default(),
        }
    }
}

impl QueueSettings {
    /// Refuses what a queue cannot be.
    pub fn check(&self) -> Result<(), OutOfRange> {
        bytes_within("max-bytes", self.payload_bytes_max, &PAYLOAD_BYTES)?;
        count_within("max-attempts", self.policy.max_attempts, &ATTEMPTS)?;
        match &self.policy.backoff {
            Backoff::Exponential { base, cap } => {
                duration_within("backoff", *base, &BACKOFF)?;
                duration_within("backoff-cap", *cap, &(*base..=BACKOFF_CAP_MAX))?;
            }
            Backoff::Delays(delays) => {
                count_within("delays", delays.len() as u32, &DELAYS)?;
                for delay in delays {
                    duration_within("delays", *delay, &(Duration::ZERO..=BACKOFF_CAP_MAX))?;
                }
            }
        }
        bytes_within("rotate-size", self.rotate_bytes, &ROTATE_BYTES)?;
        duration_within("rotate-age", self.rotate_age, &ROTATE_AGE)?;
        self.limits.check()?;
        self.unique.as_ref().map_or(Ok(()), Unique::check)?;
        self.keep.map_or(Ok(()), |keep| duration_within("keep", keep, &KEEP))
    }
}
