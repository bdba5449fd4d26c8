//! A job server: messages in Postgres, handlers in WebAssembly. `ARCHITECTURE.md` has the map.

pub mod bench;
pub mod budget;
pub mod cli;
pub mod cron;
pub mod deploy;
pub mod diagnosis;
pub mod digest;
pub mod dispatch;
pub mod embedded;
pub mod filter;
pub mod grant;
pub mod id;
pub mod lane;
pub mod limits;
pub mod liveness;
pub mod message;
pub mod name;
pub mod outcome;
pub mod queue;
pub mod sandbox;
pub mod secret;
pub mod serve;
pub mod settlement;
pub mod throttle;
pub mod trouble;
pub mod unique;
