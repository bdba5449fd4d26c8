//! The tests that need the world: a real Postgres, the real binary, real components. One file per
//! behaviour; `harness` has what they share.

mod harness;

mod cli;
mod dead;
mod deploy;
mod embedded;
mod enqueue;
mod migrate;
mod queues;
mod sandbox;
mod schema;
mod status;
mod tidy;
