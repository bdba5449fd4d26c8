//! The tests that need the world: a real Postgres, the real binary, real components. One file per
//! behaviour; `harness` has what they share.

mod harness;

mod cli;
mod embedded;
mod enqueue;
mod fencing;
mod migrate;
mod plans;
mod promotion;
mod queues;
mod random;
mod rotation;
mod sandbox;
mod schema;
mod take_over;
mod tidy;
mod windows;
