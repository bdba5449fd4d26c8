//! The workload "baseline": what the same server can do without a queue. COPY into a table of a
//! number and a payload, without an index, and reading it out to the client, payloads and all.
//! Every rate can be given as a share of it.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use crate::environment::Environment;
use crate::error::BenchError;
use crate::produce::{Counters, preload};
use crate::report::{Report, per, rounded};
use host_queue::bench;
use host_queue::bench::load::Producer;

/// Rows that are copied in before anything is measured.
const WARM_UP: u64 = 20_000;
/// Readings, of which the fastest counts: the first one writes hints to the pages.
const READINGS: usize = 3;

/// What the same server can do without a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Baseline {
    /// Rows copied in.
    rows: u64,
    /// Of them in a second.
    copy_in_per_second: f64,
    /// Rows read out in a second.
    read_out_per_second: f64,
    /// Write-ahead log of a row copied in.
    wal_bytes_per_message: Option<f64>,
}

impl Baseline {
    /// Adds it to a report, and the report's rate as a share of it.
    pub(crate) fn add_to(&self, report: &mut Report) {
        let rate = report.messages_per_second;
        let share = |of: f64| rate.map(|rate| rounded(rate / of));
        report.share_of_copy_in = share(self.copy_in_per_second);
        report.share_of_read_out = share(self.read_out_per_second);
        report.copy_in_per_second = Some(self.copy_in_per_second);
        report.read_out_per_second = Some(self.read_out_per_second);
        report.bare_wal_bytes_per_message = self.wal_bytes_per_message;
        report.messages = report.messages.or(Some(self.rows));
    }
}

/// Measures it.
pub(crate) async fn run(environment: &Environment<'_>) -> Result<Baseline, BenchError> {
    let rows = environment.options.messages;
    environment.queue.create_bare(&environment.client).await?;
    environment.show("baseline: copying in", 0, rows);
    copy(environment, WARM_UP).await?;
    environment.queue.empty_bare(&environment.client).await?;
    let before = bench::gauges(&environment.client).await?.wal_bytes;
    let copy_in_per_second = copy(environment, rows).await?;
    let wal_bytes = bench::gauges(&environment.client).await?.wal_bytes - before;
    environment.show("baseline: reading out", 0, rows);
    let mut read_out_per_second: f64 = 0.0;
    for _ in 0..READINGS {
        read_out_per_second = read_out_per_second.max(read(environment, rows).await?);
    }
    environment.queue.empty_bare(&environment.client).await?;
    let wal_bytes_per_message = per(wal_bytes as f64, rows);
    Ok(Baseline { rows, copy_in_per_second, read_out_per_second, wal_bytes_per_message })
}

async fn copy(environment: &Environment<'_>, rows: u64) -> Result<f64, BenchError> {
    let producers = environment.producers(&environment.queue.baseline_table()).await?;
    // Numbers of their own: none of these is a message.
    let counters = Arc::new(Counters::default());
    let started = Instant::now();
    preload(producers, &counters, rows, environment.options.payload_bytes).await?;
    Ok(rounded(rows as f64 / started.elapsed().as_secs_f64()))
}

async fn read(environment: &Environment<'_>, rows: u64) -> Result<f64, BenchError> {
    let readers = environment.producers(&environment.queue.baseline_table()).await?;
    let pages = readers.first().map(Producer::pages).expect("there are producers").await?;
    let share = pages.div_ceil(readers.len() as u64);
    let mut tasks = JoinSet::new();
    let started = Instant::now();
    for (reader, n) in readers.into_iter().zip(0..) {
        tasks.spawn(async move { reader.read_out(n * share..(n + 1) * share).await });
    }
    let mut read = 0;
    while let Some(ended) = tasks.join_next().await {
        read += ended.map_err(|panic| BenchError::Io(panic.into()))??;
    }
    let seconds = started.elapsed().as_secs_f64();
    if read != rows {
        return Err(BenchError::NotRead { rows, read });
    }
    Ok(rounded(rows as f64 / seconds))
}
