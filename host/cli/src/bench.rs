//! `host bench`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::Global;
use crate::{lookup, serve};

use host_bench::BenchError;
use host_bench::options::{Axis, Disturbance, Options, Request, Varied, Workload};
use host_bench::report::Report;
use host_core::format;
use host_core::limits::{CONCURRENCY_DEFAULT, Isolation};
use host_queue::bench::Hold;

mod show;

/// Connections that a benchmark needs, beside those of its producers.
const CONNECTIONS_MAX: usize = 4;

/// Measure how fast queues are here, and that no message is lost or doubled
///
/// The benchmark makes its own queue, starts its own hosts, and removes everything afterwards.
/// Without a database it also starts its own server. If a message is lost or doubled, the exit code
/// is 1. host/docs/benchmarks.md explains the figures.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host bench drain --isolation batch
  host bench steady --seconds 600 --hold snapshot --json
  host bench latency --rate 500
  host bench drain --rtt 180ms")]
pub(crate) struct Bench {
    /// What to measure
    workload: WorkloadName,
    /// Messages to work off (drain), or rows to copy and read (baseline)
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// How long to measure (steady, latency, enqueue; sweep: each pair) [default: 30; sweep: 5]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Connections that insert [default: 4; latency: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    producers: Option<u32>,
    /// Processes of `host serve`
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    hosts: u32,
    /// A sandbox for each message, or one for many
    #[arg(long, value_name = "KIND", default_value = "message", value_parser = ["message", "batch"])]
    isolation: String,
    /// Sandboxes at once, on each host
    #[arg(long, value_name = "N", default_value_t = CONCURRENCY_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Size of a message, as the producer writes it
    #[arg(long, value_name = "N", default_value_t = 45)]
    payload_bytes: usize,
    /// Messages in one INSERT (steady, enqueue, sweep)
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Messages a second, of all producers together [default: as fast as it goes; latency: 500]
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Enqueue all messages at once with a delay of this many seconds or more, and time each from
    /// when it is due (latency)
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    delay: Option<u64>,
    /// Producers pause while more messages than this are waiting (steady, sweep)
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    backlog: u64,
    /// Messages that are waiting when the measured time begins (steady, latency)
    #[arg(long, value_name = "N", default_value_t = 0)]
    waiting: u64,
    /// Messages that another host has in flight the whole time (steady, latency)
    #[arg(long, value_name = "N", default_value_t = 0)]
    leased: u64,
    /// Messages that were settled before
    #[arg(long, value_name = "N", default_value_t = 0)]
    settled: u64,
    /// Messages on the schedule, due in a day
    #[arg(long, value_name = "N", default_value_t = 0)]
    scheduled: u64,
    /// Whether a producer's commit waits for the disk; for hosts, the server's setting applies
    #[arg(long, value_name = "on|off", default_value = "on", value_parser = ["on", "off"])]
    synchronous_commit: String,
    /// INSERTs do not wake hosts; hosts poll
    #[arg(long)]
    no_wake_up: bool,
    /// Measure the baseline first, and give the rate as a share of it (drain, steady)
    #[arg(long)]
    baseline: bool,
    /// What varies: producers, hosts, batch or payload, with its values; twice (sweep)
    #[arg(long, value_name = "NAME=N,N,…", value_parser = axis, default_values = ["producers=1,2,4,8", "hosts=1,2"])]
    axis: Vec<Axis>,
    /// Where to draw (sweep)
    #[arg(long, value_name = "FILE", default_value = "bench-sweep.svg")]
    svg: PathBuf,
    /// An obstacle during the measured time; repeatable
    #[arg(long, value_name = "WHAT")]
    hold: Vec<HoldName>,
    /// Your own handler, instead of one that only acks (drain, steady)
    #[arg(long, value_name = "FILE")]
    handler: Option<PathBuf>,
    /// Milliseconds that the handler waits before it acks (drain, steady)
    #[arg(long, value_name = "MS", conflicts_with = "handler", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    wait: Option<u64>,
    /// Have the database look as far away to the hosts as this round trip
    #[arg(long, value_name = "TIME")]
    rtt: Option<humantime::Duration>,
    /// Print JSON: one object, on the last line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WorkloadName {
    /// Messages handled a second, from a full queue
    Drain,
    /// Producers and hosts work at the same time
    Steady,
    /// Time from a message's INSERT to the start of its handler, at a given rate
    Latency,
    /// What an INSERT costs, beside a bare table
    Enqueue,
    /// The same server without a queue: COPY in, read out
    Baseline,
    /// `steady` over two things that vary, drawn
    Sweep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum HoldName {
    /// A reader that keeps its snapshot
    Snapshot,
    /// An idle transaction that has an id
    Xid,
    /// A dump: ACCESS SHARE on the queue's tables
    Lock,
    /// A second handler that never finishes a message
    Handler,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("give more than 0".to_owned()) }
}

fn axis(text: &str) -> Result<Axis, String> {
    let known = || Varied::ALL.map(Varied::name).join(", ");
    let (name, values) = text.split_once('=').ok_or("write it as NAME=N,N,N")?;
    let varied = Varied::ALL.into_iter().find(|varied| varied.name() == name);
    let varied = varied.ok_or_else(|| format!("{name} is none of {}", known()))?;
    let value = |text: &str| match text.trim().parse() {
        Ok(value) if (1..=varied.max()).contains(&value) => Ok(value),
        _ => Err(format!("{text:?} is no number from 1 to {}", varied.max())),
    };
    let values = values.split(',').map(value).collect::<Result<_, _>>()?;
    Ok(Axis { varied, values })
}

