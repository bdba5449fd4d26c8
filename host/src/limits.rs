//! Every bound on what a handler may use, with its default and its range. Never does I/O.

use std::time::Duration;

/// What one call of a handler may use. A deployment chooses; see `host deploy --help`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one sandbox, in bytes.
    pub memory_bytes: u64,
    /// From the call's start to its verdict, waiting included.
    pub timeout: Duration,
    /// Time on a processor within that; a loop that never waits ends here.
    pub cpu: Duration,
    /// Log text of one call, in bytes.
    pub log_bytes: u64,
    /// Follow-up messages of one call.
    pub follow_ups: u32,
    /// Payloads and headers of one call's follow-up messages together, in bytes.
    pub follow_up_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            timeout: Duration::from_secs(30),
            cpu: Duration::from_secs(10),
            log_bytes: 64 << 10,
            follow_ups: 1_000,
            follow_up_bytes: 4 << 20,
        }
    }
}

/// The least and the most memory that a deployment may ask for, in bytes.
pub const MEMORY_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=4 << 30;
/// The shortest and the longest timeout that a deployment may ask for.
pub const TIMEOUT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(3600);
/// The largest component that is accepted, in bytes.
pub const COMPONENT_BYTES_MAX: u64 = 64 << 20;
/// Longest error text that is kept of an attempt, in bytes.
pub const ERROR_BYTES_MAX: usize = 2_000;

/// When a sandbox is thrown away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// After every message: nothing can leak from one to the next.
    #[default]
    Message,
    /// After a number of messages of one handler version, or any failure: faster, and a handler
    /// may keep what it has prepared.
    Batch,
}

impl Isolation {
    /// The name in SQL and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Batch => "batch",
        }
    }

    /// The isolation of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Message, Self::Batch].into_iter().find(|i| i.name() == name)
    }
}
