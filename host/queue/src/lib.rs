//! Everything that is said to Postgres, and the only crate that names its packages. Never runs a
//! handler, and never decides what becomes of a message.

pub mod bench;
pub mod catalog;
pub mod connect;
pub mod constants;
pub mod cron;
pub mod dead;
pub mod deployments;
pub mod doctor;
pub mod error;
pub mod exchange;
pub mod failing;
mod fetch;
mod granted;
pub mod inspect;
mod json;
mod lanes;
pub mod lease;
pub mod limits;
pub mod message;
pub mod migrate;
pub mod pooler;
pub mod producer;
pub mod queues;
pub mod rest;
pub mod restore;
pub mod rotate;
pub mod schedule;
pub mod secrets;
pub mod session;
mod settle;
pub mod shape;
pub mod statements;
pub mod take_over;
pub mod unique;
