//! The step "settle": what each open lease still has to settle, and in which order.
//!
//! 1. [`outcome_context`]: what decides on a message that has run, and writes its history.
//! 2. [`open_lease`]: one lease, its messages that run and its settlements that wait.
//! 3. [`open_leases`]: all of one handler.

pub(super) mod open_lease;
pub(super) mod open_leases;
pub(super) mod outcome_context;
