//! What everything else speaks of: ids, names, messages, outcomes, limits, and the decisions about
//! them. No I/O and no clock.

pub mod clock;
pub mod cron;
pub mod diagnosis;
pub mod digest;
pub mod failures;
pub mod filter;
pub mod format;
pub mod grant;
pub mod id;
pub mod incident;
pub mod lane;
pub mod limits;
pub mod liveness;
pub mod memory_gauge;
pub mod message;
pub mod name;
pub mod outcome;
pub mod progress;
pub mod queue_limits;
pub mod retry;
pub mod secret;
pub mod settlement;
pub mod unique;
