//! The benchmark's queue: its name and its settings.

use std::time::Duration;

use host_core::lane::Lanes;
use host_core::limits::{BACKOFF_CAP_DEFAULT, BACKOFF_DEFAULT};
use host_core::message::PayloadType;
use host_core::name::QueueName;
use host_core::queue_limits::QueueLimits;
use host_core::retry::{Backoff, RetryPolicy};
use host_queue::queues::NewQueue;

/// A name that nobody has.
pub(crate) fn queue_name() -> QueueName {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    format!("bench_{}", &unique[..8]).parse().expect("this is a name")
}

/// As `host queue create` makes one.
pub(crate) fn new_queue(name: &QueueName, wake_up: bool) -> NewQueue {
    NewQueue {
        name: name.clone(),
        payload_type: PayloadType::Jsonb,
        payload_bytes_max: 1 << 20,
        policy: RetryPolicy {
            max_attempts: 10,
            backoff: Backoff::Exponential { base: BACKOFF_DEFAULT, cap: BACKOFF_CAP_DEFAULT },
        },
        rotate_bytes: 64 << 20,
        rotate_age: Duration::from_mins(1),
        wake_up,
        lanes: Lanes::One,
        keep: None,
        unique: None,
        limits: QueueLimits::default(),
    }
}
