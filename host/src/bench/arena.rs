//! Where a benchmark runs: a queue of its own, with its handlers, hosts and what is in the way; and what
//! can be seen from outside. Removes all of it again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::guest::Guest;
use super::hosts::{Hosts, Mark};
use super::produce::{Counters, preload};
use super::sums::Sums;
use super::{BenchError, Disturbance, OnProgress, Options, process};
use crate::deploy;
use crate::limits::{BACKOFF_CAP_DEFAULT, BACKOFF_DEFAULT, Isolation, Limits, TIMEOUT};
use crate::message::PayloadType;
use crate::name::{HandlerName, QueueName};
use crate::outcome::{Backoff, RetryPolicy};
use crate::queue::bench::{self, BenchQueue, Gauges, Held, Progress};
use crate::queue::catalog::{self, Queue, Settings};
use crate::queue::connect::{Database, Pooled};
use crate::queue::deployments::Deployed;
use crate::queue::queues::{self, NewQueue};

/// Messages that are worked off before anything is measured: caches and plans are warm then.
const WARM_UP: u64 = 5_000;
/// Between two looks at how far the hosts are.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Every so many looks, what is dead and what is on disk is looked at as well.
const PEAKS_EVERY: u64 = 5;
/// When nothing has been settled for so long, it is asked whether there is anything left.
const QUIET: Duration = Duration::from_secs(2);
/// When nothing has been settled for so long, though there are messages, the run has failed.
const STALLED: Duration = Duration::from_mins(2);
/// How long a host may take to load a handler.
const LOAD_WITHIN: Duration = Duration::from_mins(1);

/// A benchmark's queue and all that belongs to it.
pub struct Arena<'a> {
    pub database: &'a Database,
    pub options: &'a Options,
    pub queue: BenchQueue,
    /// For questions; never waits for a message.
    pub client: Pooled,
    pub hosts: Hosts,
    pub counters: Arc<Counters>,
    /// Of all that was committed.
    pub committed: Sums,
    url: &'a str,
    on_progress: OnProgress<'a>,
    settings: Queue,
    held: Vec<Held>,
    postmaster: Option<u32>,
    progress: Progress,
    looks: u64,
    pub peaks: Peaks,
}

/// The most that was seen at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peaks {
    pub log_dead: i64,
    pub control_dead: i64,
    pub catalog_dead: i64,
    pub disk_bytes: u64,
}

/// All counters at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    pub gauges: Gauges,
    pub generation: i64,
    pub disk_bytes: u64,
    pub hosts_cpu: Option<Duration>,
    pub postgres_cpu: Option<Duration>,
    pub own_cpu: Option<Duration>,
}

impl<'a> Arena<'a> {
    /// Makes the queue.
    pub async fn new(
        database: &'a Database,
        url: &'a str,
        options: &'a Options,
        on_progress: OnProgress<'a>,
    ) -> Result<Self, BenchError> {
        let client = database.get().await?;
        let others = bench::others(&client).await?;
        if others.hosts > 0 {
            return Err(BenchError::NotAlone(format!("{} hosts run here", others.hosts)));
        }
        if !others.queues.is_empty() {
            let queues = others.queues.join(", ");
            return Err(BenchError::NotAlone(format!(
                "other queues have handlers here ({queues})"
            )));
        }
        let pid = bench::backend_pid(&client).await?;
        let name = queue_name();
        queues::create(&client, &new_queue(&name)).await?;
        let catalog = catalog::load(&client).await?;
        let settings = catalog.queue(name.as_str()).cloned();
        let settings = settings.ok_or_else(|| {
            crate::queue::error::QueueError::Unexpected(format!("queue {name} is not there"))
        })?;
        Ok(Self {
            database,
            options,
            queue: BenchQueue { name, id: settings.id },
            client,
            hosts: Hosts::default(),
            counters: Arc::default(),
            committed: Sums::default(),
            url,
            on_progress,
            settings,
            held: Vec::new(),
            postmaster: process::parent_of(pid.cast_unsigned(), "postgres"),
            progress: Progress::default(),
            looks: 0,
            peaks: Peaks::default(),
        })
    }

