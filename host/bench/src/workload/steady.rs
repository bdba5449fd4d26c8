//! The workload `steady`: producers and hosts work at the same time, for a given time.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::environment::Environment;
use crate::error::BenchError;
use crate::finish::{Measured, finish};
use crate::guest::Guest;
use crate::produce::{self, Load};
use crate::report::{Report, rounded};

/// Between two looks; each costs the server some milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Intervals that a run's rates are given for, at most.
const INTERVALS_MAX: u64 = 60;
/// What the first and the last rate are taken over, at most.
const END_SECONDS_MAX: u64 = 60;

/// Runs it.
pub(crate) async fn run(environment: &mut Environment<'_>) -> Result<Report, BenchError> {
    let options = environment.options;
    environment.prepare(Guest::Noop, None).await?;
    let producers = environment.producers(&environment.table()).await?;
    let warm = environment.committed.count;
    let began = environment.snapshot().await?;
    environment.resume().await?;
    let started = Instant::now();
    let until = started + options.duration;
    let load = Load {
        batch: options.batch,
        by_copy: false,
        rate: options.rate,
        backlog_max: options.backlog_max + options.waiting + options.leased,
        payload_bytes: options.payload_bytes,
        start: (environment.counters.next(), started),
        until,
    };
    let mut tasks = JoinSet::new();
    for mut producer in producers {
        let counters = environment.counters.clone();
        tasks.spawn(async move { produce::insert(&mut producer, &counters, load).await });
    }
    let seconds = options.duration.as_secs();
    while Instant::now() < until {
        let next = (Instant::now() + LOOK_EVERY).min(until);
        environment.look().await?;
        environment.show("producing and handling", started.elapsed().as_secs(), seconds);
        while let Some(ended) = tasks.try_join_next() {
            environment.committed.merge(produce::ended(ended)?);
        }
        tokio::time::sleep_until(next.into()).await;
    }
    let ended = environment.snapshot().await?;
    let backlog = environment.backlog().await?;
    let committed = produce::total(tasks).await?;
    environment.committed.merge(committed);
    environment.wait_settled("working off the rest").await?;
    let after = environment.snapshot().await?;

    let messages = options.accountable(environment.committed.count - warm);
    let until = began.gauges.now + options.duration;
    let measured = Measured { before: began, began, ended, after, until, messages };
    let (mut report, deliveries) = finish(environment, &measured).await?;
    report.rate_over(deliveries.settled, options.duration.as_secs_f64());
    report.backlog = Some(backlog);
    rates(environment, &measured, &mut report).await?;
    Ok(report)
}

/// How the rate went over the run.
async fn rates(
    environment: &Environment<'_>,
    measured: &Measured,
    report: &mut Report,
) -> Result<(), BenchError> {
    let seconds = environment.options.duration.as_secs();
    let interval = seconds.div_ceil(INTERVALS_MAX).max(1);
    let count = (seconds / interval) as usize;
    let from = measured.began.gauges.now;
    let interval_s = interval as u32;
    let settled = environment
        .queue
        .settled_per_interval(&environment.client, from, interval_s, count)
        .await?;
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
