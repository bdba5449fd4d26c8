//! Looks at a database and its hosts for a diagnosis. Never says what is wrong.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_postgres::Client;

use super::failing;
use crate::connect::Database;
use crate::error::QueueError;
use host_core::clock::millis;
use host_core::diagnosis::Facts;
use host_core::diagnosis::facts::HeldTables;

/// By how many milliseconds the server's clock is ahead of this machine's, and how exactly that is
/// known.
pub async fn clock(client: &Client) -> Result<(i64, Duration), QueueError> {
    let since_1970 = |t: SystemTime| t.duration_since(UNIX_EPOCH).map_or(0, millis);
    let (asked, started) = (SystemTime::now(), Instant::now());
    let row = client.query_one("SELECT host.server_clock()", &[]).await?;
    let trip = started.elapsed();
    let half = trip / 2;
    Ok((since_1970(row.try_get(0)?) - since_1970(asked + half), half))
}

/// From now on, what the connection does waits for no lock for long.
pub async fn wait_for_nobody(client: &Client) -> Result<(), QueueError> {
    Ok(client.batch_execute("SET lock_timeout = '2s'").await?)
}

/// The transactions that have locked whole tables, or wait to. Reads none of these tables.
pub async fn held_tables(client: &Client) -> Result<Vec<HeldTables>, QueueError> {
    let all = "SELECT to_jsonb(h) FROM host.held_tables() h";
    let rows = client.query(all, &[]).await?;
    rows.iter().map(|row| decoded(row.try_get(0)?)).collect()
}

/// Everything else.
pub async fn facts(database: &Database, client: &Client) -> Result<Facts, QueueError> {
    let row = client.query_typed_one("SELECT host.examine()", &[]).await?;
    let mut facts: Value = row.try_get(0)?;
    let (mut queues, mut names, mut locked) = (Vec::new(), Vec::new(), Vec::new());
    for row in client.query_typed(include_str!("examine.sql"), &[]).await? {
        match row.try_get(0)? {
            Value::String(name) => names.push(name),
            queue => queues.push(queue),
        }
    }
    for row in super::each(database, client, &names, "SELECT host.examine_each($1)").await? {
        match row.try_get(0)? {
            Value::String(name) => locked.push(name),
            queue => queues.push(queue),
        }
    }
    queues.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    facts["queues"] = queues.into();
    facts["locked"] = locked.into();
    facts["failing"] = encoded(failing::handlers(client).await?)?;
    facts["fresh_dead"] = encoded(failing::fresh_dead(client).await?)?;
    decoded(facts)
}

fn encoded(value: impl Serialize) -> Result<Value, QueueError> {
    serde_json::to_value(value).map_err(|e| QueueError::Unexpected(e.to_string()))
}

fn decoded<T: DeserializeOwned>(value: Value) -> Result<T, QueueError> {
    serde_json::from_value(value).map_err(|e| QueueError::Unexpected(e.to_string()))
}
