//! What differs between a queue as it is and as somebody wants it. Never changes one.

use std::time::Duration;

use super::format::backoff;
use crate::show;
use host_core::policy::queue_settings::QueueSettings;

/// A setting that differs.
pub(crate) struct Difference {
    /// Named as the flag of `host queue create`.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) is: String,
    /// What is wanted.
    pub(crate) wanted: String,
}

/// Each setting and its value.
fn settings(settings: &QueueSettings) -> [(&'static str, String); 13] {
    let QueueSettings { policy, unique, limits, .. } = settings;
    let off = |text: Option<String>| text.unwrap_or_else(|| "off".to_owned());
    let time = |time: Option<Duration>| off(time.map(show::duration));
    [
        ("payload", settings.payload_type.sql_name().to_owned()),
        ("max-bytes", show::bytes(settings.payload_bytes_max)),
        ("max-attempts", policy.max_attempts.to_string()),
        ("backoff", backoff(&policy.backoff)),
        ("rotate-size", show::bytes(settings.rotate_bytes)),
        ("rotate-age", show::duration(settings.rotate_age)),
        ("keep", time(settings.keep)),
        ("wake-up", if settings.wake_up { "on" } else { "off" }.to_owned()),
        ("order", settings.lanes.to_string()),
        ("unique", time(unique.map(|u| u.window))),
        ("on-duplicate", off(unique.map(|u| u.on_duplicate.name().to_owned()))),
        ("fleet-concurrency", off(limits.fleet_concurrency.map(|n| n.to_string()))),
        (
            "rate",
            off(limits.rate.map(|rate| {
                format!("{}/{}, burst {}", rate.count, show::duration(rate.interval), rate.burst)
            })),
        ),
    ]
}

/// The settings that `is` has otherwise than `wanted`.
pub(crate) fn differences(is: &QueueSettings, wanted: &QueueSettings) -> Vec<Difference> {
    let pairs = settings(is).into_iter().zip(settings(wanted));
    pairs
        .filter(|(is, wanted)| is != wanted)
        .map(|((name, is), (_, wanted))| Difference { name, is, wanted })
        .collect()
}

impl Difference {
    /// Whether it is made with the queue, and stays.
    pub(crate) fn is_fixed(&self) -> bool {
        ["payload", "order"].contains(&self.name)
    }

    /// For a queue that should not differ: "max-attempts is 10, not 5".
    pub(crate) fn phrase(&self) -> String {
        format!("{} is {}, not {}", self.name, self.is, self.wanted)
    }
}

/// One line for each: what is wanted.
pub(crate) fn values(differences: &[Difference]) -> Vec<String> {
    let width = differences.iter().map(|d| d.name.len()).max().unwrap_or_default();
    differences.iter().map(|d| format!("{:<width$}  {}", d.name, d.wanted)).collect()
}

/// One line for each: what it is and what it becomes.
pub(crate) fn lines(differences: &[Difference]) -> Vec<String> {
    let width = differences.iter().map(|d| d.name.len()).max().unwrap_or_default();
    let line = |d: &Difference| format!("{:<width$}  {} -> {}", d.name, d.is, d.wanted);
    differences.iter().map(line).collect()
}
