//! What everything else speaks of: ids, names, messages, outcomes, limits, and the decisions about
//! them. No I/O and no clock.

pub mod budget;
pub mod clock;
pub mod cron;
pub mod diagnosis;
pub mod digest;
pub mod filter;
pub mod grant;
pub mod id;
pub mod lane;
pub mod limits;
pub mod liveness;
pub mod message;
pub mod name;
pub mod outcome;
pub mod progress;
pub mod secret;
pub mod settlement;
pub mod throttle;
pub mod trouble;
pub mod unique;
pub mod words;
