//! Dead letters: listing, trying again, moving, deleting. Never touches a message that is alive.

use std::time::SystemTime;

use serde_json::Value;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use crate::error::QueueError;
use crate::json;
use host_core::filter::Filter;
use host_core::id::MessageId;
use host_core::name::QueueName;

/// A message that was given up on.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Its number among the queue's dead letters: what commands ask for.
    pub id: i64,
    /// The message's id, over all attempts.
    pub message: MessageId,
    /// The handler that gave up on it; `None`: it was removed.
    pub handler: Option<String>,
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

/// Selects dead letters: those that match everything that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// By number.
    pub ids: Option<Vec<i64>>,
    /// By what is known of them.
    pub filter: Option<Filter>,
}

impl Which {
    fn jsonpath(&self) -> Option<&str> {
        self.filter.as_ref().map(Filter::jsonpath)
    }
}

/// What becomes of dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Back to the queue, with all attempts before them. Those of removed handlers stay.
    Retry,
    /// To another queue, as new messages.
    Move(QueueName),
    /// Deleted for good.
    Purge,
}

/// The newest of those that are meant; without a limit, all.
pub async fn list(
    client: &Client,
    queue: &QueueName,
    which: &Which,
    limit: Option<u32>,
) -> Result<Vec<DeadLetter>, QueueError> {
    let call = format!("SELECT * FROM host.{queue}__dead_list($1, $2, $3::text::jsonpath)");
    let limit = limit.map(i64::from);
    let rows = client
        .query_typed(
            &call,
            &[
                (&limit, Type::INT8),
                (&which.ids, Type::INT8_ARRAY),
                (&which.jsonpath(), Type::TEXT),
            ],
        )
        .await?;
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
    let history = match json::optional(&row, "history")? {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    };
    Ok(Some(Details {
        letter: dead_letter(&row)?,
        headers: json::optional(&row, "headers")?,
        history,
        payload: row.try_get("payload")?,
    }))
}

/// The numbers of those that are meant.
pub async fn ids(
    client: &Client,
    queue: &QueueName,
    which: &Which,
) -> Result<Vec<i64>, QueueError> {
    let call = format!("SELECT host.{queue}__dead_ids($1, $2::text::jsonpath) ORDER BY 1");
    let rows = client.query(&call, &[&which.ids, &which.jsonpath()]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Retries, moves or purges, in one transaction; says which there were.
pub async fn end(
    client: &Client,
    queue: &QueueName,
    which: &Which,
    fate: &Fate,
) -> Result<Vec<i64>, QueueError> {
    let (ids, jsonpath) = (&which.ids, which.jsonpath());
    let call = |what: &str, more: &str| {
        format!("SELECT host.{queue}__dead_{what}($1, $2::text::jsonpath{more})")
    };
    let rows = match fate {
        Fate::Retry => client.query(&call("retry", ""), &[ids, &jsonpath]).await?,
        Fate::Purge => client.query(&call("purge", ""), &[ids, &jsonpath]).await?,
        Fate::Move(to) => {
            client.query(&call("move", ", $3"), &[ids, &jsonpath, &to.as_str()]).await?
        }
    };
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

fn dead_letter(row: &Row) -> Result<DeadLetter, QueueError> {
    Ok(DeadLetter {
        id: row.try_get("id")?,
        message: MessageId::new(row.try_get("message_id")?),
        handler: row.try_get("handler")?,
        reason: row.try_get("reason")?,
        error: row.try_get("error")?,
        attempt: row.try_get("attempt")?,
        died_at: row.try_get("died_at")?,
        enqueued_at: row.try_get("enqueued_at")?,
    })
}
