//! The tests that need the world: a real Postgres, the real binary, real components. One file per
//! behaviour; `harness` has what they share.

mod harness;

mod cli;
mod contained;
mod crash;
mod dead;
mod deploy;
mod deploy_under_load;
mod embedded;
mod enqueue;
mod fencing;
mod migrate;
mod partial;
mod pause;
mod plans;
mod plugins;
mod promotion;
mod queues;
mod random;
mod readme;
mod replay;
mod rotation;
mod sandbox;
mod schema;
mod status;
mod take_over;
mod tidy;
mod wake;
mod windows;
