//! The shape `enqueue`: what an INSERT costs on a queue, beside what it costs on a bare table of the same
//! columns. Every variant gets short turns, one after the other, round after round, so that all meet the same
//! machine: the ratios mean something even where the rates do not.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::BenchError;
use super::arena::Arena;
use super::finish::{Measured, finish};
use super::guest::Guest;
use super::produce::{self, Counters, Load};
use super::report::{EnqueueRates, Report, rounded};
use super::sums::Sums;
use crate::queue::bench::load::Producer;

/// A turn is no longer than this.
const TURN_MAX: Duration = Duration::from_millis(250);
/// Rows of one COPY.
const COPY_ROWS: u32 = 5_000;
/// So many messages wait for each second of a turn, when hosts are to have much to do: more than they can
/// do in it.
const BUSY_PER_SECOND: f64 = 300_000.0;

/// What goes on beside the producers.
const BESIDE: [Beside; 3] = [Beside::Nothing, Beside::Host, Beside::BusyHost];
/// Where the rows go.
const TARGETS: [Target; 3] = [Target::Bare, Target::Queue, Target::Quiet];
const TURNS_A_ROUND: u32 = 27;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// Hosts are there; the queue is paused.
    Nothing,
    /// Hosts work off what comes.
    Host,
    /// Hosts have more to do than they can.
    BusyHost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// The bare table.
    Bare,
    /// The queue.
    Queue,
    /// The queue, without its wake-up.
    Quiet,
}

/// How rows are inserted.
#[derive(Clone, Copy, Debug)]
struct Method {
    name: &'static str,
    batch: u32,
    by_copy: bool,
}

/// What the turns of one variant came to.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    rows: u64,
    time: Duration,
}

/// Producers of one table, and whose numbers they carry.
struct Side {
    producers: Vec<Producer>,
    counters: std::sync::Arc<Counters>,
}

/// Runs it.
pub async fn run(arena: &mut Arena<'_>) -> Result<Report, BenchError> {
    let options = arena.options;
    let methods = [
        Method { name: "single-row INSERT", batch: 1, by_copy: false },
        Method { name: "multi-row INSERT", batch: options.batch, by_copy: false },
        Method { name: "COPY", batch: COPY_ROWS, by_copy: true },
    ];
    if !options.floor {
        arena.queue.create_bare(&arena.client).await?;
    }
    arena.prepare(Guest::Noop, None).await?;
    let mut queue = Side {
        producers: arena.producers(&arena.table()).await?,
        counters: arena.counters.clone(),
    };
    let bare = arena.queue.bare_table();
    let mut bare =
        Side { producers: arena.producers(&bare).await?, counters: std::sync::Arc::default() };
    let began = arena.snapshot().await?;
    let (warm, started) = (arena.committed.count, Instant::now());
    let turn = TURN_MAX.min(options.duration / TURNS_A_ROUND);
    let mut taken = [[[Taken::default(); TARGETS.len()]; 3]; BESIDE.len()];
    for round in 0.. {
        if round > 0 && started.elapsed() >= options.duration {
            break;
        }
        for (beside, taken) in BESIDE.into_iter().zip(&mut taken) {
            match beside {
                Beside::Nothing => arena.pause().await?,
                Beside::Host => arena.resume().await?,
                Beside::BusyHost => {}
            }
            for (method, taken) in methods.iter().zip(taken) {
                for n in 0..TARGETS.len() {
                    // Another one first each time.
                    let n = (n + round) % TARGETS.len();
                    let side = if TARGETS[n] == Target::Bare { &mut bare } else { &mut queue };
                    make_ready(arena, beside, TARGETS[n], turn).await?;
                    arena.show(
                        method.name,
                        started.elapsed().as_secs(),
                        options.duration.as_secs(),
                    );
                    let (sums, time) = take_turn(side, method, options.payload_bytes, turn).await?;
                    if TARGETS[n] != Target::Bare {
                        arena.committed.merge(sums);
                    }
                    taken[n].rows += sums.count;
                    taken[n].time += time;
                }
            }
        }
        arena.queue.empty_bare(&arena.client).await?;
    }
    drop((queue, bare));
    arena.queue.set_wake_up(&arena.client, options.wake_up).await?;
    let ended = arena.snapshot().await?;
    arena.wait_settled("working off the rest").await?;
    let after = arena.snapshot().await?;
    let messages = arena.committed.count - warm;
    let until = after.gauges.now;
    let measured = Measured { before: began, began, ended, after, until, messages };
    let (report, _) = finish(arena, &measured).await?;
    let rates = BESIDE.into_iter().zip(taken).flat_map(|(beside, taken)| {
        let row = move |(method, taken): (&Method, _)| rates(beside, method, taken);
        methods.iter().zip(taken).map(row).collect::<Vec<_>>()
    });
    Ok(Report {
        enqueue: Some(rates.collect()),
        // Bare tables have their part in these.
        wal_bytes_per_message: None,
        commits_per_message: None,
        ..report
    })
}

/// Sees to what is to be so when a turn begins.
async fn make_ready(
    arena: &mut Arena<'_>,
    beside: Beside,
    target: Target,
    turn: Duration,
) -> Result<(), BenchError> {
    if target != Target::Bare {
        arena.queue.set_wake_up(&arena.client, target == Target::Queue).await?;
    }
    match beside {
        Beside::Nothing => {}
        Beside::Host => arena.wait_settled("working off the rest").await?,
        Beside::BusyHost => {
            let wanted = (turn.as_secs_f64() * BUSY_PER_SECOND) as u64;
            let missing = wanted.saturating_sub(arena.backlog().await?);
            if missing > 0 {
                arena.enqueue("giving the hosts much to do", missing).await?;
            }
        }
    }
    Ok(())
}

/// All producers of a table insert, until the turn is over.
async fn take_turn(
    side: &mut Side,
    method: &Method,
    payload_bytes: usize,
    turn: Duration,
) -> Result<(Sums, Duration), BenchError> {
    let mut tasks = JoinSet::new();
    let started = Instant::now();
    let load = Load {
        batch: method.batch,
        by_copy: method.by_copy,
        rate: None,
        backlog_max: u64::MAX,
        payload_bytes,
        start: (0, started),
        until: started + turn,
    };
    for mut producer in side.producers.drain(..) {
        let counters = side.counters.clone();
        tasks.spawn(async move {
            let sums = produce::insert(&mut producer, &counters, load).await;
            Ok::<_, BenchError>((producer, sums?))
        });
    }
    let mut all = Sums::default();
    while let Some(ended) = tasks.join_next().await {
        let (producer, sums) = ended.map_err(|panic| BenchError::Io(panic.into()))??;
        side.producers.push(producer);
        all.merge(sums);
    }
    Ok((all, started.elapsed()))
}

fn rates(beside: Beside, method: &Method, taken: [Taken; TARGETS.len()]) -> EnqueueRates {
    let [bare, queue, quiet] = taken.map(|taken| taken.rows as f64 / taken.time.as_secs_f64());
    EnqueueRates {
        beside: match beside {
            Beside::Nothing => "nothing",
            Beside::Host => "host",
            Beside::BusyHost => "busy host",
        },
        method: method.name,
        rows: method.batch,
        bare_per_second: rounded(bare),
        queue_per_second: rounded(queue),
        queue_without_wake_up_per_second: rounded(quiet),
        share_of_bare: rounded(queue / bare),
        share_of_without_wake_up: rounded(queue / quiet),
    }
}
