//! `host bench`: runs the real thing, hosts as processes of their own, on a queue of its own, and measures
//! it. Never judges a figure, but whether every message was delivered as often as it should.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::arena::Arena;
use self::map::Axis;
use self::report::Report;
use host_core::limits::Isolation;
use host_queue::bench::Hold;
use host_queue::connect::Database;
use host_queue::error::QueueError;
use host_queue::queues::DropError;
use host_server::deploy::DeployError;

mod arena;
mod drain;
mod enqueue;
mod finish;
mod floor;
mod guest;
mod holds;
mod hosts;
mod latency;
mod leased;
pub mod map;
mod payload;
mod prepare;
mod process;
mod produce;
pub mod report;
mod steady;
mod sums;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Messages are all there, and are worked off.
    Drain,
    /// Producers and hosts work at the same time.
    Steady,
    /// Few messages, each as it comes: how long until its handler begins.
    Latency,
    /// Producers, beside hosts that do nothing, work off what comes, or have much to do; and a bare table.
    Enqueue,
    /// The same server without a queue: COPY in, read out.
    Floor,
    /// `Steady`, for each pair of two things that vary.
    Map,
}

/// Something that is in the way while a benchmark runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// A transaction.
    Transaction(Hold),
    /// A second handler of the queue that never finishes a message.
    Handler,
}

/// What a run is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is measured.
    pub shape: Shape,
    /// To work off, for `Drain`.
    pub messages: u64,
    /// How long, for the others.
    pub duration: Duration,
    /// Connections that insert.
    pub producers: u32,
    /// Processes of `host serve`.
    pub hosts: u32,
    /// When a sandbox is thrown away.
    pub isolation: Isolation,
    /// Sandboxes at once, on each host.
    pub concurrency: u32,
    /// Of each message, as JSON text.
    pub payload_bytes: usize,
    /// Messages in one INSERT, for `Steady`.
    pub batch: u32,
    /// Messages a second; `None`: as fast as it goes.
    pub rate: Option<f64>,
    /// Messages are enqueued all at once, so long before the first of them is due, for `Latency`.
    pub delay: Option<Duration>,
    /// Producers wait while more messages than this do.
    pub backlog_max: u64,
    /// Messages that wait when the measured time begins, for `Steady` and `Latency`.
    pub waiting: u64,
    /// Messages that another session has in hand for all of the measured time, for `Steady` and `Latency`.
    pub leased: u64,
    /// Messages that were settled before it, beside those that warm up.
    pub settled: u64,
    /// Messages on the schedule, due long after the run.
    pub scheduled: u64,
    /// Whether a producer's commit waits until it is on disk.
    pub synchronous_commit: bool,
    /// Whether an INSERT may wake a sleeping host.
    pub wake_up: bool,
    /// Whether the floor is measured first, to give rates as shares of it.
    pub floor: bool,
    /// What varies, for `Map`: across and down.
    pub axes: [Axis; 2],
    /// What is in the way.
    pub holds: Vec<Disturbance>,
    /// The handler, if not one that acks and does nothing else.
    pub handler: Option<Vec<u8>>,
    /// How long the handler waits before it acks.
    pub wait: Option<Duration>,
    /// The program whose `serve` is run.
    pub program: PathBuf,
}

impl Options {
    /// The messages that what the server counts can be shared out among: none when others are worked off beside them.
    const fn accountable(&self, messages: u64) -> u64 {
        if self.waiting + self.leased > 0 { 0 } else { messages }
    }
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Postgres said no.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The handler cannot be deployed.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// The queue could not be removed.
    #[error("cannot remove the benchmark's queue: {0}")]
    NotRemoved(#[from] DropError),
    /// Somebody else works in this database.
    #[error(
        "{0}: give the benchmark a database of its own, or none, and it starts a server of its own"
    )]
    NotAlone(String),
    /// A benchmark that was killed has left something.
    #[error(
        "queue {0} is left over from a benchmark that was killed; remove it: host queue drop {0} --force"
    )]
    LeftBehind(String),
    /// No process could be started.
    #[error("cannot run {}: {source}", program.display())]
    NoHost {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A host ended before its time.
    #[error("a host ended during the run ({status}): {last}")]
    HostEnded {
        /// How.
        status: ExitStatus,
        /// The last line of its log.
        last: String,
    },
    /// A host cannot run the handler.
    #[error("a host cannot run the handler: {0}")]
    NotLoaded(String),
    /// The hosts do nothing, though there are messages.
    #[error("no message was settled for {0:?}, though {1} are there")]
    Stalled(Duration, u64),
    /// What should have been in the way was not.
    #[error("`--hold {0}` ended before the run did: nothing was measured")]
    NotHeld(&'static str),
    /// It took longer to enqueue them than there was time.
    #[error("the first message was due {0:?} before all were enqueued: give --delay more")]
    Late(Duration),
    /// The floor is none.
    #[error("{rows} rows were copied in, and {read} read out")]
    NotRead {
        /// Copied in.
        rows: u64,
        /// Read out.
        read: u64,
    },
    /// The system said no.
    #[error("the system refused: {0}")]
    Io(std::io::Error),
    /// The user said to stop.
    #[error("interrupted; the benchmark's queue is removed")]
    Interrupted,
}

/// What a benchmark is doing, for people: a phase, and how far it is.
pub type OnProgress<'a> = &'a (dyn Fn(&'static str, u64, u64) + Sync);

/// Runs a benchmark on a database that has the schema. Whatever comes of it, its queue is removed and its
/// hosts are ended.
///
/// # Errors
/// If there are no figures. A run that lost or doubled a message has them: see [`Report::lost`].
pub async fn run(
    database: &Database,
    url: &str,
    options: &Options,
    stop: &CancellationToken,
    on_progress: OnProgress<'_>,
) -> Result<Report, BenchError> {
    if options.shape == Shape::Map {
        map::run(database, url, options, stop, on_progress).await
    } else {
        Box::pin(run_one(database, url, options, stop, on_progress)).await
    }
}

async fn run_one(
    database: &Database,
    url: &str,
    options: &Options,
    stop: &CancellationToken,
    on_progress: OnProgress<'_>,
) -> Result<Report, BenchError> {
    let mut arena = Arena::new(database, url, options, on_progress).await?;
    let measured = tokio::select! {
        measured = Box::pin(measure(&mut arena, options.shape)) => measured,
        () = stop.cancelled() => Err(BenchError::Interrupted),
    };
    let removed = arena.remove().await;
    let report = measured?;
    removed?;
    Ok(report)
}

async fn measure(arena: &mut Arena<'_>, shape: Shape) -> Result<Report, BenchError> {
    let wants_floor = arena.options.floor || shape == Shape::Floor;
    let floor = if wants_floor { Some(floor::run(arena).await?) } else { None };
    let mut report = match shape {
        Shape::Drain => drain::run(arena).await?,
        Shape::Steady | Shape::Map => steady::run(arena).await?,
        Shape::Latency => latency::run(arena).await?,
        Shape::Enqueue => enqueue::run(arena).await?,
        Shape::Floor => finish::asked_for(arena).await?,
    };
    if let Some(floor) = floor {
        report.beside(&floor);
    }
    Ok(report)
}

impl Shape {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Steady => "steady",
            Self::Latency => "latency",
            Self::Enqueue => "enqueue",
            Self::Floor => "floor",
            Self::Map => "map",
        }
    }
}

impl Disturbance {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transaction(Hold::Snapshot) => "snapshot",
            Self::Transaction(Hold::Xid) => "xid",
            Self::Transaction(Hold::Lock) => "lock",
            Self::Handler => "handler",
        }
    }
}
