//! `host serve`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bytesize::ByteSize;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::Global;
use host_core::health::progress::Progress;
use host_core::limits;
use host_queue::connect::{Database, pooler, retry};
use host_queue::inspect;
use host_queue::migrate::{self, Migrations, SchemaState};
use host_server::serve::{ServeConfig, Shutdown, serve};

/// Lease messages, run them in sandboxes, and settle what came of them
///
/// The host runs until you stop it. SIGTERM, Ctrl-C or the end of its terminal drains it: it takes
/// no more messages, finishes those in flight, and ends. A second signal ends it at once; messages
/// in flight run again elsewhere. kill -9 is safe.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host serve
  host serve --until-idle
  host serve --concurrency 1000 --log json --database-url postgres://me@localhost/jobs")]
pub(crate) struct Serve {
    /// This host's name in `host status` and in the history of messages [default: the
    /// machine's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Sandboxes at once, for all handlers together; each handler has one more of its own
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Connections to Postgres, beside the session's own
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=500))]
    connections: u16,
    /// Memory for payloads, for all handlers together; and as much again for follow-ups that are
    /// not settled
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    payload_memory: ByteSize,
    /// How often to ask whether anything came to idle queues
    #[arg(long, value_name = "TIME", default_value = "1s")]
    poll: humantime::Duration,
    /// How long messages in flight may take after SIGTERM
    #[arg(long, value_name = "TIME", default_value = "30s")]
    drain: humantime::Duration,
    /// End with exit code 0 once no message waits, is in flight or is due: for tests and CI
    ///
    /// Messages that are due later do not count, retries included. Neither do queues that are
    /// paused or have no handler. A handler that cannot be loaded keeps the host waiting.
    #[arg(long)]
    until_idle: bool,
    /// Where to keep compiled handlers [default: host in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

/// Between two looks for --until-idle.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The least that can hold one message of the largest kind.
const PAYLOAD_MEMORY_MIN: ByteSize = ByteSize::mib(64);

impl Serve {
    /// Serves.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        let connections = usize::from(self.connections);
        let until_idle = self.until_idle;
        let config = self.resolve()?;
        let shutdown = on_signals()?;
        let context = crate::context::connect_with(global, connections).await?;
        let result = Box::pin(run(&context, config, shutdown, until_idle)).await;
        let closed = context.close().await;
        result.and(closed)
    }

    fn resolve(self) -> Result<ServeConfig, CommandError> {
        if self.payload_memory < PAYLOAD_MEMORY_MIN {
            return Err(CommandError::usage(format!(
                "--payload-memory {} is too little: give {PAYLOAD_MEMORY_MIN} or more",
                self.payload_memory
            )));
        }
        limits::duration_within("poll", *self.poll, &limits::POLL)?;
        Ok(ServeConfig {
            host_name: self.name.unwrap_or_else(machine_name),
            concurrency: self.concurrency,
            connections: self.connections.into(),
            payload_bytes: self.payload_memory.as_u64(),
            poll_max: *self.poll,
            drain: *self.drain,
            cache_dir: self.cache.or_else(default_cache),
            progress: Progress::default(),
        })
    }
}

async fn run(
    context: &CommandContext,
    config: ServeConfig,
    shutdown: Shutdown,
    until_idle: bool,
) -> Result<(), CommandError> {
    let migrations = Migrations::embedded()?;
    let database = context.database.serving(config.connections)?;
    let check = retry("check the schema", || async {
        pooler::refuse(&context.database).await?;
        // Not of the pool: it is not needed again.
        let alone = database.connect_alone().await?;
        migrate::check(&alone.client, &migrations).await
    });
    let state = tokio::select! {
        checked = check => checked?,
        () = shutdown.drain.cancelled() => return Ok(()),
    };
    if !matches!(state, SchemaState::Current { .. }) {
        return Err(CommandError::schema(state));
    }
    let drain = shutdown.drain.clone();
    let mut serving = Box::pin(serve(&database, config, shutdown));
    let ended = if until_idle {
        tokio::select! {
            ended = &mut serving => ended,
            () = drain_when_idle(&context.database, &drain) => serving.await,
        }
    } else {
        serving.await
    };
    ended.map_err(|error| anyhow::Error::from(error).into())
}

/// Has the host drain as soon as there is nothing to do.
async fn drain_when_idle(database: &Database, drain: &CancellationToken) {
    loop {
        let look = async { inspect::unfinished(&*database.get().await?).await };
        match look.await {
            Ok(busy) if busy.is_empty() => {
                tracing::info!("idle: no message waits, is in flight or is due");
                return drain.cancel();
            }
            Ok(busy) => tracing::debug!(handlers = busy.join(", "), "not idle"),
            Err(error) => tracing::warn!(%error, "cannot see whether the host is idle"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The first signal drains, the second stops.
fn on_signals() -> Result<Shutdown, CommandError> {
    let mut signals = Signals::listen()?;
    let shutdown = Shutdown { drain: CancellationToken::new(), stop: CancellationToken::new() };
    let told = shutdown.clone();
    tokio::spawn(async move {
        signals.any().await;
        told.drain.cancel();
        signals.any().await;
        told.stop.cancel();
    });
    Ok(shutdown)
}

/// A signal to end cancels.
pub(crate) fn on_signal(stop: &CancellationToken) -> Result<(), CommandError> {
    let mut signals = Signals::listen()?;
    let stop = stop.clone();
    tokio::spawn(async move {
        signals.any().await;
        stop.cancel();
    });
    Ok(())
}

/// What tells a process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// The terminal is gone; `None`: that is ignored, as after `nohup`.
    hangup: Option<Signal>,
}

impl Signals {
    fn listen() -> Result<Self, CommandError> {
        let listen =
            |kind| signal(kind).context("cannot listen for signals").map_err(CommandError::from);
        let hangup = if ignores_hangup() { None } else { Some(listen(SignalKind::hangup())?) };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup,
        })
    }

    async fn any(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hangup => {}
        }
    }
}

/// Whether SIGHUP was ignored when this began. Only Linux says so without `unsafe`; elsewhere it is
/// taken for no.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (SignalKind::hangup().as_raw_value() - 1) & 1 == 1)
}

fn machine_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "host".into())
}

/// See the XDG base directory specification.
pub(crate) fn default_cache() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = var("XDG_CACHE_HOME").or_else(|| Some(var("HOME")?.join(".cache")));
    cache.map(|dir| dir.join("host"))
}
