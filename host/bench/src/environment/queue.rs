//! The benchmark's queue: its name and its settings.

use host_core::name::QueueName;
use host_queue::admin::queues::NewQueue;

/// A name that nobody has.
pub(crate) fn queue_name() -> QueueName {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    format!("bench_{}", &unique[..8]).parse().expect("this is a name")
}

/// As `host queue create` makes one.
pub(crate) fn new_queue(name: &QueueName, wake_up: bool) -> NewQueue {
    NewQueue { wake_up, ..NewQueue::named(name.clone()) }
}
