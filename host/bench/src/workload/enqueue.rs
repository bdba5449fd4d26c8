//! The workload `enqueue`: what an INSERT costs on a queue, beside what it costs on a bare table of
//! the same columns. Every variant gets short turns, one after the other, round after round, so
//! that all meet the same machine: the ratios mean something even where the rates do not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::checksum::Checksum;
use crate::environment::Environment;
use crate::error::BenchError;
use crate::finish::{Measured, finish};
use crate::guest::Guest;
use crate::produce::{self, Counters, Load};
use crate::report::{EnqueueRates, Report, rounded};
use host_queue::bench::load::Producer;

/// A turn is no longer than this.
const TURN_MAX: Duration = Duration::from_millis(250);
/// Rows of one COPY.
const COPY_ROWS: u32 = 5_000;
/// So many messages wait for each second of a turn, when hosts are to have much to do: more than
/// they can do in it. A host that has done them would leave the bare table alone, and not the
/// queue.
const BUSY_PER_SECOND: f64 = 1_000_000.0;

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

/// By situation, method and target.
type AllTaken = [[[Taken; TARGETS.len()]; 3]; BESIDE.len()];

/// Producers of one table, and whose numbers they carry.
struct Side {
    producers: Vec<Producer>,
    counters: Arc<Counters>,
}

/// The producers of both tables, and what each turn is like.
struct Sides {
    queue: Side,
    bare: Side,
    methods: [Method; 3],
    payload_bytes: usize,
    turn: Duration,
}

/// Runs it.
pub(crate) async fn run(environment: &mut Environment<'_>) -> Result<Report, BenchError> {
    let options = environment.options;
    if !options.baseline {
        environment.queue.create_bare(&environment.client).await?;
    }
    environment.prepare(Guest::Noop, None).await?;
    let mut sides = Sides::new(environment).await?;
    let began = environment.snapshot().await?;
    let (warm, started) = (environment.committed.count, Instant::now());
    let mut taken = AllTaken::default();
    for round in 0.. {
        environment.show("inserting", started.elapsed().as_secs(), options.duration.as_secs());
        if round > 0 && started.elapsed() >= options.duration {
            break;
        }
        sides.round(environment, round, &mut taken).await?;
        environment.queue.empty_bare(&environment.client).await?;
    }
    let methods = sides.methods;
    drop(sides);
    environment.queue.set_wake_up(&environment.client, options.wake_up).await?;
    let ended = environment.snapshot().await?;
    environment.wait_settled("working off the rest").await?;
    let after = environment.snapshot().await?;
    let messages = environment.committed.count - warm;
    let until = after.gauges.now;
    let measured = Measured { before: began, began, ended, after, until, messages };
    let (report, _) = finish(environment, &measured).await?;
    let rates = BESIDE.into_iter().zip(taken).flat_map(|(beside, taken)| {
        methods.into_iter().zip(taken).map(move |(method, taken)| rates(beside, method, taken))
    });
    Ok(Report {
        enqueue: Some(rates.collect()),
        // Bare tables have their part in these.
        wal_bytes_per_message: None,
        commits_per_message: None,
        ..report
    })
}

impl Sides {
    async fn new(environment: &mut Environment<'_>) -> Result<Self, BenchError> {
        let options = environment.options;
        let (table, bare) = (environment.table(), environment.queue.bare_table());
        let counters = environment.counters.clone();
        let mut sides = Self {
            queue: Side { producers: environment.producers(&table).await?, counters },
            bare: Side { producers: environment.producers(&bare).await?, counters: Arc::default() },
            methods: [
                Method { name: "single-row INSERT", batch: 1, by_copy: false },
                Method { name: "multi-row INSERT", batch: options.batch, by_copy: false },
                Method { name: "COPY", batch: COPY_ROWS, by_copy: true },
            ],
            payload_bytes: options.payload_bytes,
            turn: TURN_MAX.min(options.duration / TURNS_A_ROUND),
        };
        // Statements are prepared then.
        for method in sides.methods {
            for target in [Target::Bare, Target::Queue] {
                sides.take_turn(environment, target, method).await?;
            }
        }
        Ok(sides)
    }

    /// A turn for each variant.
    async fn round(
        &mut self,
        environment: &mut Environment<'_>,
        round: usize,
        taken: &mut AllTaken,
    ) -> Result<(), BenchError> {
        for (beside, taken) in BESIDE.into_iter().zip(taken) {
            match beside {
                Beside::Nothing => environment.pause().await?,
                Beside::Host => environment.resume().await?,
                Beside::BusyHost => {}
            }
            for (method, taken) in self.methods.into_iter().zip(taken) {
                for n in 0..TARGETS.len() {
                    // Another one first each time.
                    let n = (n + round) % TARGETS.len();
                    make_ready(environment, beside, TARGETS[n], self.turn).await?;
                    let turn = self.take_turn(environment, TARGETS[n], method).await?;
                    taken[n].rows += turn.rows;
                    taken[n].time += turn.time;
                }
            }
        }
        Ok(())
    }

    /// All producers of a table insert, until the turn is over.
    async fn take_turn(
        &mut self,
        environment: &mut Environment<'_>,
        target: Target,
        method: Method,
    ) -> Result<Taken, BenchError> {
        let is_bare = target == Target::Bare;
        let side = if is_bare { &mut self.bare } else { &mut self.queue };
        let mut tasks = JoinSet::new();
        let started = Instant::now();
        let load = Load {
            batch: method.batch,
            by_copy: method.by_copy,
            rate: None,
            backlog_max: u64::MAX,
            payload_bytes: self.payload_bytes,
            start: (0, started),
            until: started + self.turn,
        };
        for mut producer in side.producers.drain(..) {
            let counters = side.counters.clone();
            tasks.spawn(async move {
                let checksum = produce::insert(&mut producer, &counters, load).await;
                Ok::<_, BenchError>((producer, checksum?))
            });
        }
        let mut all = Checksum::default();
        while let Some(ended) = tasks.join_next().await {
            let (producer, checksum) = ended.map_err(|panic| BenchError::Io(panic.into()))??;
            side.producers.push(producer);
            all.merge(checksum);
        }
        let time = started.elapsed();
        if !is_bare {
            environment.committed.merge(all);
        }
        Ok(Taken { rows: all.count, time })
    }
}

/// Sees to what is to be so when a turn begins.
async fn make_ready(
    environment: &mut Environment<'_>,
    beside: Beside,
    target: Target,
    turn: Duration,
) -> Result<(), BenchError> {
    if target != Target::Bare {
        environment.queue.set_wake_up(&environment.client, target == Target::Queue).await?;
    }
    match beside {
        Beside::Nothing => {}
        Beside::Host => environment.wait_settled("working off the rest").await?,
        Beside::BusyHost => {
            let wanted = (turn.as_secs_f64() * BUSY_PER_SECOND) as u64;
            let missing = wanted.saturating_sub(environment.backlog().await?);
            if missing > 0 {
                environment.enqueue("giving the hosts much to do", missing).await?;
            }
        }
    }
    Ok(())
}

fn rates(beside: Beside, method: Method, taken: [Taken; TARGETS.len()]) -> EnqueueRates {
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
