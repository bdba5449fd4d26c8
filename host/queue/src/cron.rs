//! Cron entries as the database keeps them. When one is due is said by the database's clock, and
//! that each of its times comes to pass once by its functions; which times there are, by
//! `host_core::cron`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tokio_postgres::types::Json;
use tokio_postgres::{Client, Row};

use super::error::QueueError;
use host_core::clock::millis;
use host_core::cron::{Firing, Missed};
use host_core::id::{CronId, MessageId};
use host_core::message::check_headers;
use host_core::name::{CronName, QueueName};

/// An entry to be.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// Its name.
    pub name: CronName,
    /// Where it enqueues.
    pub queue: QueueName,
    /// The pattern.
    pub schedule: String,
    /// The time zone of the pattern.
    pub time_zone: String,
    /// What becomes of missed firings.
    pub missed: Missed,
    /// What it enqueues.
    pub payload: Vec<u8>,
    /// The `headers` column, but for those that name the entry and the time.
    pub headers: BTreeMap<String, String>,
    /// When it fires first.
    pub next_at: SystemTime,
}

impl NewEntry {
    /// Says why no firing could store the headers, if none could.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check_headers(&self) -> Result<(), String> {
        let pairs = self.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        // What a firing adds, at its longest.
        let at = "2030-01-31T08:00:00.000001Z".to_owned();
        let own = [("cron".to_owned(), self.name.to_string()), ("cron-at".to_owned(), at)];
        check_headers(&pairs.chain(own).collect::<Vec<_>>())
    }
}

/// What an entry is set to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntrySettings {
    /// Where it enqueues.
    pub queue: String,
    /// The pattern.
    pub schedule: String,
    /// The time zone of the pattern.
    pub time_zone: String,
    /// What becomes of missed firings.
    pub missed: String,
    /// What it enqueues.
    pub payload: Vec<u8>,
    /// The `headers` column, but for those that name the entry and the time.
    pub headers: BTreeMap<String, String>,
}

/// An entry, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Where it enqueues.
    pub queue: String,
    /// The pattern.
    pub schedule: String,
    /// The time zone of the pattern.
    pub time_zone: String,
    /// What becomes of missed firings: `skip`, `one` or `all`.
    pub missed: String,
    /// Whether it does not fire.
    pub paused: bool,
    /// When it fires next, unless it is paused.
    pub next_at: SystemTime,
    /// When it last enqueued.
    pub fired_at: Option<SystemTime>,
    /// Messages that it has enqueued.
    pub messages: u64,
    /// Why it could not enqueue when it was due.
    pub error: Option<String>,
}

/// An entry that is due, or will be.
#[derive(Clone, Debug)]
pub struct Due {
    /// The entry.
    pub id: CronId,
    /// Its name.
    pub name: String,
    /// The pattern.
    pub schedule: String,
    /// The time zone of the pattern.
    pub time_zone: String,
    /// What becomes of missed firings: `skip`, `one` or `all`.
    pub missed: String,
    /// When it was, or is, to fire.
    pub next_at: SystemTime,
    /// The database's clock.
    pub now: SystemTime,
    /// How long until it is due; zero: it is.
    pub due_in: Duration,
}

/// The database's clock.
pub async fn now(client: &Client) -> Result<SystemTime, QueueError> {
    Ok(client.query_one("SELECT clock_timestamp()", &[]).await?.try_get(0)?)
}

/// Adds an entry. Returns false if there is an entry of that name and it may not be replaced.
pub async fn add(client: &Client, entry: &NewEntry, replace: bool) -> Result<bool, QueueError> {
    let added = client
        .execute(
            "SELECT host.cron_add($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            &[
                &entry.name.as_str(),
                &entry.queue.as_str(),
                &entry.schedule,
                &entry.time_zone,
                &entry.missed.name(),
                &entry.payload,
                &Json(&entry.headers),
                &entry.next_at,
                &replace,
            ],
        )
        .await;
    match added.map_err(QueueError::from) {
        Ok(_) => Ok(true),
        Err(error) if error.is_refused_with("23505") => Ok(false),
        Err(error) => Err(error),
    }
}

/// All entries, in order of the name.
pub async fn list(client: &Client) -> Result<Vec<Entry>, QueueError> {
    let rows = client.query_typed("SELECT * FROM host.cron_list()", &[]).await?;
    rows.iter().map(entry).collect()
}

