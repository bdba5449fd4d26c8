//! What differs between a queue as it is and as somebody wants it. Never changes one.

use std::time::Duration;

use super::format::backoff;
use crate::show;
use host_queue::admin::queues::NewQueue;

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
fn settings(queue: &NewQueue) -> [(&'static str, String); 13] {
    let NewQueue { policy, unique, limits, .. } = queue;
    let off = |text: Option<String>| text.unwrap_or_else(|| "off".to_owned());
    let time = |time: Option<Duration>| off(time.map(show::duration));
    [
        ("payload", queue.payload_type.sql_name().to_owned()),
        ("max-bytes", show::bytes(queue.payload_bytes_max)),
        ("max-attempts", policy.max_attempts.to_string()),
        ("backoff", backoff(&policy.backoff)),
        ("rotate-size", show::bytes(queue.rotate_bytes)),
        ("rotate-age", show::duration(queue.rotate_age)),
        ("keep", time(queue.keep)),
        ("wake-up", if queue.wake_up { "on" } else { "off" }.to_owned()),
        ("order", queue.lanes.to_string()),
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
pub(crate) fn differences(is: &NewQueue, wanted: &NewQueue) -> Vec<Difference> {
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
