//! The workload `latency`: messages are sent at given times, whatever becomes of those before (an
//! open loop, so that no stall hides how long others waited), and each is timed until its handler
//! begins. The handler writes a line to its host's log, and the time of that line is when it began.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use serde::Deserialize;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::checksum::Checksum;
use crate::environment::Environment;
use crate::environment::hosts::Mark;
use crate::error::BenchError;
use crate::finish::{Measured, finish};
use crate::guest::Guest;
use crate::payload::payload;
use crate::produce::Counters;
use crate::report::{Report, rounded};
use host_queue::bench::load::Producer;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What a message is sent at, unless told.
const RATE: f64 = 500.0;
/// Messages of one INSERT that are due later.
const PUT_OFF_ROWS: usize = 10_000;

/// What takes longer counts as this, in microseconds: an hour.
const LONGEST_US: u64 = 3_600_000_000;

/// A message that was committed.
#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u64,
    /// When it should have been sent.
    due: SystemTime,
    /// When its producer knew that it was; of one that is due later: when that is.
    committed: SystemTime,
}

/// When messages are due; shared by the producers.
type Due = Arc<Mutex<mpsc::UnboundedReceiver<SystemTime>>>;

/// Runs it.
pub(crate) async fn run(environment: &mut Environment<'_>) -> Result<Report, BenchError> {
    let (marks, mut marked) = mpsc::unbounded_channel();
    let options = environment.options;
    environment.prepare(Guest::Mark, Some(marks)).await?;
    let warm = environment.counters.committed.load(Relaxed);
    let producers = environment.producers(&environment.table()).await?;
    let began = environment.snapshot().await?;
    environment.resume().await?;
    let rate = options.rate.unwrap_or(RATE);
    let total = (options.duration.as_secs_f64() * rate).ceil().max(1.0) as u64;
    let mut tasks = JoinSet::new();
    if let Some(delay) = options.delay {
        let producer = producers.into_iter().next().expect("there are producers");
        let start = SystemTime::now() + delay;
        let numbers = environment.counters.take(total);
        tasks.spawn(put_off(producer, numbers, start, rate, options.payload_bytes));
    } else {
        let due = Arc::new(Mutex::new(clock(rate, total)?));
        for producer in producers {
            let (counters, due) = (environment.counters.clone(), due.clone());
            tasks.spawn(send(producer, counters, due, options.payload_bytes));
        }
    }
    let mut sent = Vec::new();
    loop {
        tokio::select! {
            joined = tasks.join_next() => match joined {
                Some(joined) => {
                    let part = joined.map_err(|panic| BenchError::Io(panic.into()))??;
                    sent.extend(part);
                }
                None => break,
            },
            () = tokio::time::sleep(LOOK_EVERY) => {
                let settled = environment.look().await?;
                environment.show("sending", settled.saturating_sub(warm), total);
            }
        }
    }
    let mut checksum = Checksum::default();
    for Sent { number, .. } in &sent {
        checksum.add(*number..number + 1);
    }
    environment.committed.merge(checksum);
    environment.counters.committed.fetch_add(checksum.count, Relaxed);
    let ended = environment.snapshot().await?;
    environment.wait_settled("waiting for the last").await?;
    let after = environment.snapshot().await?;

    let until = after.gauges.now;
    let messages = options.accountable(sent.len() as u64);
    let measured = Measured { before: began, began, ended, after, until, messages };
    let (mut report, _) = finish(environment, &measured).await?;
    let took = ended.gauges.now.duration_since(began.gauges.now).unwrap_or_default();
    report.rate_over(sent.len() as u64, took.as_secs_f64());
    report.rate = Some(rate);
    // The hosts have ended, and with them the channel.
    let mut starts = HashMap::new();
    while let Some(Mark { text, at }) = marked.recv().await {
        if let Ok(Numbered { n }) = serde_json::from_str(&text) {
            let start = starts.entry(n).or_insert(at);
            *start = at.min(*start);
        }
    }
    percentiles(&sent, &starts, &mut report);
    Ok(report)
}

/// The payload, as far as it matters here.
#[derive(Deserialize)]
struct Numbered {
    n: u64,
}

