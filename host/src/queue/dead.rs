//! Dead letters: listing, trying again, deleting. Never touches a message that is alive.

use std::time::SystemTime;

use serde_json::Value;
use tokio_postgres::{Client, Row};

use super::error::QueueError;
use crate::id::MessageId;
use crate::name::QueueName;

/// A message that was given up on.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Its number among the queue's dead letters: what commands ask for.
    pub id: i64,
    /// The message's id, over all attempts.
    pub message: MessageId,
    /// The handler that gave up on it.
    pub handler: String,
    /// The kind of end.
    pub reason: String,
    /// The last attempt's error.
    pub error: String,
    /// The last attempt.
    pub attempt: i16,
    /// By the server's clock.
    pub died_at: SystemTime,
    /// When the producer's transaction began.
    pub enqueued_at: SystemTime,
}

/// Everything that is known of a dead letter.
#[derive(Clone, Debug, PartialEq)]
pub struct Details {
    /// What the list says too.
    pub letter: DeadLetter,
    /// The `headers` column.
    pub headers: Option<Value>,
    /// One entry per failed attempt, oldest first.
    pub history: Vec<Value>,
    /// As text; `\x` and hexadecimal digits if the queue's payload is bytea.
    pub payload: String,
}

/// Which dead letters are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// These.
    Ids(Vec<i64>),
    /// All, or all of a reason.
    All {
        /// The reason's name in SQL.
        reason: Option<String>,
    },
}

/// What becomes of dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Back to the queue, with all attempts before them.
    Retry,
    /// Deleted for good.
    Purge,
}

/// The newest dead letters of a queue, or of a reason.
pub async fn list(
    client: &Client,
    queue: &QueueName,
    limit: u32,
    reason: Option<&str>,
) -> Result<Vec<DeadLetter>, QueueError> {
    let call = format!("SELECT * FROM host.{queue}__dead_list($1, $2)");
    let rows = client.query(&call, &[&i64::from(limit), &reason]).await?;
    rows.iter().map(dead_letter).collect()
}

/// One dead letter with everything that is known of it, if there is one of that number.
pub async fn show(
    client: &Client,
    queue: &QueueName,
    id: i64,
) -> Result<Option<Details>, QueueError> {
    let call = format!("SELECT * FROM host.{queue}__dead_show($1)");
    let Some(row) = client.query_opt(&call, &[&id]).await? else { return Ok(None) };
    let history = match row.try_get("history")? {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    };
    Ok(Some(Details {
        letter: dead_letter(&row)?,
        headers: row.try_get("headers")?,
        history,
        payload: row.try_get("payload")?,
    }))
}

/// Retries or purges, in one transaction; says which there were.
pub async fn end(
    client: &Client,
    queue: &QueueName,
    which: &Which,
    fate: Fate,
) -> Result<Vec<i64>, QueueError> {
    let (ids, reason) = match which {
        Which::Ids(ids) => (Some(ids), None),
        Which::All { reason } => (None, reason.as_deref()),
    };
    let call = match fate {
        Fate::Retry => format!("SELECT host.{queue}__dead_retry($1, $2)"),
        Fate::Purge => format!("SELECT host.{queue}__dead_purge($1, $2)"),
    };
    let rows = client.query(&call, &[&ids, &reason]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

fn dead_letter(row: &Row) -> Result<DeadLetter, QueueError> {
    Ok(DeadLetter {
        id: row.try_get("id")?,
        message: MessageId::new(row.try_get("message_id")?),
        handler: row.try_get::<_, Option<String>>("handler")?.unwrap_or_default(),
        reason: row.try_get("reason")?,
        error: row.try_get("error")?,
        attempt: row.try_get("attempt")?,
        died_at: row.try_get("died_at")?,
        enqueued_at: row.try_get("enqueued_at")?,
    })
}
