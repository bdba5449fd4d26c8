//! Every bound on what a handler may use, with its default and its range. Never does I/O.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;

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
    /// Payloads and headers of one call's follow-up messages and its results together, in bytes.
    pub follow_up_bytes: u64,
    /// HTTP requests of one call.
    pub http_requests: u32,
    /// One call's HTTP requests and responses together, headers and bodies, in bytes.
    pub http_bytes: u64,
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
            http_requests: 100,
            http_bytes: 16 << 20,
        }
    }
}

/// The least and the most memory that a deployment may ask for, in bytes.
pub const MEMORY_BYTES: RangeInclusive<u64> = 1 << 20..=4 << 30;
/// The shortest and the longest timeout that a deployment may ask for.
pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_hours(1);
/// The least and the most time on a processor that a deployment may ask for.
pub const CPU: RangeInclusive<Duration> = TIMEOUT;
/// The least and the most log text of a call that a deployment may ask for, in bytes.
pub const LOG_BYTES: RangeInclusive<u64> = 0..=16 << 20;
/// The fewest and the most follow-ups of a call that a deployment may ask for.
pub const FOLLOW_UPS: RangeInclusive<u32> = 0..=100_000;
/// The least and the most bytes of a call's follow-ups that a deployment may ask for.
pub const FOLLOW_UP_BYTES: RangeInclusive<u64> = 0..=64 << 20;
/// The fewest and the most HTTP requests of a call that a deployment may ask for.
pub const HTTP_REQUESTS: RangeInclusive<u32> = 0..=10_000;
/// The least and the most bytes of a call's HTTP that a deployment may ask for.
pub const HTTP_BYTES: RangeInclusive<u64> = 0..=1 << 30;
/// The fewest and the most sandboxes at once, on one host, that a deployment may ask for.
pub const CONCURRENCY: RangeInclusive<u32> = 1..=10_000;
/// The fewest and the most messages of a call that the deployment of a batch handler may ask for.
pub const BATCH_SIZE: RangeInclusive<u32> = 1..=1_000;
/// Messages of a call of a batch handler whose deployment does not say.
pub const BATCH_SIZE_DEFAULT: u32 = 100;
/// Sandboxes at once, on one host, of a deployment that does not say.
pub const CONCURRENCY_DEFAULT: u32 = 64;
/// The least and the most that a queue's largest payload may be, in bytes.
pub const PAYLOAD_BYTES: RangeInclusive<u64> = 1..=64 << 20;
/// The largest payload of a queue that does not say, in bytes.
pub const PAYLOAD_BYTES_DEFAULT: u64 = 1 << 20;
/// The fewest and the most attempts that a queue may ask for.
pub const ATTEMPTS: RangeInclusive<u32> = 1..=1_000;
/// The attempts of a queue that does not say.
pub const ATTEMPTS_DEFAULT: u32 = 10;
/// The shortest and the longest backoff before the second attempt.
pub const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24);
/// The backoff of a queue that does not say, before the second attempt.
pub const BACKOFF_DEFAULT: Duration = Duration::from_secs(1);
/// What the backoff of a queue that does not say may grow to.
pub const BACKOFF_CAP_DEFAULT: Duration = Duration::from_hours(1);
/// How many delays a queue may list instead of a backoff.
pub const DELAYS: RangeInclusive<u32> = 1..=100;
/// The longest that a backoff may grow to.
pub const BACKOFF_CAP_MAX: Duration = Duration::from_hours(365 * 24);
/// The least and the most that a queue's leaf may hold before it rotates, in bytes.
pub const ROTATE_BYTES: RangeInclusive<u64> = 8 << 10..=1 << 40;
/// What a leaf of a queue that does not say holds before it rotates, in bytes.
pub const ROTATE_BYTES_DEFAULT: u64 = 64 << 20;
/// The shortest and the longest age of a leaf before it may rotate.
pub const ROTATE_AGE: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_hours(24);
/// The age of a leaf before it may rotate, of a queue that does not say.
pub const ROTATE_AGE_DEFAULT: Duration = Duration::from_mins(1);
/// The shortest and the longest time for which a queue may keep settled messages.
pub const KEEP: RangeInclusive<Duration> =
    Duration::from_mins(1)..=Duration::from_hours(3_650 * 24);