impl Bench {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        let options = self.resolve()?;
        let stop = CancellationToken::new();
        serve::on_signal(&stop)?;
        let report = match &global.database_url {
            Some(_) => {
                let context = crate::context::connect_with(global, CONNECTIONS_MAX).await?;
                measure(&context, &options, &stop).await
            }
            None => on_a_server_of_its_own(&options, &stop).await,
        }?;
        if let Some(rates) = &report.sweep {
            let drawing = host_bench::sweep::svg(rates, options.duration);
            std::fs::write(&self.svg, drawing)
                .with_context(|| format!("cannot write {}", self.svg.display()))?;
        }
        show::print(&report, self.json)?;
        if report.lost + report.duplicated > 0 {
            return Err(CommandError::failed(format!(
                "{} lost, {} doubled (at least), of {}",
                format::plural(report.lost, "message"),
                report.duplicated,
                report.committed
            )));
        }
        Ok(())
    }

    fn resolve(&self) -> Result<Options, CommandError> {
        let latency = self.workload == WorkloadName::Latency;
        if latency && (self.handler.is_some() || self.wait.is_some()) {
            return Err(CommandError::usage(
                "--handler and --wait do not work with latency, which has its own handler",
            ));
        }
        if !latency && self.delay.is_some() {
            return Err(CommandError::usage("--delay goes with latency only"));
        }
        let preloads = matches!(self.workload, WorkloadName::Steady | WorkloadName::Latency);
        if !preloads && self.waiting + self.leased > 0 {
            return Err(CommandError::usage(
                "--waiting and --leased work only with steady and latency; drain has --messages",
            ));
        }
        let axes = <[Axis; 2]>::try_from(self.axis.clone()).map_err(|axes| {
            CommandError::usage(format!("give --axis twice, not {} times", axes.len()))
        })?;
        let seconds =
            self.seconds.unwrap_or(if self.workload == WorkloadName::Sweep { 5 } else { 30 });
        let handler = self.handler.as_deref().map(read).transpose()?;
        Ok(Options {
            workload: self.workload.into(),
            messages: self.messages,
            duration: Duration::from_secs(seconds),
            producers: self.producers.unwrap_or(if latency { 16 } else { 4 }),
            hosts: self.hosts,
            isolation: Isolation::from_name(&self.isolation).unwrap_or_default(),
            concurrency: self.concurrency,
            payload_bytes: self.payload_bytes,
            batch: self.batch,
            rate: self.rate,
            delay: self.delay.map(Duration::from_secs),
            backlog_max: self.backlog,
            waiting: self.waiting,
            leased: self.leased,
            settled: self.settled,
            scheduled: self.scheduled,
            synchronous_commit: self.synchronous_commit == "on",
            wake_up: !self.no_wake_up,
            baseline: self.baseline,
            axes,
            interference: self.hold.iter().copied().map(Disturbance::from).collect(),
            handler,
            wait: self.wait.map(Duration::from_millis),
            round_trip: self.rtt.map(Into::into),
            program: std::env::current_exe().context("cannot find this program")?,
        })
    }
}

fn read(file: &Path) -> Result<Vec<u8>, CommandError> {
    std::fs::read(file)
        .map_err(|error| CommandError::usage(format!("cannot read {}: {error}", file.display())))
}

async fn measure(
    context: &CommandContext,
    options: &Options,
    stop: &CancellationToken,
) -> Result<Report, CommandError> {
    drop(lookup::client(context).await?);
    let bar = progress_bar();
    let show = |what: &'static str, done: u64, of: u64| {
        bar.set_message(what);
        bar.set_length(of);
        bar.set_position(done);
    };
    let request = Request {
        database: &context.database,
        url: context.url(),
        options,
        stop,
        on_progress: &show,
    };
    let report = host_bench::run(request).await;
    bar.finish_and_clear();
    Ok(report?)
}

async fn on_a_server_of_its_own(
    options: &Options,
    stop: &CancellationToken,
) -> Result<Report, CommandError> {
    let dir = std::env::temp_dir().join(format!("host-bench-{}", std::process::id()));
    let context = CommandContext::embedded(&dir, CONNECTIONS_MAX).await?;
    let result = measure(&context, options, stop).await;
    let closed = context.close().await;
    let removed = std::fs::remove_dir_all(&dir);
    let report = result?;
    closed?;
    removed.with_context(|| format!("cannot remove {}", dir.display()))?;
    Ok(report)
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    match ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {elapsed}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

impl From<WorkloadName> for Workload {
    fn from(name: WorkloadName) -> Self {
        match name {
            WorkloadName::Drain => Self::Drain,
            WorkloadName::Steady => Self::Steady,
            WorkloadName::Latency => Self::Latency,
            WorkloadName::Enqueue => Self::Enqueue,
            WorkloadName::Baseline => Self::Baseline,
            WorkloadName::Sweep => Self::Sweep,
        }
    }
}

impl From<HoldName> for Disturbance {
    fn from(name: HoldName) -> Self {
        match name {
            HoldName::Snapshot => Self::Transaction(Hold::Snapshot),
            HoldName::Xid => Self::Transaction(Hold::Xid),
            HoldName::Lock => Self::Transaction(Hold::Lock),
            HoldName::Handler => Self::Handler,
        }
    }
}

impl From<BenchError> for CommandError {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Queue(error) => error.into(),
            error => anyhow::Error::from(error).into(),
        }
    }
}
