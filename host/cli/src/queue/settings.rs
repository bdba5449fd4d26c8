//! The settings that `host queue create` and `host queue set` have in common, as the command line
//! has them.

use std::str::FromStr;

use bytesize::ByteSize;
use clap::Args;

use crate::error::CommandError;
use host_core::limits::{BACKOFF_CAP_DEFAULT, BACKOFF_DEFAULT};
use host_core::policy::queue_limits::{PerInterval, QueueLimits, Rate};
use host_core::policy::queue_settings::QueueSettings;
use host_core::policy::retry::{Backoff, RetryPolicy};
use host_core::policy::unique::{OnDuplicate, Unique};

/// The flags of all of these.
pub(super) const CHANGES: [&str; 13] = [
    "max_bytes",
    "max_attempts",
    "backoff",
    "backoff_cap",
    "delays",
    "rotate_size",
    "rotate_age",
    "keep",
    "unique",
    "on_duplicate",
    "fleet_concurrency",
    "rate",
    "burst",
];

/// Settings that are a value each.
#[derive(Debug, Args)]
pub(super) struct SettingArgs {
    /// The largest payload it takes, at most 64MiB. A new queue: 1MiB
    #[arg(long, value_name = "SIZE")]
    max_bytes: Option<ByteSize>,
    /// Attempts before a message becomes a dead letter, the first included. A new queue: 10
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// The wait before the second attempt; it doubles with each further one. A new queue: 1s
    #[arg(long, value_name = "TIME")]
    backoff: Option<humantime::Duration>,
    /// The longest wait between attempts. A new queue: 1h
    #[arg(long, value_name = "TIME")]
    backoff_cap: Option<humantime::Duration>,
    /// The waits between attempts, in order, instead of a backoff; the last one repeats
    #[arg(long, value_name = "TIME,…", value_delimiter = ',', conflicts_with_all = ["backoff", "backoff_cap"])]
    delays: Vec<humantime::Duration>,
    /// Bytes after which a new partition begins, but not before --rotate-age. A new queue: 64MiB
    #[arg(long, value_name = "SIZE")]
    rotate_size: Option<ByteSize>,
    /// The shortest time that a partition takes messages. A new queue: 1m
    #[arg(long, value_name = "TIME")]
    rotate_age: Option<humantime::Duration>,
    /// Keep messages readable that are settled from now on, for this long: 1m to 3650days. Or off,
    /// which also forgets those kept so far. A new queue: off
    #[arg(long, value_name = "TIME", value_parser = or_off::<humantime::Duration>)]
    keep: Option<OrOff<humantime::Duration>>,
}

impl SettingArgs {
    /// What was `before`, changed as the flags say.
    pub(super) fn resolve(&self, before: &QueueSettings) -> QueueSettings {
        let mut queue = before.clone();
        queue.payload_bytes_max = self.max_bytes.map_or(queue.payload_bytes_max, |b| b.as_u64());
        queue.rotate_bytes = self.rotate_size.map_or(queue.rotate_bytes, |b| b.as_u64());
        queue.rotate_age = self.rotate_age.map_or(queue.rotate_age, Into::into);
        queue.keep = self.keep.map_or(queue.keep, |keep| keep.0.map(Into::into));
        queue.policy = RetryPolicy {
            max_attempts: self.max_attempts.unwrap_or(before.policy.max_attempts),
            backoff: self.backoff_of(&before.policy.backoff),
        };
        queue
    }

    fn backoff_of(&self, before: &Backoff) -> Backoff {
        if !self.delays.is_empty() {
            return Backoff::Delays(self.delays.iter().map(|d| (*d).into()).collect());
        }
        if self.backoff.is_none() && self.backoff_cap.is_none() {
            return before.clone();
        }
        let (base, cap) = match before {
            Backoff::Exponential { base, cap } => (*base, *cap),
            Backoff::Delays(_) => (BACKOFF_DEFAULT, BACKOFF_CAP_DEFAULT),
        };
        Backoff::Exponential {
            base: self.backoff.map_or(base, Into::into),
            cap: self.backoff_cap.map_or(cap, Into::into),
        }
    }
}

/// Unique keys, as the command line has them.
#[derive(Debug, Args)]
pub(super) struct UniqueArgs {
    /// Accept a unique_key. A message holds its key for this time, and until it is settled. Or off
    #[arg(long, value_name = "TIME", value_parser = or_off::<humantime::Duration>)]
    unique: Option<OrOff<humantime::Duration>>,
    /// What happens to a message whose key is taken: drop it, or refuse its INSERT
    #[arg(long, value_name = "WHAT", value_parser = on_duplicate())]
    on_duplicate: Option<String>,
}

/// Limits, as the command line has them.
#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    /// Messages in flight at once on all hosts, for each handler; or off
    #[arg(long, value_name = "N", value_parser = or_off::<u32>)]
    fleet_concurrency: Option<OrOff<u32>>,
    /// Messages started in a time on all hosts, for each handler, such as 100/1s; or off
    #[arg(long, value_name = "N/TIME", value_parser = or_off::<PerInterval>)]
    rate: Option<OrOff<PerInterval>>,
    /// Messages that may start at once after a pause [default: the number in --rate]
    #[arg(long, value_name = "N")]
    burst: Option<u32>,
}

/// A setting, or `None`: off.
#[derive(Clone, Copy, Debug)]
pub(super) struct OrOff<T>(pub(super) Option<T>);

fn or_off<T: FromStr>(text: &str) -> Result<OrOff<T>, T::Err> {
    if text == "off" { Ok(OrOff(None)) } else { text.parse().map(|value| OrOff(Some(value))) }
}

fn on_duplicate() -> clap::builder::PossibleValuesParser {
    OnDuplicate::ALL.map(OnDuplicate::name).into()
}

impl UniqueArgs {
    /// What was `before`, changed as the flags say.
    pub(super) fn resolve(&self, before: Option<Unique>) -> Result<Option<Unique>, CommandError> {
        let window =
            self.unique.map_or(before.map(|u| u.window), |window| window.0.map(Into::into));
        let given = self.on_duplicate.as_deref().and_then(OnDuplicate::from_name);
        let on_duplicate = given.or(before.map(|u| u.on_duplicate)).unwrap_or_default();
        if window.is_none() && given.is_some() {
            return Err(CommandError::usage(
                "--on-duplicate is for a queue with unique keys: add --unique TIME",
            ));
        }
        let unique = window.map(|window| Unique { window, on_duplicate });
        unique
            .as_ref()
            .map_or(Ok(()), Unique::check)
            .map_err(|error| CommandError::usage(error.to_string()))?;
        Ok(unique)
    }
}

impl LimitArgs {
    /// What was `before`, changed as the flags say.
    pub(super) fn resolve(&self, before: QueueLimits) -> Result<QueueLimits, CommandError> {
        let mut limits = before;
        if let Some(OrOff(messages)) = self.fleet_concurrency {
            limits.fleet_concurrency = messages;
        }
        if let Some(OrOff(rate)) = self.rate {
            limits.rate =
                rate.map(|PerInterval { count, interval }| Rate { count, interval, burst: count });
        }
        match (self.burst, &mut limits.rate) {
            (Some(burst), Some(rate)) => rate.burst = burst,
            (Some(_), None) => {
                return Err(CommandError::usage(
                    "--burst is for a queue with a rate: add --rate N/TIME",
                ));
            }
            (None, _) => {}
        }
        limits.check().map_err(|error| CommandError::usage(error.to_string()))?;
        Ok(limits)
    }
}