/// Says when a message is due, on a thread of its own: the runtime's timer knows only milliseconds.
fn clock(rate: f64, total: u64) -> Result<mpsc::UnboundedReceiver<SystemTime>, BenchError> {
    let (sender, due) = mpsc::unbounded_channel();
    let tick = move || {
        let (started, wall) = (Instant::now(), SystemTime::now());
        for i in 0..total {
            let offset = Duration::from_secs_f64(i as f64 / rate);
            std::thread::sleep((started + offset).saturating_duration_since(Instant::now()));
            if sender.send(wall + offset).is_err() {
                // The run was interrupted.
                return;
            }
        }
    };
    std::thread::Builder::new().name("bench-clock".into()).spawn(tick).map_err(BenchError::Io)?;
    Ok(due)
}

async fn send(
    mut producer: Producer,
    counters: Arc<Counters>,
    due: Due,
    payload_bytes: usize,
) -> Result<Vec<Sent>, BenchError> {
    let mut sent = Vec::new();
    loop {
        let next = due.lock().await.recv().await;
        let Some(due) = next else { return Ok(sent) };
        let number = counters.take(1).start;
        producer.insert(&[payload(number, payload_bytes)]).await?;
        sent.push(Sent { number, due, committed: SystemTime::now() });
    }
}

/// Enqueues all of them at once, and waits until the last is due.
async fn put_off(
    producer: Producer,
    numbers: Range<u64>,
    start: SystemTime,
    rate: f64,
    payload_bytes: usize,
) -> Result<Vec<Sent>, BenchError> {
    let first = numbers.start;
    let due = |number: u64| start + Duration::from_secs_f64((number - first) as f64 / rate);
    let sent: Vec<_> =
        numbers.map(|n| Sent { number: n, due: due(n), committed: due(n) }).collect();
    for some in sent.chunks(PUT_OFF_ROWS) {
        let payloads: Vec<_> = some.iter().map(|s| payload(s.number, payload_bytes)).collect();
        let due: Vec<_> = some.iter().map(|s| s.due).collect();
        producer.insert_due(&payloads, &due).await?;
    }
    if start < SystemTime::now() {
        return Err(BenchError::Late(start.elapsed().unwrap_or_default()));
    }
    let last = sent.last().map_or(start, |last| last.due);
    tokio::time::sleep(last.duration_since(SystemTime::now()).unwrap_or_default()).await;
    Ok(sent)
}

fn percentiles(sent: &[Sent], starts: &HashMap<u64, SystemTime>, report: &mut Report) {
    let histogram =
        || Histogram::<u64>::new_with_bounds(1, LONGEST_US, 3).expect("these bounds are");
    let (mut whole, mut handling, mut enqueuing) = (histogram(), histogram(), histogram());
    let mut unmarked = 0;
    let us = |from: SystemTime, to: SystemTime| {
        // The handler may begin before the producer has heard of the commit.
        to.duration_since(from).unwrap_or_default().as_micros() as u64
    };
    for Sent { number, due, committed } in sent {
        enqueuing.saturating_record(us(*due, *committed));
        if let Some(start) = starts.get(number) {
            whole.saturating_record(us(*due, *start));
            handling.saturating_record(us(*committed, *start));
        } else {
            unmarked += 1;
        }
    }
    let ms = |histogram: &Histogram<u64>, q| {
        (!histogram.is_empty()).then(|| rounded(histogram.value_at_quantile(q) as f64 / 1e3))
    };
    report.p50_ms = ms(&handling, 0.5);
    report.p99_ms = ms(&handling, 0.99);
    report.p999_ms = ms(&handling, 0.999);
    report.max_ms = ms(&handling, 1.0);
    report.due_to_start_p50_ms = ms(&whole, 0.5);
    report.due_to_start_p99_ms = ms(&whole, 0.99);
    report.enqueue_p50_ms = ms(&enqueuing, 0.5);
    report.enqueue_p99_ms = ms(&enqueuing, 0.99);
    if unmarked > 0 {
        let of = sent.len();
        report.complaints.push(format!(
            "when {unmarked} of {of} handlers began is not known: the times are those of the others"
        ));
    }
}
