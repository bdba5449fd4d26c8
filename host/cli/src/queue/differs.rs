//! What differs between a queue as it is and as somebody wants it. Never changes one.

use super::format::backoff;
use super::set;
use crate::show;
use host_queue::queues::NewQueue;

/// A setting and its value, named as the flag of `host queue create`.
fn settings(queue: &NewQueue) -> [(&'static str, String); 10] {
    [
        ("payload", queue.payload_type.sql_name().to_owned()),
        ("max-bytes", show::bytes(queue.payload_bytes_max)),
        ("max-attempts", queue.policy.max_attempts.to_string()),
        ("backoff", backoff(&queue.policy.backoff)),
        (
            "rotation",
            format!("{}, {}", show::bytes(queue.rotate_bytes), show::duration(queue.rotate_age)),
        ),
        ("keep", set::kept(queue.keep)),
        ("wake-up", set::wake_up_text(queue.wake_up).to_owned()),
        ("order", queue.lanes.to_string()),
        ("unique keys", set::keys_text(queue.unique)),
        ("limits", set::limits_text(queue.limits, queue.lanes)),
    ]
}

/// What `is` has otherwise than `wanted`, one phrase each: "max-attempts is 10, not 5".
pub(super) fn differences(is: &NewQueue, wanted: &NewQueue) -> Vec<String> {
    let pairs = settings(is).into_iter().zip(settings(wanted));
    pairs
        .filter(|(is, wanted)| is != wanted)
        .map(|((name, is), (_, wanted))| format!("{name} is {is}, not {wanted}"))
        .collect()
}
