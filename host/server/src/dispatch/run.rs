//! The step "run": workers call the guest with the messages of a batch.
//!
//! 1. [`handler_version`]: a component that is compiled, and its warm sandboxes.
//! 2. [`batch`]: the messages of one lease; [`removal`]: those that an operator removes meanwhile.
//! 3. [`workers`] starts a [`worker`] for each slot. It makes one call after the other.
//! 4. [`backpressure`] stops new calls while too many follow-ups wait to be settled.
//! 5. [`long_calls`] moves calls that compute for long to the [`threads`] for them.

pub(super) mod backpressure;
pub(super) mod batch;
pub mod handler_version;
pub(super) mod long_calls;
mod removal;
pub mod threads;
mod worker;
pub(super) mod workers;
