//! The tests that need the world: a real Postgres, the real binary, real components. One file per
//! behaviour; `harness` has what they share.

mod harness;

mod bench;
mod cancel;
mod capabilities;
mod cli;
mod contained;
mod crash;
mod cron;
mod dead;
mod deploy;
mod deploy_under_load;
mod docs;
mod doctor;
mod embedded;
mod enqueue;
mod failover;
mod fan_out;
mod faults;
mod fencing;
mod injection;
mod migrate;
mod overload;
mod partial;
mod pause;
mod plans;
mod plugins;
mod priorities;
mod privileges;
mod promotion;
mod queues;
mod random;
mod readme;
mod replay;
mod restore;
mod retries;
mod rotation;
mod sandbox;
mod schema;
mod status;
mod take_over;
mod tidy;
mod tls;
mod wake;
mod windows;
