//! The shape `drain`: all messages are there before the hosts may begin, and are worked off.

use std::time::Duration;

use super::BenchError;
use super::arena::Arena;
use super::finish::{Measured, finish};
use super::guest::Guest;
use super::report::{Report, per};

/// Far enough from any run.
const LONG: Duration = Duration::from_hours(24 * 365);

/// Runs it.
pub(crate) async fn run(arena: &mut Arena<'_>) -> Result<Report, BenchError> {
    let messages = arena.options.messages;
    arena.prepare(Guest::Noop, None).await?;
    arena.pause().await?;
    let before = arena.snapshot().await?;
    arena.enqueue("preloading", messages).await?;
    let loaded = arena.snapshot().await?;
    arena.resume().await?;
    arena.wait_settled("working off").await?;
    let after = arena.snapshot().await?;

    let until = loaded.gauges.now + LONG;
    let measured = Measured { before, began: loaded, ended: after, after, until, messages };
    let (mut report, deliveries) = finish(arena, &measured).await?;
    // From the first lease, since the hosts may have heard up to a beat later that they may begin.
    if let (Some(first), Some(last)) = (deliveries.first_leased, deliveries.last_settled) {
        let seconds = last.duration_since(first).unwrap_or_default().as_secs_f64();
        report.rate_over(deliveries.settled, seconds);
    }
    let enqueued = loaded.gauges.wal_bytes - before.gauges.wal_bytes;
    report.wal_bytes_per_message_enqueued = per(enqueued as f64, messages);
    Ok(report)
}
