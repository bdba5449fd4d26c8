//! Fires cron entries when they are due. Every host tries; the database lets one. Its clock says
//! what is due: the host's own only measures how long to sleep.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::watch;

use host_core::clock::ClockWatch;
use host_core::cron::{Missed, Schedule};
use host_core::health::progress::Watch;
use host_queue::connect::{Database, Pooled};
use host_queue::cron::{self, Due};
use host_queue::error::QueueError;

/// Entries that are fired together.
const TOGETHER_MAX: i32 = 100;
/// The longest sleep, should the database's clock be set.
const SLEEP_MAX: Duration = Duration::from_mins(1);
/// How long to wait when the database does not answer.
const UNAVAILABLE_AGAIN: Duration = Duration::from_secs(1);
/// How long an entry is let be that could not be fired.
const FAILED_AGAIN: Duration = Duration::from_secs(10);

/// The loop of one host.
pub(super) struct CronLoop {
    database: Database,
    /// Changes when an entry is added, resumed or replaced.
    catalog_changed: watch::Receiver<i64>,
    watch: Watch,
    /// The database's clock, beside this machine's.
    clock: ClockWatch,
}

impl CronLoop {
    pub(super) fn new(
        database: Database,
        catalog_changed: watch::Receiver<i64>,
        watch: Watch,
    ) -> Self {
        Self { database, catalog_changed, watch, clock: ClockWatch::default() }
    }

    /// Goes on until dropped.
    pub(super) async fn run(mut self) -> Infallible {
        loop {
            // Before the look: what changes meanwhile is looked at again.
            self.catalog_changed.borrow_and_update();
            let at_gates = self.watch.at_gates();
            let fired = match follow_clock(&self.database, &mut self.clock).await {
                Ok(()) => self.fire_due().await,
                Err(error) => Err(error),
            };
            drop(at_gates);
            let sleep = match fired {
                Ok(sleep) => sleep.min(SLEEP_MAX),
                Err(error) => {
                    tracing::debug!(%error, "cannot look at cron entries now");
                    UNAVAILABLE_AGAIN
                }
            };
            self.watch.round_after(sleep);
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                Ok(()) = self.catalog_changed.changed() => {}
            }
        }
    }

    /// Fires what is due; says when the next is.
    async fn fire_due(&self) -> Result<Duration, QueueError> {
        loop {
            let client = self.database.get().await?;
            let mut entries = client.ask(cron::look(&client, TOGETHER_MAX)).await?;
            let next = entries.iter().find(|e| !e.due_in.is_zero()).map(|e| e.due_in);
            entries.retain(|entry| entry.due_in.is_zero());
            if entries.is_empty() {
                return Ok(next.unwrap_or(SLEEP_MAX));
            }
            // In no order of ours, so that hosts which wake together do not all begin with the
            // same.
            fastrand::shuffle(&mut entries);
            // Sent together, each a transaction of its own: one that fails stops no other.
            let firing = join_all(entries.iter().map(|entry| fire(&client, entry)));
            let fired = async { firing.await.into_iter().collect::<Result<(), _>>() };
            client.ask(fired).await?;
        }
    }
}

/// Says so when the database's clock was set back, and has entries follow it.
async fn follow_clock(database: &Database, clock: &mut ClockWatch) -> Result<(), QueueError> {
    let client = database.get().await?;
    let look = async { Ok((cron::now(&client).await?, cron::ahead(&client).await?)) };
    let (now, ahead) = client.ask(look).await?;
    if let Some(step) = clock.note(now, Instant::now()) {
        let step = humantime::format_duration(Duration::from_secs(step.as_secs()));
        tracing::warn!(%step, "the database's clock was set back: what the old clock promoted or fired stays; the new clock decides the rest");
    }
    for entry in &ahead {
        let schedule = Schedule::parse(&entry.schedule, &entry.time_zone).ok();
        // What cannot be read fails when it is due, and says why.
        let then = schedule.and_then(|s| s.after_set_back(entry.next_at, entry.now));
        if let Some(then) = then
            && client.ask(cron::set_back(&client, entry, then)).await?
        {
            tracing::info!(cron = entry.name, "a cron entry follows the clock, which was set back");
        }
    }
    Ok(())
}

async fn fire(client: &Pooled, entry: &Due) -> Result<(), QueueError> {
    let why = match firing_of(client, entry).await {
        Ok(()) => return Ok(()),
        Err(Failed::Passing(error)) => return Err(error),
        Err(Failed::Noted(why)) => why,
    };
    if cron::failed(client, entry, &why, FAILED_AGAIN).await? {
        let name = &entry.name;
        tracing::warn!(cron = name, error = why, "a cron entry cannot be fired; trying again");
    }
    Ok(())
}

/// Why an entry was not fired.
enum Failed {
    /// The database was in the way.
    Passing(QueueError),
    /// Something that its operator should know.
    Noted(String),
}

async fn firing_of(client: &Pooled, entry: &Due) -> Result<(), Failed> {
    // One that makes no sense is noted as any other failure, and stops no other entry.
    let no_policy = || Failed::Noted(format!("no policy for missed firings: {:?}", entry.missed));
    let missed = Missed::from_name(&entry.missed).ok_or_else(no_policy)?;
    let firing = Schedule::parse(&entry.schedule, &entry.time_zone)
        .and_then(|schedule| schedule.firing(missed, entry.next_at, entry.now))
        .map_err(|error| Failed::Noted(error.to_string()))?;
    match cron::fire(client, entry, &firing).await {
        Ok(true) => {
            let messages = firing.times.len();
            tracing::debug!(cron = entry.name, messages, "cron entry fired");
            Ok(())
        }
        Ok(false) => Ok(()),
        Err(error) if error.is_passing() => Err(Failed::Passing(error)),
        Err(error) => Err(Failed::Noted(error.to_string())),
    }
}
