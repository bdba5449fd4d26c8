//! Single messages of a queue, for an operator: looking at them, cancelling them, purging those
//! that wait. Never on the way of a message: each call reads the queue once through.

use std::time::SystemTime;

use serde_json::Value;
use tokio_postgres::{Client, Row};

use super::unique::key_of;
use crate::error::QueueError;
use crate::json;
use host_core::id::{HandlerId, MessageId};
use host_core::name::QueueName;

/// Messages that one transaction of a purge removes.
const PURGE_MAX: i32 = 10_000;

/// A message that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// Its id, over all attempts.
    pub id: MessageId,
    /// When the producer's transaction began.
    pub enqueued_at: SystemTime,
    /// Not before then.
    pub run_at: Option<SystemTime>,
    /// The attempt that it waits for.
    pub attempt: i16,
    /// The `headers` column.
    pub headers: Option<Value>,
    /// As text; `\x` and hexadecimal digits if the queue's payload is bytea.
    pub payload: String,
}

/// A message on the schedule: a retry, or one that was enqueued for later.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduled {
    /// Its id, over all attempts.
    pub id: MessageId,
    /// When the producer's transaction began.
    pub enqueued_at: SystemTime,
    /// When it may run.
    pub due: SystemTime,
    /// The handler that retries it; `None`: it is for all.
    pub handler: Option<String>,
    /// The attempt that it waits for.
    pub attempt: i16,
    /// What became of the attempt before.
    pub error: Option<String>,
    /// Its key.
    pub key: Option<String>,
    /// The `headers` column.
    pub headers: Option<Value>,
    /// As [`Waiting::payload`].
    pub payload: String,
}

/// A message of the history: one that a handler is done with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Its id, over all attempts.
    pub id: MessageId,
    /// The handler's name.
    pub handler: String,
    /// When the producer's transaction began.
    pub enqueued_at: SystemTime,
    /// When it was settled.
    pub settled_at: SystemTime,
    /// An operator has removed it.
    pub removed: bool,
    /// The attempt that was the last.
    pub attempt: i16,
    /// The `headers` column.
    pub headers: Option<Value>,
    /// As text; `\x` and hexadecimal digits if the queue's payload is bytea.
    pub payload: String,
    /// What the handler has left as the result.
    pub result: Option<Vec<u8>>,
}

/// A message, wherever it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// When the producer's transaction began.
    pub enqueued_at: SystemTime,
    /// The `headers` column.
    pub headers: Option<Value>,
    /// As text; `\x` and hexadecimal digits if the queue's payload is bytea.
    pub payload: String,
    /// Its unique key, while the register has it.
    pub unique_key: Option<String>,
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A host has it.
    InFlight,
    /// On the queue.
    Waiting,
    /// On the schedule.
    Scheduled,
    /// Among the dead letters.
    Dead,
    /// An operator has removed it.
    Removed,
    /// Done.
    Settled,
}

/// Where a message is for one handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// The handler's name.
    pub handler: String,
    /// Where.
    pub state: State,
    /// Since when; of what is scheduled, until when.
    pub at: Option<SystemTime>,
    /// The host that has it, or the dead letter's number.
    pub whose: Option<String>,
    /// The attempt that is or was the last.
    pub attempt: i16,
    /// It will be removed when the handler meets it.
    pub cancelled: bool,
    /// What the handler has left as the result.
    pub result: Option<Vec<u8>>,
}

/// Something that happened to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// By the server's clock, or for what failed, by a host's.
    pub at: SystemTime,
    /// To whom it happened; `None`: to the message.
    pub handler: Option<String>,
    /// On which attempt.
    pub attempt: Option<i16>,
    /// In words.
    pub what: String,
}

/// What a purge has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Messages settled without being run.
    pub removed: u64,
    /// Messages that are not due yet, now on the schedule.
    pub parked: u64,
}

impl State {
    const ALL: [Self; 6] =
        [Self::InFlight, Self::Waiting, Self::Scheduled, Self::Dead, Self::Removed, Self::Settled];

    /// The name in SQL and for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InFlight => "in flight",
            Self::Waiting => "waiting",
            Self::Scheduled => "scheduled",
            Self::Dead => "dead",
            Self::Removed => "removed",
            Self::Settled => "settled",
        }
    }

    /// Whether there is something left to run, and so to cancel.
    #[must_use]
    pub const fn is_alive(self) -> bool {
        matches!(self, Self::InFlight | Self::Waiting | Self::Scheduled)
    }
}

/// The next messages of a handler, as it will lease them; without one, the oldest.
pub async fn peek(
    client: &Client,
    queue: &QueueName,
    handler: Option<HandlerId>,
    limit: u32,
) -> Result<Vec<Waiting>, QueueError> {
    let call = format!("SELECT * FROM host.{queue}__peek($1, $2)");
    let rows = client.query(&call, &[&handler.map(HandlerId::get), &limit.cast_signed()]).await?;
    rows.iter().map(waiting).collect()
}

/// The next messages on the schedule, of one handler or of all, in the order in which they are due.
pub async fn scheduled(
    client: &Client,
    queue: &QueueName,
    handler: Option<HandlerId>,
    limit: u32,
) -> Result<Vec<Scheduled>, QueueError> {
    let call = format!("SELECT * FROM host.{queue}__peek_scheduled($1, $2)");
    let rows = client.query(&call, &[&handler.map(HandlerId::get), &limit.cast_signed()]).await?;
    rows.iter().map(scheduled_of).collect()
}

