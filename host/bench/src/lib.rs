//! `host bench`: runs the real thing, hosts as processes of their own, on a queue of its own, and
//! measures it. It never judges a figure, but whether every message was delivered as often as it
//! should be.
//!
//! 1. [`options`]: what is asked for; [`report`]: the answer.
//! 2. `environment`: the queue, the hosts, and what is in their way.
//! 3. `workload`: what is measured. [`sweep`] runs one of them for many options.
//! 4. `checksum`: whether every message was delivered.

pub use self::error::BenchError;
use self::options::{Request, Workload};
use self::report::Report;

mod checksum;
mod environment;
mod error;
mod finish;
mod guest;
mod measure;
pub mod options;
mod payload;
mod produce;
pub mod report;
pub mod sweep;
mod workload;

/// Runs a benchmark. Whatever comes of it, its queue is removed and its hosts are ended.
///
/// # Errors
/// If there are no figures. A run that lost or doubled a message has them: see [`Report::lost`].
pub async fn run(request: Request<'_>) -> Result<Report, BenchError> {
    if request.options.workload == Workload::Sweep {
        sweep::run(request).await
    } else {
        Box::pin(measure::run(request)).await
    }
}
