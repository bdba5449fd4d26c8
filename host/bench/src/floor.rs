//! The floor: what the same server can do without a queue. COPY into a table of a number and a payload,
//! without an index, and reading it out to the client, payloads and all. Every rate can be given as a share
//! of it.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::BenchError;
use super::arena::Arena;
use super::produce::{Counters, preload};
use super::report::{per, rounded};
use host_queue::bench;
use host_queue::bench::load::Producer;

/// Rows that are copied in before anything is measured.
const WARM_UP: u64 = 20_000;
/// Readings, of which the fastest counts: the first one writes hints to the pages.
const READINGS: usize = 3;

/// What the same server can do without a queue.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// Rows copied in.
    pub rows: u64,
    /// Of them in a second.
    pub copy_in_per_second: f64,
    /// Rows read out in a second.
    pub read_out_per_second: f64,
    /// Write-ahead log of a row copied in.
    pub wal_bytes_per_message: Option<f64>,
}

/// Measures it.
pub(crate) async fn run(arena: &Arena<'_>) -> Result<Floor, BenchError> {
    let rows = arena.options.messages;
    arena.queue.create_bare(&arena.client).await?;
    arena.show("floor: copying in", 0, rows);
    copy(arena, WARM_UP).await?;
    arena.queue.empty_bare(&arena.client).await?;
    let before = bench::gauges(&arena.client).await?.wal_bytes;
    let copy_in_per_second = copy(arena, rows).await?;
    let wal_bytes = bench::gauges(&arena.client).await?.wal_bytes - before;
    arena.show("floor: reading out", 0, rows);
    let mut read_out_per_second: f64 = 0.0;
    for _ in 0..READINGS {
        read_out_per_second = read_out_per_second.max(read(arena, rows).await?);
    }
    arena.queue.empty_bare(&arena.client).await?;
    let wal_bytes_per_message = per(wal_bytes as f64, rows);
    Ok(Floor { rows, copy_in_per_second, read_out_per_second, wal_bytes_per_message })
}

async fn copy(arena: &Arena<'_>, rows: u64) -> Result<f64, BenchError> {
    let producers = arena.producers(&arena.queue.floor_table()).await?;
    // Numbers of their own: none of these is a message.
    let counters = Arc::new(Counters::default());
    let started = Instant::now();
    preload(producers, &counters, rows, arena.options.payload_bytes).await?;
    Ok(rounded(rows as f64 / started.elapsed().as_secs_f64()))
}

async fn read(arena: &Arena<'_>, rows: u64) -> Result<f64, BenchError> {
    let readers = arena.producers(&arena.queue.floor_table()).await?;
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
