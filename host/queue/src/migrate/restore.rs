//! A database that came from another cluster: told from others, and made fit to be served. Never
//! run by a host of itself: whether the copy is to handle messages is for its operator to say.

use tokio_postgres::Client;

use crate::catalog;
use crate::error::QueueError;
use host_core::name::QueueName;

/// What a queue has been left with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebased {
    /// The queue.
    pub queue: QueueName,
    /// Messages that are not settled; those for several handlers that have not come equally far,
    /// once for each.
    pub messages: i64,
    /// Messages on the schedule.
    pub scheduled: i64,
}

/// Whether the database came from another cluster and was not rebased yet.
pub async fn is_restored(client: &Client) -> Result<bool, QueueError> {
    Ok(client.query_one("SELECT host.restored()", &[]).await?.try_get(0)?)
}

/// Rebases all queues, each in a transaction of its own, and lets hosts in. Safe to repeat,
/// wherever it was cut off. Only the owner of the schema may.
pub async fn rebase(client: &Client) -> Result<Vec<Rebased>, QueueError> {
    let mut all = Vec::new();
    for queue in catalog::load(client).await?.queues {
        let call = format!("SELECT * FROM host.{}__rebase()", queue.name);
        let row = client.query_one(&call, &[]).await?;
        let (messages, scheduled) = (row.try_get("messages")?, row.try_get("scheduled")?);
        all.push(Rebased { queue: queue.name, messages, scheduled });
    }
    client.execute("SELECT host.end_rebase()", &[]).await?;
    Ok(all)
}
