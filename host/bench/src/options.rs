//! What a benchmark is asked for, and where it runs.

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use host_core::limits::Isolation;
use host_queue::bench::Hold;
use host_queue::connect::Database;

/// A benchmark that is asked for. Cheap to copy.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// A database that has the schema.
    pub database: &'a Database,
    /// The same, for the processes that are started.
    pub url: &'a str,
    /// What is asked for.
    pub options: &'a Options,
    /// Cancelled: the user said to stop.
    pub stop: &'a CancellationToken,
    /// Told how far it is.
    pub on_progress: OnProgress<'a>,
}

/// What a benchmark is doing, for people: a phase, and how far it is.
pub type OnProgress<'a> = &'a (dyn Fn(&'static str, u64, u64) + Sync);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Messages are all there, and are worked off.
    Drain,
    /// Producers and hosts work at the same time.
    Steady,
    /// Few messages, each as it comes: how long until its handler begins.
    Latency,
    /// Producers, beside hosts that do nothing, work off what comes, or have much to do; and a bare
    /// table.
    Enqueue,
    /// The same server without a queue: COPY in, read out.
    Baseline,
    /// `Steady`, for each pair of two things that vary.
    Sweep,
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
    pub workload: Workload,
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
    /// Messages that another session has in hand for all of the measured time, for `Steady` and
    /// `Latency`.
    pub leased: u64,
    /// Messages that were settled before it, beside those that warm up.
    pub settled: u64,
    /// Messages on the schedule, due long after the run.
    pub scheduled: u64,
    /// Whether a producer's commit waits until it is on disk.
    pub synchronous_commit: bool,
    /// Whether an INSERT may wake a sleeping host.
    pub wake_up: bool,
    /// Whether the baseline is measured first, to give rates as shares of it.
    pub baseline: bool,
    /// What varies, for `Sweep`: across and down.
    pub axes: [Axis; 2],
    /// What is in the way.
    pub interference: Vec<Disturbance>,
    /// The handler; `None`: one that only acks.
    pub handler: Option<Vec<u8>>,
    /// How long the handler waits before it acks.
    pub wait: Option<Duration>,
    /// How far away the database looks to the hosts.
    pub round_trip: Option<Duration>,
    /// The program whose `serve` is run.
    pub program: PathBuf,
}

impl Options {
    /// The messages that what the server counts can be shared out among: none when others are
    /// worked off beside them.
    pub(crate) const fn accountable(&self, messages: u64) -> u64 {
        if self.waiting + self.leased > 0 { 0 } else { messages }
    }
}

/// Something that varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Varied {
    /// Connections that insert.
    Producers,
    /// Processes of `host serve`.
    Hosts,
    /// Messages in one INSERT.
    Batch,
    /// Bytes of a message.
    Payload,
}

/// What varies, and the values that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// What.
    pub varied: Varied,
    /// At least one.
    pub values: Vec<u32>,
}

impl Varied {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Producers, Self::Hosts, Self::Batch, Self::Payload];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Producers => "producers",
            Self::Hosts => "hosts",
            Self::Batch => "batch",
            Self::Payload => "payload",
        }
    }

    /// The largest value that it takes.
    #[must_use]
    pub const fn max(self) -> u32 {
        match self {
            Self::Producers => 1_000,
            Self::Hosts => 100,
            Self::Batch => 10_000,
            Self::Payload => 1_000_000,
        }
    }

    pub(crate) const fn set(self, options: &mut Options, value: u32) {
        match self {
            Self::Producers => options.producers = value,
            Self::Hosts => options.hosts = value,
            Self::Batch => options.batch = value,
            Self::Payload => options.payload_bytes = value as usize,
        }
    }
}

impl Workload {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Steady => "steady",
            Self::Latency => "latency",
            Self::Enqueue => "enqueue",
            Self::Baseline => "baseline",
            Self::Sweep => "sweep",
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
