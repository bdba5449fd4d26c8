//! What hosts do for a queue beside its messages: rotation, the schedule, and the look at queues at
//! rest.

pub mod rest;
pub mod rotate;
pub mod schedule;
