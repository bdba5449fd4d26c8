//! The workload `drain`: all messages are there before the hosts may begin, and are worked off.

use std::time::Duration;

use crate::environment::Environment;
use crate::error::BenchError;
use crate::finish::{Measured, finish};
use crate::guest::Guest;
use crate::report::{Report, per};

/// Far enough from any run.
const LONG: Duration = Duration::from_hours(24 * 365);

/// Runs it.
pub(crate) async fn run(environment: &mut Environment<'_>) -> Result<Report, BenchError> {
    let messages = environment.options.messages;
    environment.prepare(Guest::Noop, None).await?;
    environment.pause().await?;
    let before = environment.snapshot().await?;
    environment.enqueue("preloading", messages).await?;
    let loaded = environment.snapshot().await?;
    environment.resume().await?;
    environment.wait_settled("working off").await?;
    let after = environment.snapshot().await?;

    let until = loaded.gauges.now + LONG;
    let measured = Measured { before, began: loaded, ended: after, after, until, messages };
    let (mut report, deliveries) = finish(environment, &measured).await?;
    // From the first lease, since the hosts may have heard up to a beat later that they may begin.
    if let (Some(first), Some(last)) = (deliveries.first_leased, deliveries.last_settled) {
        let seconds = last.duration_since(first).unwrap_or_default().as_secs_f64();
        report.rate_over(deliveries.settled, seconds);
    }
    let enqueued = loaded.gauges.wal_bytes - before.gauges.wal_bytes;
    report.wal_bytes_per_message_enqueued = per(enqueued as f64, messages);
    Ok(report)
}
