//! Limits of a queue: setting them. Keeping to them is the lease's own business.

use tokio_postgres::Client;

use crate::error::QueueError;
use host_core::clock::millis;
use host_core::name::QueueName;
use host_core::policy::queue_limits::QueueLimits;

/// Sets all limits of a queue at once.
pub async fn set(
    client: &Client,
    queue: &QueueName,
    limits: QueueLimits,
) -> Result<(), QueueError> {
    let fleet_concurrency = limits.fleet_concurrency.map(u32::cast_signed);
    let count = limits.rate.map(|rate| rate.count.cast_signed());
    let interval_ms = limits.rate.map(|rate| millis(rate.interval));
    let burst = limits.rate.map(|rate| rate.burst.cast_signed());
    let call = "SELECT host.set_limits($1, $2, $3, $4, $5)";
    let queue = queue.as_str();
    client.execute(call, &[&queue, &fleet_concurrency, &count, &interval_ms, &burst]).await?;
    Ok(())
}
