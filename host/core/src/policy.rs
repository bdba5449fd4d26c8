//! A queue's policy: its settings, what becomes of a message when its handler is done with it, how
//! much of the queue runs at once, and what its unique keys promise.

pub mod outcome;
pub mod queue_limits;
pub mod queue_settings;
pub mod retry;
pub mod unique;