/// The shortest and the longest time for which a queue takes a unique key at least.
pub const UNIQUE_WINDOW: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(365 * 24);
/// The fewest and the most messages that a queue may let be in flight at once, over all hosts.
pub const FLEET_CONCURRENCY: RangeInclusive<u32> = 1..=10_000;
/// The fewest and the most messages that a queue may let start in its rate's time.
pub const RATE_COUNT: RangeInclusive<u32> = 1..=1_000_000;
/// The shortest and the longest time of a queue's rate.
pub const RATE_INTERVAL: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_hours(365 * 24);
/// The fewest and the most messages that a queue may let start at once.
pub const RATE_BURST: RangeInclusive<u32> = 1..=1_000_000;
/// The shortest and the longest time after which a new message is delivered, or expires.
pub const DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(30 * 365 * 24);
/// The shortest and the longest time between two looks of a host for messages.
pub const POLL: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24);
/// The shortest and the longest time that an upgrade waits for a lock in one try.
pub const LOCK_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_hours(1);
/// The largest component that is accepted, in bytes.
pub const COMPONENT_BYTES_MAX: u64 = 64 << 20;
/// The largest result of a message, in bytes.
pub const RESULT_BYTES_MAX: usize = 64 << 10;
/// Longest error text that is kept of an attempt, in bytes.
pub const ERROR_BYTES_MAX: usize = 2_000;

/// A value that is outside of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value} is out of range: use {least} to {most}")]
pub struct OutOfRange {
    what: &'static str,
    value: String,
    least: String,
    most: String,
}

/// Refuses a `value` outside of its range; `show` writes it as people do.
fn within<T: PartialOrd + Copy>(
    what: &'static str,
    value: T,
    range: &RangeInclusive<T>,
    show: impl Fn(T) -> String,
) -> Result<(), OutOfRange> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = (show(*range.start()), show(*range.end()));
    Err(OutOfRange { what, value: show(value), least, most })
}

/// Refuses a number of bytes outside of its range; `what` names it as its user does.
pub fn bytes_within(
    what: &'static str,
    bytes: u64,
    range: &RangeInclusive<u64>,
) -> Result<(), OutOfRange> {
    within(what, bytes, range, |bytes| ByteSize(bytes).to_string())
}

/// Refuses a time outside of its range; `what` names it as its user does.
pub fn duration_within(
    what: &'static str,
    duration: Duration,
    range: &RangeInclusive<Duration>,
) -> Result<(), OutOfRange> {
    within(what, duration, range, span)
}

/// humantime's months and years are of fractions of days.
fn span(duration: Duration) -> String {
    const DAY_S: u64 = 24 * 60 * 60;
    match (duration.as_secs() / DAY_S, duration.as_secs() % DAY_S) {
        (days @ 2.., 0) => format!("{days}days"),
        _ => humantime::format_duration(duration).to_string(),
    }
}

/// Refuses a count outside of its range; `what` names it as its user does.
pub fn count_within(
    what: &'static str,
    count: u32,
    range: &RangeInclusive<u32>,
) -> Result<(), OutOfRange> {
    within(what, count, range, |count| count.to_string())
}

impl Limits {
    /// Refuses what a deployment may not ask for.
    pub fn check(&self) -> Result<(), OutOfRange> {
        bytes_within("memory", self.memory_bytes, &MEMORY_BYTES)?;
        duration_within("timeout", self.timeout, &TIMEOUT)?;
        duration_within("cpu", self.cpu, &CPU)?;
        bytes_within("log-bytes", self.log_bytes, &LOG_BYTES)?;
        count_within("follow-ups", self.follow_ups, &FOLLOW_UPS)?;
        bytes_within("follow-up-bytes", self.follow_up_bytes, &FOLLOW_UP_BYTES)?;
        count_within("http-requests", self.http_requests, &HTTP_REQUESTS)?;
        bytes_within("http-bytes", self.http_bytes, &HTTP_BYTES)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_ranges_and_what_is_not_is_named() {
        assert_eq!(Limits::default().check(), Ok(()));
        assert!(CONCURRENCY.contains(&CONCURRENCY_DEFAULT));
        let short = Limits { timeout: Duration::from_millis(5), ..Limits::default() };
        let text = short.check().unwrap_err().to_string();
        assert_eq!(text, "timeout 5ms is out of range: use 10ms to 1h");
        let small = Limits { memory_bytes: 1000, ..Limits::default() };
        let text = small.check().unwrap_err().to_string();
        assert_eq!(text, "memory 1000 B is out of range: use 1.0 MiB to 4.0 GiB");
    }
}
