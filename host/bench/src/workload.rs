//! What is measured: one workload a file.

pub(crate) mod baseline;
pub(crate) mod drain;
pub(crate) mod enqueue;
pub(crate) mod latency;
pub(crate) mod steady;