    /// Deploys the handler, starts the hosts, has them work off some messages, and gets in their way.
    pub async fn prepare(
        &mut self,
        guest: Guest,
        marks: Option<mpsc::UnboundedSender<Mark>>,
    ) -> Result<(), BenchError> {
        self.queue.begin_account(&self.client).await?;
        let own = self.options.handler.clone().unwrap_or_else(|| guest.component());
        let mut deployed = vec![self.deploy("default", own).await?];
        if self.options.holds.contains(&Disturbance::Handler) {
            deployed.push(self.deploy("stuck", Guest::Stuck.component()).await?);
        }
        let concurrency = self.options.concurrency.max(256).to_string();
        let args = ["--drain", "1s", "--concurrency", &concurrency].map(OsString::from);
        for _ in 0..self.options.hosts {
            self.hosts.start(&self.options.program, self.url, &args, marks.clone())?;
        }
        for version in deployed {
            self.wait_loaded(version).await?;
        }
        self.enqueue("warming up", WARM_UP).await?;
        self.wait_settled("warming up", self.committed.count).await?;
        for disturbance in &self.options.holds {
            if let Disturbance::Transaction(hold) = disturbance {
                self.held.push(self.queue.hold(self.database, *hold).await?);
            }
        }
        Ok(())
    }

    async fn deploy(&self, handler: &str, wasm: Vec<u8>) -> Result<Deployed, BenchError> {
        let name: HandlerName = handler.parse().expect("these are names");
        let stuck = handler != "default";
        let settings = Settings {
            limits: Limits { timeout: *TIMEOUT.end(), ..Limits::default() },
            isolation: if stuck { Isolation::Message } else { self.options.isolation },
            concurrency: if stuck { 1 } else { self.options.concurrency },
            config: BTreeMap::new(),
        };
        deploy::check(wasm.clone(), &self.settings, &settings).await?;
        let stored =
            deploy::store(self.database, &self.settings, &name, &wasm, &settings, None).await?;
        Ok(stored.deployed)
    }

