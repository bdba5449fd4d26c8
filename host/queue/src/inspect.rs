//! What there is and how it goes, for people and for machines that watch. Only reads.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tokio_postgres::types::{Json, Type};
use tokio_postgres::{Client, Row};

use super::connect::Database;
use super::error::QueueError;
use host_core::deployment::digest::Digest;
use host_core::id::SessionId;
use host_core::name::QueueName;

pub mod doctor;
pub mod failing;
pub mod shape;

/// Messages that wait, are scheduled or dead are counted as far as this.
pub const COUNT_MAX: u64 = 1_000_000;

/// Of each queue that it has looked at in full, a connection's backend remembers a megabyte for as
/// long as it lives.
const QUEUES_A_CONNECTION: usize = 100;

/// One queue, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStatus {
    /// Its name.
    pub name: String,
    /// Whether no messages are leased from it.
    pub paused: bool,
    /// Whether somebody has locked its tables, so that the numbers are not known: they are 0.
    pub locked: bool,
    /// Messages before the slowest handler; at most [`COUNT_MAX`].
    pub waiting: u64,
    /// Messages that are leased and not settled, over all handlers.
    pub in_flight: u64,
    /// Messages that are not due yet; at most [`COUNT_MAX`].
    pub scheduled: u64,
    /// Dead letters; at most [`COUNT_MAX`].
    pub dead: u64,
    /// Messages that were settled in the last minute, over all handlers.
    pub last_minute: u64,
    /// On disk, indexes included.
    pub bytes: u64,
    /// Name and version of each, as `default v3`.
    pub handlers: Vec<String>,
    /// What keeps which leaf from being truncated, in words.
    pub held: Vec<String>,
    /// Each handler's own numbers.
    pub lag: Vec<Lag>,
}

/// How far behind a handler is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Lag {
    /// Its name.
    pub handler: String,
    /// The version in force.
    pub version: i32,
    /// Whether no messages are leased for it.
    pub paused: bool,
    /// Messages before it; at most [`COUNT_MAX`].
    pub waiting: u64,
    /// Messages that are leased and not settled.
    pub in_flight: u64,
    /// Why the queue's limits let none start, at this moment.
    pub limited: Option<String>,
    /// Messages that the database did not take, or that could not be read, when they were due.
    #[serde(default)]
    pub refused: u64,
    /// Lanes that a retry holds; only of a queue that keeps an order.
    #[serde(default)]
    pub held: Option<HeldLanes>,
}

/// Lanes in which messages wait for one that is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HeldLanes {
    /// How many.
    pub lanes: u64,
    /// Until the last of them is due, in RFC 3339; `None`: there is none.
    pub until: Option<String>,
}

/// A version of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerVersion {
    /// The queue's name.
    pub queue: String,
    /// The handler's name.
    pub handler: String,
    /// From 1.
    pub version: i32,
    /// Whether this is the one that hosts are to run.
    pub in_force: bool,
    /// Whether no messages are leased for the handler.
    pub paused: bool,
    /// The component.
    pub sha256: Digest,
    /// The component's size.
    pub bytes: u64,
    /// `message` or `batch`.
    pub isolation: String,
    /// Sandboxes at once, on one host.
    pub concurrency: u32,
    /// Messages of a call, at most; `None`: it takes one message a call.
    pub batch_size: Option<u32>,
    /// The HTTP requests that it may make, as `host deploy --http` takes them.
    pub http: Vec<String>,
    /// The names of the secrets that it may ask for.
    pub secrets: Vec<String>,
    /// By the server's clock.
    pub deployed_at: SystemTime,
    /// The role that deployed it.
    pub deployed_by: String,
    /// The hosts that run it, as `name/pid`.
    pub runs_on: Vec<String>,
    /// The hosts that cannot, as `name/pid: error`.
    pub failed_on: Vec<String>,
}

/// A running host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSession {
    /// The session.
    pub id: SessionId,
    /// The machine's name.
    pub host: String,
    /// The process's number on that machine.
    pub pid: i32,
    /// The version of the program.
    pub version: String,
    /// By the server's clock.
    pub started_at: SystemTime,
    /// Whether it holds its lock: connected, so far as the server knows.
    pub connected: bool,
    /// Since its newest heartbeat; `None` before the first.
    pub beat_age: Option<Duration>,
    /// Which of its loops is overdue, as it says itself.
    pub late: Option<String>,
}

/// What one look says of all queues.
#[derive(Clone, Debug, Default)]
pub struct Glance {
    /// The idle ones, by the name.
    idle: BTreeMap<String, QueueStatus>,
    /// The names of the others, which are to be looked at in full.
    others: Vec<String>,
}

/// Has one look at all queues.
pub async fn glance(client: &Client) -> Result<Glance, QueueError> {
    let mut glance = Glance::default();
    for row in client.query_typed(include_str!("inspect/status.sql"), &[]).await? {
        let name = row.try_get("queue")?;
        match row.try_get::<_, Option<Vec<String>>>("handlers")? {
            Some(_) => drop(glance.idle.insert(name, queue_status(&row)?)),
            None => glance.others.push(name),
        }
    }
    Ok(glance)
}

