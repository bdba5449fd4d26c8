//! What everything else speaks of: ids, names, messages, outcomes, limits, and the decisions about
//! them. No I/O and no clock.

pub mod clock;
pub mod cron;
pub mod deployment;
pub mod diagnosis;
pub mod filter;
pub mod format;
pub mod health;
pub mod id;
pub mod limits;
pub mod memory_gauge;
pub mod message;
pub mod name;
pub mod policy;
pub mod settlement;
