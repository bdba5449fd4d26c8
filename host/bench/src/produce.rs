//! The producers of a benchmark: tasks that insert, each on a connection of its own, and add up
//! what they committed. Numbers are given out once, whoever takes them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};

use crate::checksum::Checksum;
use crate::error::BenchError;
use crate::payload::payload;
use host_queue::bench::load::Producer;

/// Rows of one COPY.
const COPY_ROWS: u64 = 20_000;
/// How often a producer that has to wait looks again.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Shared by the producers of a run and those who watch them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// The next number that no message has.
    next: AtomicU64,
    /// Messages committed.
    pub committed: AtomicU64,
    /// Messages settled, as far as is known.
    pub settled: AtomicU64,
}

/// What producers are to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Rows of one statement.
    pub batch: u32,
    /// Which is a COPY, not an INSERT.
    pub by_copy: bool,
    /// Messages a second, of all producers together.
    pub rate: Option<f64>,
    /// They wait while more messages than this do.
    pub backlog_max: u64,
    /// Of each message.
    pub payload_bytes: usize,
    /// The first number, and when it is due.
    pub start: (u64, Instant),
    /// When they end.
    pub until: Instant,
}

impl Counters {
    /// The next number that no message has.
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Relaxed)
    }

    /// Numbers that nobody else has.
    pub(crate) fn take(&self, count: u64) -> Range<u64> {
        let first = self.next.fetch_add(count, Relaxed);
        first..first + count
    }
}

/// Enqueues so many messages by COPY, and returns what they add up to.
pub(crate) async fn preload(
    producers: Vec<Producer>,
    counters: &Arc<Counters>,
    messages: u64,
    payload_bytes: usize,
) -> Result<Checksum, BenchError> {
    let mut tasks = JoinSet::new();
    let left = Arc::new(AtomicU64::new(messages));
    for mut producer in producers {
        let (counters, left) = (counters.clone(), left.clone());
        tasks.spawn(async move {
            let mut checksum = Checksum::default();
            loop {
                let take = |left: u64| Some(left.saturating_sub(COPY_ROWS));
                let before = left.fetch_update(Relaxed, Relaxed, take).unwrap_or_default();
                let numbers = counters.take(before.min(COPY_ROWS));
                if numbers.is_empty() {
                    return Ok::<_, BenchError>(checksum);
                }
                producer.copy(numbers.clone().map(|n| payload(n, payload_bytes))).await?;
                counters.committed.fetch_add(numbers.end - numbers.start, Relaxed);
                checksum.add(numbers);
            }
        });
    }
    total(tasks).await
}

/// Inserts until the time is over.
pub(crate) async fn insert(
    producer: &mut Producer,
    counters: &Counters,
    load: Load,
) -> Result<Checksum, BenchError> {
    let mut checksum = Checksum::default();
    while Instant::now() < load.until {
        let settled = counters.settled.load(Relaxed);
        if counters.committed.load(Relaxed).saturating_sub(settled) > load.backlog_max {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        let numbers = counters.take(load.batch.into());
        if let Some(rate) = load.rate {
            let (first, at) = load.start;
            let due = at + Duration::from_secs_f64((numbers.start - first) as f64 / rate);
            tokio::time::sleep_until(due.min(load.until).into()).await;
            if due >= load.until {
                break;
            }
        }
        let rows = numbers.clone().map(|n| payload(n, load.payload_bytes));
        if load.by_copy {
            producer.copy(rows).await?;
        } else {
            producer.insert(&rows.collect::<Vec<_>>()).await?;
        }
        counters.committed.fetch_add(load.batch.into(), Relaxed);
        checksum.add(numbers);
    }
    Ok(checksum)
}

/// Waits for producers, and adds up what they committed.
pub(crate) async fn total(
    mut tasks: JoinSet<Result<Checksum, BenchError>>,
) -> Result<Checksum, BenchError> {
    let mut checksum = Checksum::default();
    while let Some(producer) = tasks.join_next().await {
        checksum.merge(ended(producer)?);
    }
    Ok(checksum)
}

/// What a producer that has ended committed.
pub(crate) fn ended(
    producer: Result<Result<Checksum, BenchError>, JoinError>,
) -> Result<Checksum, BenchError> {
    producer.map_err(|panic| BenchError::Io(panic.into()))?
}
