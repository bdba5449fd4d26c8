//! Everything that is said to Postgres, and the only crate that names its packages. Never runs a
//! handler, and never decides what becomes of a message.

pub mod admin;
pub mod bench;
pub mod catalog;
pub mod connect;
pub mod constants;
pub mod cron;
pub mod error;
pub mod inspect;
mod json;
pub mod lease;
pub mod maintenance;
pub mod migrate;
pub mod producer;
pub mod session;
mod settle;
pub mod statements;
