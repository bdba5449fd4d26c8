//! One measurement, from the environment that it needs to the figures.

use crate::environment::Environment;
use crate::error::BenchError;
use crate::finish;
use crate::options::{Request, Workload};
use crate::report::Report;
use crate::workload::{baseline, drain, enqueue, latency, steady};

/// Makes an environment, measures in it, and removes it.
pub(crate) async fn run(request: Request<'_>) -> Result<Report, BenchError> {
    let mut environment = Environment::new(request).await?;
    let measured = tokio::select! {
        measured = Box::pin(measure(&mut environment)) => measured,
        () = request.stop.cancelled() => Err(BenchError::Interrupted),
    };
    let removed = environment.remove().await;
    let report = measured?;
    removed?;
    Ok(report)
}

async fn measure(environment: &mut Environment<'_>) -> Result<Report, BenchError> {
    let workload = environment.options.workload;
    let wants_baseline = environment.options.baseline || workload == Workload::Baseline;
    let baseline = if wants_baseline { Some(baseline::run(environment).await?) } else { None };
    let mut report = match workload {
        Workload::Drain => drain::run(environment).await?,
        Workload::Steady | Workload::Sweep => steady::run(environment).await?,
        Workload::Latency => latency::run(environment).await?,
        Workload::Enqueue => enqueue::run(environment).await?,
        Workload::Baseline => finish::asked_for(environment).await?,
    };
    if let Some(baseline) = baseline {
        baseline.add_to(&mut report);
    }
    Ok(report)
}
