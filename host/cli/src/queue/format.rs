//! A queue's settings, and what is on it: in words and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{show, status};
use host_core::message::lane::Lanes;
use host_core::policy::queue_limits::{QueueLimits, Rate};
use host_core::policy::retry::Backoff;
use host_core::policy::unique::{OnDuplicate, Unique};
use host_queue::catalog::Queue;
use host_queue::inspect::QueueStatus;

/// The waits between attempts.
pub(crate) fn backoff(backoff: &Backoff) -> String {
    match backoff {
        Backoff::Exponential { base, cap } => {
            format!("{} to {}", show::duration(*base), show::duration(*cap))
        }
        Backoff::Delays(delays) => {
            delays.iter().map(|d| show::duration(*d)).collect::<Vec<_>>().join(", ")
        }
    }
}

/// Whether hosts lease from it.
pub(crate) const fn state(paused: bool) -> &'static str {
    if paused { "paused" } else { "active" }
}

/// Its settings, for machines.
pub(crate) fn settings_json(queue: &Queue) -> Value {
    let s = &queue.settings;
    let (base, cap, delays) = match &s.policy.backoff {
        Backoff::Exponential { base, cap } => (Some(millis(*base)), Some(millis(*cap)), None),
        Backoff::Delays(delays) => {
            (None, None, Some(delays.iter().map(|d| millis(*d)).collect::<Vec<_>>()))
        }
    };
    json!({
        "name": queue.name.as_str(),
        "payload_type": s.payload_type.sql_name(),
        "payload_bytes_max": s.payload_bytes_max,
        "max_attempts": s.policy.max_attempts,
        "backoff_ms": base,
        "backoff_cap_ms": cap,
        "delays_ms": delays,
        "rotate_bytes": s.rotate_bytes,
        "rotate_age_ms": millis(s.rotate_age),
        "keep_ms": s.keep.map(millis),
        "wake_up": s.wake_up,
        "order": s.lanes.to_string(),
        "paused": queue.paused,
        "unique_ms": s.unique.map(|u| millis(u.window)),
        "on_duplicate": s.unique.map(|u| u.on_duplicate.name()),
        "limits": limits_json(s.limits, s.lanes),
    })
}

const fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// All of it, for people.
pub(crate) fn described(queue: &Queue, status: &QueueStatus) -> String {
    let settings = &queue.settings;
    let handlers = if status.handlers.is_empty() {
        format!("none yet: host deploy --queue {} FILE.wasm", queue.name)
    } else {
        status::handlers_text(status)
    };
    let held = if status.held.is_empty() { "nothing".to_owned() } else { status.held.join("; ") };
    let payload = format!(
        "{}, at most {}",
        settings.payload_type.sql_name(),
        show::bytes(settings.payload_bytes_max)
    );
    let rotation =
        format!("{}, {}", show::bytes(settings.rotate_bytes), show::duration(settings.rotate_age));
    let messages = format!(
        "{} waiting, {} in flight, {} scheduled, {} dead, {} settled in the last minute",
        show::count(status.waiting),
        status.in_flight,
        show::count(status.scheduled),
        show::count(status.dead),
        status.last_minute
    );
    [
        ("Queue", format!("queue.{}, {}", queue.name, state(queue.paused))),
        ("Payload", payload),
        (
            "Attempts",
            format!(
                "{}, {} apart",
                settings.policy.max_attempts,
                backoff(&settings.policy.backoff)
            ),
        ),
        ("Order", settings.lanes.to_string()),
        ("Unique keys", keys_text(settings.unique)),
        ("Limits", limits_text(settings.limits, settings.lanes)),
        ("Handlers", handlers),
        ("Messages", messages),
        ("On disk", show::bytes(status.bytes)),
        ("Rotates at", rotation),
        ("Keeps", format!("settled messages {}", kept(settings.keep))),
        ("Held up by", held),
        ("Wakes hosts", wake_up_text(settings.wake_up).to_owned()),
    ]
    .map(|(what, value)| format!("{what:<12} {value}\n"))
    .concat()
}

/// How a queue takes unique keys, in words.
fn keys_text(unique: Option<Unique>) -> String {
    let Some(Unique { window, on_duplicate }) = unique else { return "none".to_owned() };
    let least = match window {
        Duration::ZERO => String::new(),
        window => format!("for {} and ", show::duration(window)),
    };
    let what = match on_duplicate {
        OnDuplicate::Drop => "dropped",
        OnDuplicate::Refuse => "refused",
    };
    format!("taken {least}until the message is settled, duplicates are {what}")
}

/// How hosts hear of new messages, in words.
const fn wake_up_text(wake_up: bool) -> &'static str {
    if wake_up { "by NOTIFY" } else { "by polling only" }
}

/// How long a queue keeps what is settled, in words.
fn kept(keep: Option<Duration>) -> String {
    match keep {
        Some(keep) => format!("for {}", show::duration(keep)),
        None => "until they are rotated away".to_owned(),
    }
}

/// A queue's limits, in words.
fn limits_text(limits: QueueLimits, lanes: Lanes) -> String {
    let fleet = limits.fleet_concurrency.map(|messages| format!("{messages} in flight"));
    let rate = limits.rate.map(|Rate { count, interval, burst }| {
        format!("{count} every {}, {burst} at once", show::duration(interval))
    });
    let all: Vec<String> = fleet.into_iter().chain(rate).collect();
    let each = if lanes.keyed().is_some() { ", for each key" } else { "" };
    if all.is_empty() { "none".to_owned() } else { all.join("; ") + each }
}

/// A queue's limits, for machines.
fn limits_json(limits: QueueLimits, lanes: Lanes) -> Value {
    json!({
        "per_key": lanes.keyed().is_some(),
        "fleet_concurrency": limits.fleet_concurrency,
        "rate": limits.rate.map(|rate| json!({
            "count": rate.count,
            "interval_ms": rate.interval.as_millis() as u64,
            "burst": rate.burst,
        })),
    })
}