/// The messages of a queue's history, of one handler or of all, the last settled first.
pub async fn settled(
    client: &Client,
    queue: &QueueName,
    handler: Option<HandlerId>,
    limit: u32,
) -> Result<Vec<Settled>, QueueError> {
    let call = format!("SELECT * FROM host.{queue}__settled($1, $2)");
    let rows = client.query(&call, &[&handler.map(HandlerId::get), &limit.cast_signed()]).await?;
    rows.iter().map(settled_of).collect()
}

/// The message of that id, if anything of it is kept.
pub async fn find(
    client: &Client,
    queue: &QueueName,
    id: MessageId,
) -> Result<Option<Found>, QueueError> {
    let call = format!("SELECT * FROM host.{queue}__message($1)");
    let Some(row) = client.query_opt(&call, &[&id.get()]).await? else { return Ok(None) };
    let unique_key = key_of(client, queue, id).await?;
    Ok(Some(Found {
        enqueued_at: row.try_get("enqueued_at")?,
        headers: json::optional(&row, "headers")?,
        payload: row.try_get("payload")?,
        unique_key,
    }))
}

/// Where a message is, for each handler that it is known for.
pub async fn whereabouts(
    client: &Client,
    queue: &QueueName,
    id: MessageId,
) -> Result<Vec<Whereabouts>, QueueError> {
    let call = format!("SELECT * FROM host.{queue}__whereabouts($1)");
    let rows = client.query(&call, &[&id.get()]).await?;
    rows.iter().map(whereabouts_of).collect()
}

/// What happened to a message, as far as it is kept; what is still to come is at the end.
pub async fn story(
    client: &Client,
    queue: &QueueName,
    id: MessageId,
) -> Result<Vec<Event>, QueueError> {
    let call = format!("SELECT * FROM host.{queue}__story($1)");
    let rows = client.query(&call, &[&id.get()]).await?;
    let event = |row: &Row| {
        Ok(Event {
            at: row.try_get("at")?,
            handler: row.try_get("handler")?,
            attempt: row.try_get("attempt")?,
            what: row.try_get("what")?,
        })
    };
    rows.iter().map(event).collect()
}

/// Has every handler that is still to run a message remove it instead. Says how many there are.
pub async fn cancel(client: &Client, queue: &QueueName, id: MessageId) -> Result<u64, QueueError> {
    let call = format!("SELECT host.{queue}__cancel($1)");
    let handlers: i64 = client.query_one(&call, &[&id.get()]).await?.try_get(0)?;
    Ok(handlers.cast_unsigned())
}

/// Forgets that a message was cancelled for handlers that are done with it all the same.
pub async fn forget_cancelled(
    client: &Client,
    queue: &QueueName,
    id: MessageId,
) -> Result<(), QueueError> {
    let call = format!("SELECT host.{queue}__forget_cancelled($1)");
    client.execute(&call, &[&id.get()]).await?;
    Ok(())
}

/// Removes messages that wait for a handler in a lane, in one transaction. True: there are more.
pub async fn purge_some(
    client: &Client,
    queue: &QueueName,
    handler: HandlerId,
    lane: u16,
    purged: &mut Purged,
) -> Result<bool, QueueError> {
    let call = format!("SELECT * FROM host.{queue}__purge($1, $2, $3)");
    let lane = i32::from(lane);
    let row = client.query_one(&call, &[&handler.get(), &lane, &PURGE_MAX]).await?;
    purged.removed += u64::from(row.try_get::<_, i32>("removed")?.cast_unsigned());
    purged.parked += u64::from(row.try_get::<_, i32>("parked")?.cast_unsigned());
    Ok(row.try_get("more")?)
}

fn waiting(row: &Row) -> Result<Waiting, QueueError> {
    Ok(Waiting {
        id: MessageId::new(row.try_get("id")?),
        enqueued_at: row.try_get("enqueued_at")?,
        run_at: row.try_get("run_at")?,
        attempt: row.try_get("attempt")?,
        headers: json::optional(row, "headers")?,
        payload: row.try_get("payload")?,
    })
}

fn scheduled_of(row: &Row) -> Result<Scheduled, QueueError> {
    Ok(Scheduled {
        id: MessageId::new(row.try_get("id")?),
        enqueued_at: row.try_get("enqueued_at")?,
        due: row.try_get("due")?,
        handler: row.try_get("handler")?,
        attempt: row.try_get("attempt")?,
        error: row.try_get("error")?,
        key: row.try_get("key")?,
        headers: json::optional(row, "headers")?,
        payload: row.try_get("payload")?,
    })
}

fn settled_of(row: &Row) -> Result<Settled, QueueError> {
    Ok(Settled {
        id: MessageId::new(row.try_get("id")?),
        handler: row.try_get("handler")?,
        enqueued_at: row.try_get("enqueued_at")?,
        settled_at: row.try_get("settled_at")?,
        removed: row.try_get("removed")?,
        attempt: row.try_get("attempt")?,
        headers: json::optional(row, "headers")?,
        payload: row.try_get("payload")?,
        result: row.try_get("result")?,
    })
}

fn whereabouts_of(row: &Row) -> Result<Whereabouts, QueueError> {
    let name: String = row.try_get("state")?;
    let state = State::ALL.into_iter().find(|state| state.name() == name);
    Ok(Whereabouts {
        handler: row.try_get("handler")?,
        state: state.ok_or_else(|| QueueError::Unexpected(format!("no state {name:?}")))?,
        at: row.try_get("at")?,
        whose: row.try_get("whose")?,
        attempt: row.try_get("attempt")?,
        cancelled: row.try_get("cancelled")?,
        result: row.try_get("result")?,
    })
}
