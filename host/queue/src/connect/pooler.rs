//! Whether there is a pooler in between that gives a connection of the server's to a transaction,
//! not to a session. Through such a one a host cannot hold its session's lock, hear NOTIFY, or keep
//! what it has prepared.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::Database;
use crate::error::{QueueError, SQLSTATE_POOLED};

/// How often two connections are compared. A pooler with several connections need not give both the
/// same at once.
const ROUNDS: usize = 4;

/// Whether two connections that are open at once share a process of the server, or one of them
/// changes its own. Speaks simple queries, which every pooler passes on, and sets nothing, which a
/// pooler would pass on as well.
pub async fn is_pooled(database: &Database) -> Result<bool, QueueError> {
    let (a, b) = (database.connect_alone().await?, database.connect_alone().await?);
    let (first, other) = (backend(&a.client).await?, backend(&b.client).await?);
    if first == other {
        return Ok(true);
    }
    for _ in 0..ROUNDS {
        // One of them more often: a pooler that takes its connections in turn gives it another
        // then.
        for (client, before) in [(&a.client, &first), (&a.client, &first), (&b.client, &other)] {
            if backend(client).await? != *before {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Refuses such a pooler.
pub async fn refuse(database: &Database) -> Result<(), QueueError> {
    if !is_pooled(database).await? {
        return Ok(());
    }
    Err(QueueError::Refused {
        sqlstate: SQLSTATE_POOLED.to_owned(),
        message: format!("there is a pooler in transaction mode between here and Postgres (at {})", database.shown()),
        hint: Some("use a URL that leads to Postgres itself, or set pool_mode = session for it; producers may go through the pooler".to_owned()),
    })
}

async fn backend(client: &Client) -> Result<Option<String>, QueueError> {
    let messages = client.simple_query("SELECT pg_catalog.pg_backend_pid()").await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
