//! The end of a run: the hosts end, the account is closed, and what all shapes report is put
//! together.

use std::time::{Duration, SystemTime};

use crate::checksum::Checksum;
use crate::environment::{Environment, Snapshot};
use crate::error::BenchError;
use crate::options::Disturbance;
use crate::report::{Report, per, rounded};
use host_queue::bench::{self, Deliveries};

/// The moments that a run is measured between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Before the first message was enqueued.
    pub before: Snapshot,
    /// When the hosts could begin.
    pub began: Snapshot,
    /// When the measured time was over.
    pub ended: Snapshot,
    /// When all was settled.
    pub after: Snapshot,
    /// What is settled later is not of the measured time; by the server's clock.
    pub until: SystemTime,
    /// Enqueued from `before` to `after`; 0: what is counted in that time is not only theirs.
    pub messages: u64,
}

/// Ends the hosts and puts together what all shapes report.
pub(crate) async fn finish(
    environment: &mut Environment<'_>,
    measured: &Measured,
) -> Result<(Report, Deliveries), BenchError> {
    let Measured { before, began, ended, after, until, messages } = *measured;
    let host_peak_rss_bytes = environment.hosts.peak_rss_bytes();
    environment.stop_hosts().await?;
    let complaints = environment.hosts.complaints();
    let last = bench::gauges(&environment.client).await?;
    environment.show("accounting", 0, 0);
    environment.queue.finish_account(&environment.client).await?;
    let deliveries =
        environment.queue.deliveries(&environment.client, began.gauges.now, until).await?;

    let (count, sum, squares) = deliveries.checksum;
    let delivered = Checksum { count, sum, squares };
    let balance = environment.committed.balance(delivered);
    let spent = |from: Option<Duration>, to: Option<Duration>| {
        Some(rounded(to?.saturating_sub(from?).as_secs_f64()))
    };
    let host_cpu = spent(began.hosts_cpu, ended.hosts_cpu);
    let postgres_cpu = spent(began.postgres_cpu, ended.postgres_cpu);
    let per_million = |seconds: Option<f64>| per(seconds? * 1e6, deliveries.settled);
    let report = Report {
        messages: Some(deliveries.settled),
        committed: environment.committed.count,
        delivered: delivered.count,
        lost: balance.lost,
        duplicated: balance.duplicated,
        updates: Some(last.log_updates - before.gauges.log_updates),
        deletes: Some(last.log_deletes - before.gauges.log_deletes),
        dead_tuples: Some(environment.peaks.log_dead.max(last.log_dead)),
        control_changes: Some(last.control_changes - before.gauges.control_changes),
        control_dead_tuples: Some(
            environment.peaks.control_dead.max(last.control_dead) - before.gauges.control_dead,
        ),
        catalog_dead_tuples: Some(
            environment.peaks.catalog_dead.max(last.catalog_dead) - before.gauges.catalog_dead,
        ),
        wal_bytes_per_message: per(
            (after.gauges.wal_bytes - before.gauges.wal_bytes) as f64,
            messages,
        ),
        commits_per_message: per((last.commits - before.gauges.commits) as f64, messages),
        messages_per_lease: per(deliveries.settled as f64, deliveries.leases),
        rotations: Some(after.generation - before.generation),
        disk_bytes_max: Some(environment.peaks.disk_bytes.max(after.disk_bytes)),
        host_peak_rss_bytes,
        host_cpu_seconds: host_cpu,
        host_cpu_seconds_per_million: per_million(host_cpu),
        postgres_cpu_seconds: postgres_cpu,
        postgres_cpu_seconds_per_million: per_million(postgres_cpu),
        producer_cpu_seconds: spent(began.own_cpu, ended.own_cpu),
        complaints,
        ..asked_for(environment).await?
    };
    Ok((report, deliveries))
}

/// What was asked for, and where it ran; no figures yet.
pub(crate) async fn asked_for(environment: &Environment<'_>) -> Result<Report, BenchError> {
    let options = environment.options;
    Ok(Report {
        workload: options.workload.name(),
        producers: options.producers,
        hosts: options.hosts,
        isolation: options.isolation.name(),
        payload_bytes: options.payload_bytes,
        batch: options.batch,
        rate: options.rate,
        waiting_before: options.waiting,
        leased_before: options.leased,
        settled_before: options.settled,
        scheduled_before: options.scheduled,
        synchronous_commit: options.synchronous_commit,
        wake_up: options.wake_up,
        interference: options.interference.iter().copied().map(Disturbance::name).collect(),
        postgres: bench::server_version(&environment.client).await?,
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        ..Report::default()
    })
}