/// All queues, in order of the name, once there was a look at them.
pub async fn status(
    database: &Database,
    client: &Client,
    glance: Glance,
) -> Result<Vec<QueueStatus>, QueueError> {
    let Glance { idle: mut known, others } = glance;
    let call = format!("SELECT * FROM host.status_of_each($1, {COUNT_MAX})");
    for row in each(database, client, &others, &call).await? {
        known.insert(row.try_get("queue")?, queue_status(&row)?);
    }
    Ok(known.into_values().collect())
}

/// What a function of queues' names returns, for all of them. Each connection is asked about some
/// only.
pub(super) async fn each(
    database: &Database,
    client: &Client,
    names: &[String],
    call: &str,
) -> Result<Vec<Row>, QueueError> {
    let mut chunks = names.chunks(QUEUES_A_CONNECTION);
    let Some(first) = chunks.next() else { return Ok(Vec::new()) };
    let mut rows = client.query_typed(call, &[(&first, Type::TEXT_ARRAY)]).await?;
    for some in chunks {
        let alone = database.connect_alone().await?;
        rows.extend(alone.client.query_typed(call, &[(&some, Type::TEXT_ARRAY)]).await?);
    }
    Ok(rows)
}

/// One queue.
pub async fn status_of(client: &Client, queue: &QueueName) -> Result<QueueStatus, QueueError> {
    let call = "SELECT * FROM host.status_of($1, $2)";
    queue_status(&client.query_one(call, &[&queue.as_str(), &(COUNT_MAX as i32)]).await?)
}

/// The handlers with something to do now, as `queue/handler`, but for those that are paused.
pub async fn unfinished(client: &Client) -> Result<Vec<String>, QueueError> {
    let rows = client.query_typed("SELECT * FROM host.unfinished()", &[]).await?;
    let name = |row: &tokio_postgres::Row| {
        let (queue, handler): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        Ok(format!("{queue}/{handler}"))
    };
    rows.iter().map(name).collect()
}

/// All versions of all handlers: by queue and name, the newest first.
pub async fn handlers(client: &Client) -> Result<Vec<HandlerVersion>, QueueError> {
    let rows = client.query_typed("SELECT * FROM host.handlers()", &[]).await?;
    rows.iter().map(handler_version).collect()
}

/// The sessions that have not ended, in order of their start.
pub async fn sessions(client: &Client) -> Result<Vec<ListedSession>, QueueError> {
    let rows = client.query_typed("SELECT * FROM host.sessions()", &[]).await?;
    rows.iter().map(session).collect()
}

fn unsigned(row: &Row, column: &str) -> Result<u64, QueueError> {
    Ok(row.try_get::<_, Option<i64>>(column)?.unwrap_or_default().max(0) as u64)
}

fn queue_status(row: &Row) -> Result<QueueStatus, QueueError> {
    Ok(QueueStatus {
        name: row.try_get("queue")?,
        paused: row.try_get("paused")?,
        locked: row.try_get::<_, Option<i64>>("waiting")?.is_none(),
        waiting: unsigned(row, "waiting")?,
        in_flight: unsigned(row, "in_flight")?,
        scheduled: unsigned(row, "scheduled")?,
        dead: unsigned(row, "dead")?,
        last_minute: unsigned(row, "last_minute")?,
        bytes: unsigned(row, "bytes")?,
        handlers: row.try_get("handlers")?,
        held: row.try_get("held")?,
        lag: row.try_get::<_, Json<_>>("lag")?.0,
    })
}

fn handler_version(row: &Row) -> Result<HandlerVersion, QueueError> {
    let sha256: String = row.try_get("sha256")?;
    Ok(HandlerVersion {
        queue: row.try_get("queue")?,
        handler: row.try_get("handler")?,
        version: row.try_get("version")?,
        in_force: row.try_get("in_force")?,
        paused: row.try_get("paused")?,
        sha256: sha256.parse().map_err(|e| QueueError::Unexpected(format!("{e}")))?,
        bytes: unsigned(row, "size_bytes")?,
        isolation: row.try_get("isolation")?,
        concurrency: row.try_get::<_, i32>("concurrency")? as u32,
        batch_size: row.try_get::<_, Option<i32>>("batch_size")?.map(i32::cast_unsigned),
        http: row.try_get("http")?,
        secrets: row.try_get("secrets")?,
        deployed_at: row.try_get("deployed_at")?,
        deployed_by: row.try_get("deployed_by")?,
        runs_on: row.try_get("runs_on")?,
        failed_on: row.try_get("failed_on")?,
    })
}

fn session(row: &Row) -> Result<ListedSession, QueueError> {
    let beat_age_ms: Option<i64> = row.try_get("beat_age_ms")?;
    Ok(ListedSession {
        id: SessionId::new(row.try_get("id")?),
        host: row.try_get("host_name")?,
        pid: row.try_get("pid")?,
        version: row.try_get("host_version")?,
        started_at: row.try_get("started_at")?,
        connected: row.try_get("connected")?,
        beat_age: beat_age_ms.map(|ms| Duration::from_millis(ms.max(0) as u64)),
        late: row.try_get("late")?,
    })
}
