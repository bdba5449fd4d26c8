//! Everything that comes before the measured time: the queue's settings, its handlers, hosts that
//! have warmed up, and the state that a run starts in.

use std::ffi::OsString;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::hosts::Mark;
use super::leased::Leased;
use crate::environment::Environment;
use crate::error::BenchError;
use crate::guest::Guest;
use crate::options::Disturbance;
use host_core::limits::{BATCH_SIZE_DEFAULT, Isolation, Limits, TIMEOUT};
use host_core::name::HandlerName;
use host_queue::admin::deployments::{Component, Deployed, NewVersion};
use host_queue::bench::load::Producer;
use host_queue::bench::relay::Relay;
use host_queue::catalog::Settings;
use host_server::deploy;

/// Messages that are worked off before anything is measured: caches and plans are warm then.
const WARM_UP: u64 = 5_000;
/// How long the stuck handler waits: longer than any message may take.
const STUCK: Duration = Duration::from_hours(1);
/// How long a host may take to load a handler.
const LOAD_WITHIN: Duration = Duration::from_mins(1);

impl Environment<'_> {
    /// Deploys the handler, starts the hosts, has them work off some messages, puts up what is to
    /// be there at the start, and gets in their way. With messages that wait, the queue is paused
    /// after.
    pub(crate) async fn prepare(
        &mut self,
        guest: Guest,
        marks: Option<mpsc::UnboundedSender<Mark>>,
    ) -> Result<(), BenchError> {
        self.queue.begin_account(&self.client).await?;
        let guest = self.options.wait.map_or(guest, Guest::Wait);
        let own = self.options.handler.clone().unwrap_or_else(|| guest.component());
        let mut deployed = vec![self.deploy("default", own).await?];
        if self.options.interference.contains(&Disturbance::Handler) {
            deployed.push(self.deploy("stuck", Guest::Wait(STUCK).component()).await?);
        }
        let concurrency = self.options.concurrency.max(256).to_string();
        let args = ["--drain", "1s", "--concurrency", &concurrency].map(OsString::from);
        let relay = match self.options.round_trip {
            Some(round_trip) => Some(Relay::start(self.url, round_trip).await?),
            None => None,
        };
        let url = relay.as_ref().map_or(self.url, Relay::url);
        for _ in 0..self.options.hosts {
            self.hosts.start(&self.options.program, url, &args, marks.clone())?;
        }
        self.relay = relay;
        for version in deployed {
            self.wait_loaded(version).await?;
        }
        self.enqueue("warming up", WARM_UP + self.options.settled).await?;
        self.wait_settled("warming up").await?;
        self.put_off(self.options.scheduled).await?;
        self.interference
            .begin(self.database, &self.client, &self.queue, &self.options.interference)
            .await?;
        if self.options.waiting + self.options.leased > 0 {
            self.pause().await?;
            self.enqueue("preloading", self.options.leased).await?;
            self.leased = Leased::take(self.database, &self.queue, self.options.leased).await?;
            self.enqueue("preloading", self.options.waiting).await?;
        }
        Ok(())
    }

    /// Enqueues messages that come after the run, and waits until they are on the schedule.
    async fn put_off(&mut self, messages: u64) -> Result<(), BenchError> {
        if messages == 0 {
            return Ok(());
        }
        let table = self.table();
        Producer::connect(self.database, &table, true).await?.schedule(messages).await?;
        // Not in the checksum: they are not delivered. Their positions are settled, though.
        self.counters.committed.fetch_add(messages, Relaxed);
        self.wait_settled("scheduling").await
    }

    async fn deploy(&self, handler: &str, wasm: Vec<u8>) -> Result<Deployed, BenchError> {
        let name: HandlerName = handler.parse().expect("these are names");
        let stuck = handler != "default";
        let mut settings = Settings {
            limits: Limits { timeout: *TIMEOUT.end(), ..Limits::default() },
            isolation: if stuck { Isolation::Message } else { self.options.isolation },
            concurrency: if stuck { 1 } else { self.options.concurrency },
            ..Settings::default()
        };
        let checked = deploy::check(&wasm, &settings).await?;
        settings.batch_size = checked.takes_batches.then_some(BATCH_SIZE_DEFAULT);
        let new = NewVersion {
            queue: &self.settings.name,
            handler: &name,
            component: Component::Uploaded(&wasm),
            settings: &settings,
            made_from: None,
            from_now: false,
        };
        Ok(deploy::store(&self.database.get().await?, &new, None).await?.deployed)
    }

    async fn wait_loaded(&mut self, version: Deployed) -> Result<(), BenchError> {
        let started = Instant::now();
        loop {
            self.show("starting hosts", 0, self.hosts.count() as u64);
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
}
