//! `host serve`: one host, from its session's begin to its end. Puts together what the modules
//! below do; decides nothing about messages.

use std::path::PathBuf;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::cron::CronLoop;
use self::handler_manager::{HandlerManager, SPARE_SANDBOXES};
use self::heartbeat::Heartbeat;
use self::load::{Components, Loader};
use self::rest_watch::RestWatch;
use crate::dispatch::config::HostResources;
use crate::dispatch::health::SharedConnections;
use crate::dispatch::run::threads::LongCallThreads;
use host_core::deployment::secret::Secrets;
use host_core::health::liveness::Observer;
use host_core::health::progress::Progress;
use host_core::id::SessionId;
use host_core::memory_gauge::MemoryGauge;
use host_queue::connect::{Database, retry_while};
use host_queue::error::QueueError;
use host_queue::session::{self, Session};
use host_sandbox::{CompileCheck, FollowUpTargets, Sandbox, SandboxConfig, SandboxError};

mod cron;
mod failing;
mod handler_manager;
mod heartbeat;
mod load;
mod maintenance;
mod rest_watch;
mod upkeep;

/// Notifications that nobody has looked at yet; more are dropped, since each is only a hint.
const NOTIFICATIONS_MAX: usize = 256;
/// How long an end in order may take to be noted; the others find out by themselves.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a host is given to work with.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// How it is called in `host status` and in the history of messages.
    pub host_name: String,
    /// Sandboxes at once, over all handlers.
    pub concurrency: u32,
    /// Connections to Postgres, beside the one that the session holds.
    pub connections: usize,
    /// Payload in memory, over all handlers, in bytes; and of follow-ups that are not settled, as
    /// much again.
    pub payload_bytes: u64,
    /// How often to ask whether anything came to idle queues.
    pub poll_max: Duration,
    /// How long messages in flight may take when the host is told to stop.
    pub drain: Duration,
    /// Where compiled handlers are kept between runs.
    pub cache_dir: Option<PathBuf>,
    /// Told how its loops go on; for others to ask.
    pub progress: Progress,
}

/// Why a host cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There is no sandbox to be had.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// No threads for calls that compute for long.
    #[error("cannot start threads for long calls: {0}; raise the limit of processes")]
    Threads(#[from] std::io::Error),
    /// Postgres says no, and would say so again.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// How a host is told to stop. Running, draining, stopped: it only goes forward.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Cancelled: take no more, finish what is begun.
    pub drain: CancellationToken,
    /// Cancelled: stop at once. What is begun runs again elsewhere.
    pub stop: CancellationToken,
}

/// Serves until told to stop. A session that is lost is followed by another. `database` is set up
/// for [serving](Database::serving).
///
/// # Errors
/// Only what no waiting mends; a server that cannot be reached is waited for.
pub async fn serve(
    database: &Database,
    config: ServeConfig,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    let sandbox = Sandbox::new(&SandboxConfig {
        instances_max: config.concurrency + SPARE_SANDBOXES,
        cache_dir: config.cache_dir.clone(),
    })?;
    let loader = Loader {
        sandbox,
        compile_check: CompileCheck::by_this_program()?,
        cache_dir: config.cache_dir.clone(),
        targets: FollowUpTargets::default(),
        secrets: Secrets::default(),
        components: Components::default(),
    };
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let kept = Kept { loader, long_calls: LongCallThreads::new(cores)? };
    let observer = Arc::new(Mutex::new(Observer::default()));
    // Sessions that ended without a word to the database.
    let mut unsaid = Vec::new();
    let mut has_served = false;
    while !shutdown.drain.is_cancelled() && !shutdown.stop.is_cancelled() {
        let (hints, woken) = mpsc::channel(NOTIFICATIONS_MAX);
        let begin = || Session::begin(database, &config.host_name, hints.clone());
        // One that has served before waits for whatever mends it: a password that was changed, a
        // role, a database.
        let patient = has_served;
        let passes = |error: &QueueError| patient || error.is_passing();
        let mut beginning = std::pin::pin!(retry_while("begin a session", passes, begin));
        let session = tokio::select! {
            session = &mut beginning => session?,
            () = shutdown.drain.cancelled() => {
                // It may have begun already: then others need not wait for signs of life.
                if let Ok(Ok(session)) = tokio::time::timeout(FAREWELL, beginning).await {
                    say_farewell(database, session.id()).await;
                }
                break;
            }
        };
        has_served = true;
        let id = session.id();
        // What a session before has left behind is not this one's.
        let progress = &config.progress;
        progress.forget();
        let pool = database.named_as(&session.application_name(), config.connections, progress)?;
        // They are over for certain: others need not wait for signs of life.
        for before in std::mem::take(&mut unsaid) {
            unsaid.extend(say_farewell(&pool, before).await);
        }
        let heartbeat = Heartbeat::new(pool.clone(), session, observer.clone(), progress.clone());
        let serving = one_session(&pool, &config, &shutdown, &kept, id, heartbeat, woken);
        let ended = Box::pin(serving).await;
        // Lost or not: nothing of it runs any more, so that its messages are not to blame.
        unsaid.extend(say_farewell(&pool, id).await);
        if ended == Ended::InOrder {
            break;
        }
        tracing::warn!("the session was lost; beginning another");
    }
    Ok(())
}

