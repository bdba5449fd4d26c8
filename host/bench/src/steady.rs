//! The shape `steady`: producers and hosts work at the same time, for a given time.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::BenchError;
use super::arena::Arena;
use super::finish::{Measured, finish};
use super::guest::Guest;
use super::produce::{self, Load};
use super::report::{Report, rounded};

/// Between two looks; each costs the server some milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Intervals that a run's rates are given for, at most.
const INTERVALS_MAX: u64 = 60;
/// What the first and the last rate are taken over, at most.
const END_SECONDS_MAX: u64 = 60;

/// Runs it.
pub(crate) async fn run(arena: &mut Arena<'_>) -> Result<Report, BenchError> {
    let options = arena.options;
    arena.prepare(Guest::Noop, None).await?;
    let producers = arena.producers(&arena.table()).await?;
    let warm = arena.committed.count;
    let began = arena.snapshot().await?;
    arena.resume().await?;
    let started = Instant::now();
    let until = started + options.duration;
    let load = Load {
        batch: options.batch,
        by_copy: false,
        rate: options.rate,
        backlog_max: options.backlog_max + options.waiting + options.leased,
        payload_bytes: options.payload_bytes,
        start: (arena.counters.next(), started),
        until,
    };
    let mut tasks = JoinSet::new();
    for mut producer in producers {
        let counters = arena.counters.clone();
        tasks.spawn(async move { produce::insert(&mut producer, &counters, load).await });
    }
    let seconds = options.duration.as_secs();
    while Instant::now() < until {
        let next = (Instant::now() + LOOK_EVERY).min(until);
        arena.look().await?;
        arena.show("producing and handling", started.elapsed().as_secs(), seconds);
        while let Some(ended) = tasks.try_join_next() {
            arena.committed.merge(produce::ended(ended)?);
        }
        tokio::time::sleep_until(next.into()).await;
    }
    let ended = arena.snapshot().await?;
    let backlog = arena.backlog().await?;
    let committed = produce::total(tasks).await?;
    arena.committed.merge(committed);
    arena.wait_settled("working off the rest").await?;
    let after = arena.snapshot().await?;

    let messages = options.accountable(arena.committed.count - warm);
    let until = began.gauges.now + options.duration;
    let measured = Measured { before: began, began, ended, after, until, messages };
    let (mut report, deliveries) = finish(arena, &measured).await?;
    report.rate_over(deliveries.settled, options.duration.as_secs_f64());
    report.backlog = Some(backlog);
    rates(arena, &measured, &mut report).await?;
    Ok(report)
}

/// How the rate went over the run.
async fn rates(
    arena: &Arena<'_>,
    measured: &Measured,
    report: &mut Report,
) -> Result<(), BenchError> {
    let seconds = arena.options.duration.as_secs();
    let interval = seconds.div_ceil(INTERVALS_MAX).max(1);
    let count = (seconds / interval) as usize;
    let from = measured.began.gauges.now;
    let interval_s = interval as u32;
    let settled = arena.queue.settled_per_interval(&arena.client, from, interval_s, count).await?;
    let rates: Vec<f64> = settled.iter().map(|n| rounded(*n as f64 / interval as f64)).collect();
    let at_an_end = ((END_SECONDS_MAX / interval).max(1) as usize).min(count / 2);
    if at_an_end > 0 {
        let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len() as f64;
        let (first, last) = (mean(&rates[..at_an_end]), mean(&rates[rates.len() - at_an_end..]));
        report.first_rate = Some(rounded(first));
        report.last_rate = Some(rounded(last));
        report.last_to_first = (first > 0.0).then(|| rounded(last / first));
    }
    report.interval_seconds = Some(interval_s);
    report.rates = Some(rates);
    Ok(())
}
