//! Where a benchmark runs: a queue of its own, with its handlers, hosts and what is in the way; and
//! what can be seen from outside. Removes all of it again.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use self::hosts::Hosts;
use self::interference::Interference;
use self::leased::Leased;
use crate::checksum::Checksum;
use crate::error::BenchError;
use crate::options::{OnProgress, Options, Request, Workload};
use crate::produce::{Counters, preload};
use host_core::format::plural;
use host_core::health::liveness::BEAT_EVERY;
use host_core::name::QueueName;
use host_core::policy::queue_settings::QueueSettings;
use host_queue::admin::queues;
use host_queue::bench::load::Producer;
use host_queue::bench::relay::Relay;
use host_queue::bench::{self, BenchQueue, Gauges, Others, Progress};
use host_queue::catalog::{self, Queue};
use host_queue::connect::{Database, Pooled};

pub(crate) mod hosts;
mod interference;
mod leased;
mod prepare;
mod process;

/// Between two looks at how far the hosts are.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Every so many looks, what is dead and what is on disk is looked at as well.
const PEAKS_EVERY: u64 = 5;
/// When nothing has been settled for so long, it is asked whether there is anything left.
const QUIET: Duration = Duration::from_secs(2);
/// When nothing has been settled for so long, though there are messages, the run has failed.
const STALLED: Duration = Duration::from_mins(2);

/// A benchmark's queue and all that belongs to it.
pub(crate) struct Environment<'a> {
    pub database: &'a Database,
    pub options: &'a Options,
    pub queue: BenchQueue,
    /// For questions; never waits for a message.
    pub client: Pooled,
    pub hosts: Hosts,
    pub counters: Arc<Counters>,
    /// Of all that was committed.
    pub committed: Checksum,
    pub url: &'a str,
    on_progress: OnProgress<'a>,
    pub settings: Queue,
    pub interference: Interference,
    pub leased: Option<Leased>,
    /// What the hosts' connections lead through.
    relay: Option<Relay>,
    postmaster: Option<u32>,
    progress: Progress,
    looks: u64,
    pub peaks: Peaks,
}

/// The most that was seen at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peaks {
    pub log_dead: i64,
    pub control_dead: i64,
    pub catalog_dead: i64,
    pub disk_bytes: u64,
}

/// All counters at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    pub gauges: Gauges,
    pub generation: i64,
    pub disk_bytes: u64,
    pub hosts_cpu: Option<Duration>,
    pub postgres_cpu: Option<Duration>,
    pub own_cpu: Option<Duration>,
}

/// Fails if somebody else works here. What a benchmark that was killed has left is said by name.
fn alone(others: &Others) -> Result<(), BenchError> {
    if others.hosts > 0 {
        return Err(BenchError::NotAlone(format!(
            "{} running here",
            plural(others.hosts.cast_unsigned(), "host")
        )));
    }
    if let [left, ..] = others.left_behind.as_slice() {
        return Err(BenchError::LeftBehind(left.clone()));
    }
    if !others.queues.is_empty() {
        let queues = others.queues.join(", ");
        return Err(BenchError::NotAlone(format!("other queues have handlers here ({queues})")));
    }
    Ok(())
}

impl<'a> Environment<'a> {
    /// Makes the queue.
    pub(crate) async fn new(request: Request<'a>) -> Result<Self, BenchError> {
        let Request { database, url, options, on_progress, .. } = request;
        let mut client = database.get().await?;
        alone(&bench::others(&client).await?)?;
        let pid = bench::backend_pid(&client).await?;
        let name = queue_name();
        let settings = QueueSettings { wake_up: options.wake_up, ..QueueSettings::default() };
        queues::create(&mut client, &name, &settings).await?;
        let catalog = catalog::load(&client).await?;
        let settings = catalog.queue(name.as_str()).cloned();
        let settings = settings.ok_or_else(|| {
            host_queue::error::QueueError::Unexpected(format!("queue {name} is not there"))
        })?;
        Ok(Self {
            database,
            options,
            queue: BenchQueue { name, id: settings.id },
            client,
            hosts: Hosts::default(),
            counters: Arc::default(),
            committed: Checksum::default(),
            url,
            on_progress,
            settings,
            interference: Interference::default(),
            leased: None,
            relay: None,
            postmaster: process::parent_of(pid.cast_unsigned(), "postgres"),
            progress: Progress::default(),
            looks: 0,
            peaks: Peaks::default(),
        })
    }

