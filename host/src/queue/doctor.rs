//! Looks at a database and its hosts for a diagnosis. Never says what is wrong, but for what cannot be said
//! in SQL: the clock, and a pooler.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio_postgres::types::Json;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::connect::Database;
use super::error::QueueError;
use crate::diagnosis::Facts;

/// Whether two connections that are open at once share one process of the server, as they do behind a pooler that
/// gives it to a transaction. Speaks simple queries, which every pooler passes on.
pub async fn is_pooled(database: &Database) -> Result<bool, QueueError> {
    let (a, b) = (database.connect_alone().await?, database.connect_alone().await?);
    Ok(backend(&a.client).await? == backend(&b.client).await?)
}

async fn backend(client: &Client) -> Result<Option<String>, QueueError> {
    let messages = client.simple_query("SELECT pg_backend_pid()").await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// By how many milliseconds the server's clock is ahead of this machine's, and how exactly that is known.
pub async fn clock(client: &Client) -> Result<(i64, Duration), QueueError> {
    let millis = |t: SystemTime| t.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    let (asked, started) = (SystemTime::now(), Instant::now());
    let row = client.query_one("SELECT host.server_clock()", &[]).await?;
    let trip = started.elapsed();
    let half = trip / 2;
    Ok((millis(row.try_get(0)?) - millis(asked + half), half))
}

/// Everything else.
pub async fn facts(client: &Client) -> Result<Facts, QueueError> {
    let Json(facts) = client.query_one("SELECT host.examine()", &[]).await?.try_get(0)?;
    Ok(facts)
}
