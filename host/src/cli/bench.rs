//! `host bench`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use super::{Context, Fail, Global, lookup, serve};
use crate::bench::report::Report;
use crate::bench::{self, BenchError, Disturbance, Options, Shape};
use crate::limits::{CONCURRENCY_DEFAULT, Isolation};
use crate::queue::bench::Hold;

/// Connections that a benchmark needs, beside those of its producers.
const CONNECTIONS_MAX: usize = 4;

/// Measure how fast queues are here, and that no message is lost or doubled
///
/// Makes a queue of its own, runs hosts as processes of their own, and removes all of it afterwards.
/// Without a database, on a server of its own that is removed as well. A message that is lost or
/// doubled makes the exit code 1. What the figures mean is in host/docs/benchmarks.md.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host bench drain --isolation batch
  host bench steady --seconds 600 --hold snapshot --json
  host bench latency --rate 500")]
pub struct Bench {
    /// What to measure
    shape: ShapeName,
    /// Messages to work off (drain)
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// How long to measure (steady, latency)
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
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
    /// Messages in one INSERT (steady)
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Messages a second, of all producers together [default: as fast as it goes; latency: 500]
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Producers wait while more messages than this do (steady)
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    backlog: u64,
    /// Something in the way for all of the run; repeatable
    #[arg(long, value_name = "WHAT")]
    hold: Vec<HoldName>,
    /// A handler of your own, instead of one that only acks (drain, steady)
    #[arg(long, value_name = "FILE")]
    handler: Option<PathBuf>,
    /// Print JSON: one object, on the last line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ShapeName {
    /// All messages are there, and are worked off
    Drain,
    /// Producers and hosts work at the same time
    Steady,
    /// Messages come at given times; how long until the handler begins
    Latency,
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

impl Bench {
    /// Does it.
    pub async fn run(self, global: &Global) -> Result<(), Fail> {
        let options = self.resolve()?;
        let stop = CancellationToken::new();
        serve::on_signal(&stop)?;
        let report = match &global.database_url {
            Some(_) => {
                let context = super::connect_with(global, CONNECTIONS_MAX).await?;
                measure(&context, &options, &stop).await
            }
            None => on_a_server_of_its_own(&options, &stop).await,
        }?;
        print(&report, self.json)?;
        if report.lost + report.duplicated > 0 {
            return Err(Fail::failed(format!(
                "{} messages lost, {} doubled (at least), of {}",
                report.lost, report.duplicated, report.committed
            )));
        }
        Ok(())
    }

    fn resolve(&self) -> Result<Options, Fail> {
        let latency = self.shape == ShapeName::Latency;
        if latency && self.handler.is_some() {
            return Err(Fail::usage(
                "--handler does not go with latency, whose handler says when it begins",
            ));
        }
        let handler = self.handler.as_deref().map(read).transpose()?;
        Ok(Options {
            shape: self.shape.into(),
            messages: self.messages,
            duration: Duration::from_secs(self.seconds),
            producers: self.producers.unwrap_or(if latency { 16 } else { 4 }),
            hosts: self.hosts,
            isolation: Isolation::from_name(&self.isolation).unwrap_or_default(),
            concurrency: self.concurrency,
            payload_bytes: self.payload_bytes,
            batch: self.batch,
            rate: self.rate,
            backlog_max: self.backlog,
            holds: self.hold.iter().copied().map(Disturbance::from).collect(),
            handler,
            program: std::env::current_exe().context("cannot find this program")?,
        })
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Fail> {
    std::fs::read(file)
        .map_err(|error| Fail::usage(format!("cannot read {}: {error}", file.display())))
}

async fn measure(
    context: &Context,
    options: &Options,
    stop: &CancellationToken,
) -> Result<Report, Fail> {
    drop(lookup::client(context).await?);
    let bar = progress_bar();
    let show = |what: &'static str, done: u64, of: u64| {
        bar.set_message(what);
        bar.set_length(of);
        bar.set_position(done);
    };
    let report = bench::run(&context.database, context.url(), options, stop, &show).await;
    bar.finish_and_clear();
    Ok(report?)
}

async fn on_a_server_of_its_own(
    options: &Options,
    stop: &CancellationToken,
) -> Result<Report, Fail> {
    let dir = std::env::temp_dir().join(format!("host-bench-{}", std::process::id()));
    let context = Context::embedded(&dir, CONNECTIONS_MAX).await?;
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

fn print(report: &Report, json: bool) -> Result<(), Fail> {
    if json {
        println!("{}", serde_json::to_string(report).map_err(anyhow::Error::from)?);
    } else {
        for (what, value) in lines(report) {
            println!("{what:<28} {value}");
        }
    }
    for complaint in &report.complaints {
        eprintln!("warning: a host says: {complaint}");
    }
    Ok(())
}

/// The figures that there are, for people.
fn lines(report: &Report) -> Vec<(&'static str, String)> {
    let number = |value: Option<f64>| value.map(|v| format!("{v}"));
    let whole = |value: Option<i64>| value.map(|v| v.to_string());
    let ms = |value: Option<f64>| value.map(|v| format!("{v} ms"));
    let bytes = |value: Option<u64>| value.map(super::show::bytes);
    let all = [
        ("messages", report.messages.map(|n| n.to_string())),
        ("seconds", number(report.seconds)),
        ("messages per second", number(report.messages_per_second.map(f64::round))),
        ("lost", Some(report.lost.to_string())),
        ("duplicated", Some(report.duplicated.to_string())),
        ("updates, log tables", whole(report.updates)),
        ("deletes, log tables", whole(report.deletes)),
        ("dead rows, log tables", whole(report.dead_tuples)),
        ("WAL bytes per message", number(report.wal_bytes_per_message)),
        ("commits per message", number(report.commits_per_message)),
        ("messages per lease", number(report.messages_per_lease)),
        ("rotations", whole(report.rotations)),
        ("on disk at most", bytes(report.disk_bytes_max)),
        ("due to start, p50", ms(report.p50_ms)),
        ("due to start, p99", ms(report.p99_ms)),
        ("due to start, p99.9", ms(report.p999_ms)),
        ("due to start, max", ms(report.max_ms)),
        ("commit to start, p50", ms(report.commit_to_start_p50_ms)),
        ("commit to start, p99", ms(report.commit_to_start_p99_ms)),
        ("due to commit, p50", ms(report.enqueue_p50_ms)),
        ("due to commit, p99", ms(report.enqueue_p99_ms)),
        ("last rate / first rate", number(report.last_to_first)),
        ("host CPU s per million", number(report.host_cpu_seconds_per_million)),
        ("Postgres CPU s per million", number(report.postgres_cpu_seconds_per_million)),
        ("host memory at most", bytes(report.host_peak_rss_bytes)),
    ];
    all.into_iter().filter_map(|(what, value)| Some((what, value?))).collect()
}

impl From<ShapeName> for Shape {
    fn from(name: ShapeName) -> Self {
        match name {
            ShapeName::Drain => Self::Drain,
            ShapeName::Steady => Self::Steady,
            ShapeName::Latency => Self::Latency,
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

impl From<BenchError> for Fail {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Queue(error) => error.into(),
            error => anyhow::Error::from(error).into(),
        }
    }
}