    /// Enqueues messages by COPY, as fast as it goes.
    pub(crate) async fn enqueue(
        &mut self,
        what: &'static str,
        messages: u64,
    ) -> Result<(), BenchError> {
        let producers = self.producers(&self.table()).await?;
        let before = self.counters.committed.load(Relaxed);
        let payload_bytes = self.options.payload_bytes;
        let loading = preload(producers, &self.counters, messages, payload_bytes);
        let mut loading = std::pin::pin!(loading);
        let checksum = loop {
            let done = self.counters.committed.load(Relaxed) - before;
            (self.on_progress)(what, done, messages);
            tokio::select! {
                checksum = &mut loading => break checksum?,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        };
        self.committed.merge(checksum);
        Ok(())
    }

    /// The queue's table, with its schema.
    pub(crate) fn table(&self) -> String {
        format!("queue.{}", self.queue.name)
    }

    /// As many connections that insert as there are to be producers.
    pub(crate) async fn producers(&self, table: &str) -> Result<Vec<Producer>, BenchError> {
        let mut producers = Vec::new();
        for _ in 0..self.options.producers {
            let durable = self.options.synchronous_commit;
            producers.push(Producer::connect(self.database, table, durable).await?);
        }
        Ok(producers)
    }

    /// Has the hosts lease no more; returns when they have heard of it, with their next beat.
    pub(crate) async fn pause(&self) -> Result<(), BenchError> {
        queues::set_paused(&self.client, &self.queue.name, true).await?;
        tokio::time::sleep(BEAT_EVERY * 3).await;
        Ok(())
    }

    /// Has the hosts lease again. They hear of it with their next beat.
    pub(crate) async fn resume(&self) -> Result<(), BenchError> {
        queues::set_paused(&self.client, &self.queue.name, false).await?;
        Ok(())
    }

    /// Messages that wait or are in flight, as far as is known.
    pub(crate) async fn backlog(&mut self) -> Result<u64, BenchError> {
        let settled = self.look().await?;
        Ok(self.counters.committed.load(Relaxed).saturating_sub(settled))
    }

    /// Looks at how far the hosts are: messages settled so far.
    pub(crate) async fn look(&mut self) -> Result<u64, BenchError> {
        self.hosts.check()?;
        self.interference.check()?;
        // Where messages come without end; all others are accounted for afterwards.
        let account = matches!(self.options.workload, Workload::Steady | Workload::Sweep);
        let settled = self.queue.settled(&self.client, &mut self.progress, account).await?;
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

    /// Waits until all messages are settled, or the hosts have nothing left to do.
    pub(crate) async fn wait_settled(&mut self, what: &'static str) -> Result<(), BenchError> {
        if let Some(leased) = self.leased.take() {
            leased.give_up(self.database).await?;
        }
        let all = self.counters.committed.load(Relaxed);
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
    pub(crate) fn show(&self, what: &'static str, done: u64, of: u64) {
        (self.on_progress)(what, done, of);
    }

    /// Reads all counters.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, BenchError> {
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
    pub(crate) async fn stop_hosts(&mut self) -> Result<(), BenchError> {
        (self.on_progress)("stopping", 0, 0);
        self.interference.end(&self.client, &self.queue).await?;
        self.hosts.stop().await?;
        let started = Instant::now();
        while bench::connections(&self.client).await? > 0 && started.elapsed() < STALLED {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Ends and removes everything, as far as that is possible.
    pub(crate) async fn remove(&mut self) -> Result<(), BenchError> {
        let stopped = self.hosts.stop().await;
        self.interference.clear();
        if let Some(leased) = self.leased.take() {
            leased.give_up(self.database).await?;
        }
        // A connection of its own: on the old one a question may be open that was interrupted.
        let client = self.database.connect_alone().await?.client;
        self.queue.end(&client).await?;
        queues::drop(&client, &self.queue.name, true).await?;
        stopped
    }
}

/// The name of a queue that nobody has.
fn queue_name() -> QueueName {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    format!("bench_{}", &unique[..8]).parse().expect("this is a name")
}