/// What each entry is set to do and whether it is paused, by its name.
pub async fn settings(
    client: &Client,
) -> Result<BTreeMap<String, (EntrySettings, bool)>, QueueError> {
    let rows = client.query_typed(include_str!("cron/settings.sql"), &[]).await?;
    let entry = |row: &Row| {
        let Json(headers) = row.try_get("headers")?;
        let settings = EntrySettings {
            queue: row.try_get("queue")?,
            schedule: row.try_get("schedule")?,
            time_zone: row.try_get("time_zone")?,
            missed: row.try_get("missed")?,
            payload: row.try_get("payload")?,
            headers,
        };
        Ok((row.try_get("name")?, (settings, row.try_get("paused")?)))
    };
    rows.iter().map(entry).collect()
}

/// Keeps an entry from firing. False: it was paused before, or there is none.
pub async fn pause(client: &Client, name: &str) -> Result<bool, QueueError> {
    Ok(client.query_one("SELECT host.cron_pause($1)", &[&name]).await?.try_get(0)?)
}

/// Lets an entry fire again, first at `next_at`. False: it was not paused, or there is none.
pub async fn resume(client: &Client, name: &str, next_at: SystemTime) -> Result<bool, QueueError> {
    Ok(client.query_one("SELECT host.cron_resume($1, $2)", &[&name, &next_at]).await?.try_get(0)?)
}

/// Removes an entry. False: there is none.
pub async fn remove(client: &Client, name: &str) -> Result<bool, QueueError> {
    Ok(client.query_one("SELECT host.cron_remove($1)", &[&name]).await?.try_get(0)?)
}

/// Enqueues an entry's message now, whatever its schedule. `None`: there is no such entry.
pub async fn run(client: &Client, name: &str) -> Result<Option<MessageId>, QueueError> {
    let id: Option<i64> =
        client.query_one("SELECT host.cron_run($1)", &[&name]).await?.try_get(0)?;
    Ok(id.map(MessageId::new))
}

/// The entries that are due first, at most `limit`; those that are due already come first.
pub async fn look(client: &Client, limit: i32) -> Result<Vec<Due>, QueueError> {
    let rows = client.query("SELECT * FROM host.cron_look($1)", &[&limit]).await?;
    rows.iter().map(due).collect()
}

/// The entries that have fired in what is now the future: the clock was set back.
pub async fn ahead(client: &Client) -> Result<Vec<Due>, QueueError> {
    let rows = client.query("SELECT * FROM host.cron_ahead()", &[]).await?;
    rows.iter().map(due).collect()
}

/// Has an entry fire at `then`, earlier than it was to. False: another host has done so.
pub async fn set_back(client: &Client, entry: &Due, then: SystemTime) -> Result<bool, QueueError> {
    let call = "SELECT host.cron_set_back($1, $2, $3)";
    Ok(client.query_one(call, &[&entry.id.get(), &entry.next_at, &then]).await?.try_get(0)?)
}

/// Fires an entry that is due, once, however many hosts do this. False: another was faster.
pub async fn fire(client: &Client, due: &Due, firing: &Firing) -> Result<bool, QueueError> {
    let call = "SELECT host.cron_fire($1, $2, $3, $4)";
    let row =
        client.query_one(call, &[&due.id.get(), &due.next_at, &firing.times, &firing.then]).await?;
    Ok(row.try_get(0)?)
}

/// Notes why an entry could not be fired; it is let be for `wait`. True: it is the first
/// time since it last could.
pub async fn failed(
    client: &Client,
    due: &Due,
    error: &str,
    wait: Duration,
) -> Result<bool, QueueError> {
    let call = "SELECT host.cron_failed($1, $2, $3, $4)";
    let wait_ms = millis(wait);
    let row = client.query_one(call, &[&due.id.get(), &due.next_at, &error, &wait_ms]).await?;
    Ok(row.try_get(0)?)
}

fn entry(row: &Row) -> Result<Entry, QueueError> {
    Ok(Entry {
        name: row.try_get("name")?,
        queue: row.try_get("queue")?,
        schedule: row.try_get("schedule")?,
        time_zone: row.try_get("time_zone")?,
        missed: row.try_get("missed")?,
        paused: row.try_get("paused")?,
        next_at: row.try_get("next_at")?,
        fired_at: row.try_get("fired_at")?,
        messages: row.try_get::<_, i64>("messages")?.cast_unsigned(),
        error: row.try_get("error")?,
    })
}

fn due(row: &Row) -> Result<Due, QueueError> {
    let in_ms: i64 = row.try_get("in_ms")?;
    Ok(Due {
        id: CronId::new(row.try_get("id")?),
        name: row.try_get("name")?,
        schedule: row.try_get("schedule")?,
        time_zone: row.try_get("time_zone")?,
        missed: row.try_get("missed")?,
        next_at: row.try_get("next_at")?,
        now: row.try_get("now")?,
        due_in: Duration::from_millis(in_ms.max(0).cast_unsigned()),
    })
}