/// What a host keeps from one session to the next.
struct Kept {
    loader: Loader,
    long_calls: LongCallThreads,
}

#[derive(PartialEq, Eq)]
enum Ended {
    InOrder,
    Lost,
}

async fn one_session(
    database: &Database,
    config: &ServeConfig,
    shutdown: &Shutdown,
    kept: &Kept,
    id: SessionId,
    heartbeat: Heartbeat,
    woken: mpsc::Receiver<String>,
) -> Ended {
    tracing::info!(session = %id, host = config.host_name, database = database.shown(), "serving");
    let stop_now = CancellationToken::new();
    let tasks = TaskTracker::new();
    let (to_report, failing) = mpsc::unbounded_channel();
    let host = HostResources {
        database: database.clone(),
        session: id,
        next_seq: Arc::new(AtomicI64::new(1)),
        payload_kib: Arc::new(Semaphore::new((config.payload_bytes >> 10) as usize)),
        follow_ups: MemoryGauge::default(),
        follow_up_bytes_max: config.payload_bytes,
        shared_connections: SharedConnections::new(config.connections),
        failing: to_report,
        host_name: config.host_name.as_str().into(),
        poll_max: config.poll_max,
        cores: kept.long_calls.cores(),
        progress: config.progress.clone(),
        long_calls: kept.long_calls.clone(),
        tasks: tasks.clone(),
        stop_now: stop_now.clone(),
    };
    let (catalog_version, catalog_changed) = watch::channel(0);
    let mut heartbeat = tokio::spawn(heartbeat.run(catalog_version));
    let slots = Arc::new(Semaphore::new(config.concurrency as usize));
    let watch = config.progress.watch("the loop of cron");
    let cron = CronLoop::new(host.database.clone(), catalog_changed.clone(), watch);
    let mut handlers = HandlerManager::new(host, kept.loader.clone(), slots, failing);
    let rest_watch = RestWatch {
        database: database.clone(),
        rests: handlers.rests(),
        every: config.poll_max,
        watch: config.progress.watch("the watch over idle queues"),
    };

    let lost = tokio::select! {
        _ = &mut heartbeat => true,
        () = stop_now.cancelled() => true,
        never = handlers.run(catalog_changed, woken) => match never {},
        never = cron.run() => match never {},
        never = rest_watch.run() => match never {},
        () = shutdown.drain.cancelled() => false,
        () = shutdown.stop.cancelled() => false,
    };
    let ended = if lost {
        Ended::Lost
    } else {
        handlers.drain();
        tracing::info!(session = %id, "draining");
        tokio::select! {
            () = handlers.drained() => {}
            () = shutdown.stop.cancelled() => tracing::warn!("stopping at once"),
            () = tokio::time::sleep(config.drain) => {
                tracing::warn!(drain = ?config.drain, "messages are still in flight; they will run again");
            }
            _ = &mut heartbeat => tracing::warn!("the session was lost"),
        }
        Ended::InOrder
    };
    stop_now.cancel();
    handlers.close();
    tasks.close();
    // Until nothing of it runs any more, it beats: others would hold it for dead. But not for what
    // never ends.
    let _ = tokio::time::timeout(FAREWELL, tasks.wait()).await;
    heartbeat.abort();
    tasks.wait().await;
    ended
}

/// Ends the session, so that others need not wait for signs of life. Returns it if that could not
/// be said.
async fn say_farewell(database: &Database, session: SessionId) -> Option<SessionId> {
    let end = session::end(database, session);
    match tokio::time::timeout(FAREWELL, end).await {
        Ok(Ok(_)) => {
            tracing::info!(%session, "stopped");
            let told = session::nobody_sleeps(database);
            if !matches!(tokio::time::timeout(FAREWELL, told).await, Ok(Ok(()))) {
                // They notify in vain: that costs them something, and loses nothing.
                tracing::debug!("cannot tell producers that nobody sleeps");
            }
            return None;
        }
        Ok(Err(error)) => {
            tracing::warn!(%session, %error, "stopped, without a word to the database");
        }
        Err(_) => tracing::warn!(%session, "stopped; the database did not answer"),
    }
    Some(session)
}