    async fn wait_loaded(&mut self, version: Deployed) -> Result<(), BenchError> {
        let started = Instant::now();
        loop {
            (self.on_progress)("starting hosts", 0, self.hosts.count() as u64);
            self.hosts.check()?;
            let progress =
                deploy::wait(&self.client, version, Duration::from_secs(1), |_| ()).await?;
            if let Some((host, error)) = progress.failed.first() {
                return Err(BenchError::NotLoaded(format!("{host}: {error}")));
            }
            if progress.running.len() >= self.hosts.count() {
                return Ok(());
            }
            if started.elapsed() > LOAD_WITHIN {
                let said = self.hosts.complaints().join("; ");
                let waited = format!("nothing was heard for {LOAD_WITHIN:?}; log: {said:?}");
                return Err(BenchError::NotLoaded(waited));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Enqueues messages by COPY, as fast as it goes.
    pub async fn enqueue(&mut self, what: &'static str, messages: u64) -> Result<(), BenchError> {
        let table = self.table();
        let before = self.committed.count;
        let Options { producers, payload_bytes, .. } = *self.options;
        let loading =
            preload(self.database, &table, &self.counters, messages, producers, payload_bytes);
        let mut loading = std::pin::pin!(loading);
        let sums = loop {
            let done = self.counters.committed.load(Relaxed) - before;
            (self.on_progress)(what, done, messages);
            tokio::select! {
                sums = &mut loading => break sums?,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        };
        self.committed.merge(sums);
        Ok(())
    }

    /// The queue's table, with its schema.
    pub fn table(&self) -> String {
        format!("queue.{}", self.queue.name)
    }

    /// Lets the hosts lease, or not. They hear of it with their next heartbeat.
    pub async fn set_paused(&self, paused: bool) -> Result<(), BenchError> {
        queues::set_paused(&self.client, &self.queue.name, paused).await?;
        Ok(())
    }

    /// Looks at how far the hosts are: messages settled so far.
    pub async fn look(&mut self) -> Result<u64, BenchError> {
        self.hosts.check()?;
        let settled = self.queue.settled(&self.client, &mut self.progress).await?;
        self.counters.settled.store(settled, Relaxed);
        self.looks += 1;
        if self.looks.is_multiple_of(PEAKS_EVERY) {
            self.look_at_peaks().await?;
        }
        Ok(settled)
    }

    async fn look_at_peaks(&mut self) -> Result<(), BenchError> {
        let gauges = bench::gauges(&self.client).await?;
        let (_, disk_bytes) = self.queue.rotation(&self.client).await?;
        let peaks = &mut self.peaks;
        peaks.log_dead = peaks.log_dead.max(gauges.log_dead);
        peaks.control_dead = peaks.control_dead.max(gauges.control_dead);
        peaks.catalog_dead = peaks.catalog_dead.max(gauges.catalog_dead);
        peaks.disk_bytes = peaks.disk_bytes.max(disk_bytes);
        Ok(())
    }

    /// Waits until so many messages are settled, or the hosts have nothing left to do.
    pub async fn wait_settled(&mut self, what: &'static str, all: u64) -> Result<(), BenchError> {
        let (mut before, mut since) = (0, Instant::now());
        let begun = self.look().await?;
        loop {
            let settled = self.look().await?;
            (self.on_progress)(what, settled.saturating_sub(begun), all.saturating_sub(begun));
            if settled != before {
                (before, since) = (settled, Instant::now());
            }
            if settled >= all || since.elapsed() > QUIET {
                let left = self.queue.left(&self.client).await?;
                if left == 0 {
                    return Ok(());
                }
                if since.elapsed() > STALLED {
                    return Err(BenchError::Stalled(STALLED, left));
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Shows how far the run is.
    pub fn show(&self, what: &'static str, done: u64, of: u64) {
        (self.on_progress)(what, done, of);
    }

    /// Reads all counters.
    pub async fn snapshot(&self) -> Result<Snapshot, BenchError> {
        let (generation, disk_bytes) = self.queue.rotation(&self.client).await?;
        Ok(Snapshot {
            hosts_cpu: self.hosts.cpu(),
            postgres_cpu: self.postmaster.and_then(process::tree_cpu),
            own_cpu: process::cpu(std::process::id()),
            generation,
            disk_bytes,
            gauges: bench::gauges(&self.client).await?,
        })
    }

    /// Ends the hosts, and what is in their way; waits until their counters are complete.
    pub async fn stop_hosts(&mut self) -> Result<(), BenchError> {
        (self.on_progress)("stopping", 0, 0);
        self.hosts.stop().await?;
        self.held.clear();
        let started = Instant::now();
        while bench::connections(&self.client).await? > 0 && started.elapsed() < STALLED {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Ends and removes everything, as far as that is possible.
    pub async fn remove(&mut self) -> Result<(), BenchError> {
        let stopped = self.hosts.stop().await;
        self.held.clear();
        // A connection of its own: on the old one a question may be open that was interrupted.
        let client = self.database.connect_alone().await?.client;
        self.queue.end_account(&client).await?;
        queues::drop(&client, &self.queue.name, true).await?;
        stopped
    }
}

fn queue_name() -> QueueName {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    format!("bench_{}", &unique[..8]).parse().expect("this is a name")
}

/// As `host queue create` makes one.
fn new_queue(name: &QueueName) -> NewQueue {
    NewQueue {
        name: name.clone(),
        payload_type: PayloadType::Jsonb,
        payload_bytes_max: 1 << 20,
        policy: RetryPolicy {
            max_attempts: 10,
            backoff: Backoff::Exponential { base: BACKOFF_DEFAULT, cap: BACKOFF_CAP_DEFAULT },
        },
        rotate_bytes: 64 << 20,
        rotate_age: Duration::from_mins(1),
        wake_up: true,
    }
}
