//! Looks at what the tables and functions of queues are like, for a diagnosis. Never says what is
//! wrong with that.

use std::collections::BTreeMap;

use futures_util::future;
use tokio_postgres::Client;

use crate::error::QueueError;
use host_core::diagnosis::Finding;
use host_core::diagnosis::shape::{Difference, Kind, findings};

/// The findings about all queues that are not like new ones. Two looks at the catalog, and one more
/// for each queue that differs. Postgres looks at functions and tables at once if the connections
/// are two.
pub async fn damage(client: &Client, beside: &Client) -> Result<Vec<Finding>, QueueError> {
    let (functions, shapes) = future::try_join(
        client.query_typed("SELECT * FROM host.changed_functions()", &[]),
        beside.query_typed(include_str!("shapes.sql"), &[]),
    )
    .await?;
    let mut changed: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for row in functions {
        changed.entry(row.try_get(0)?).or_default().push((row.try_get(1)?, row.try_get(2)?));
    }
    let mut found = Vec::new();
    for row in shapes {
        let queue: &str = row.try_get("name")?;
        let kind = Kind {
            lanes: row.try_get("lanes")?,
            history: row.try_get("history")?,
            takes_keys: row.try_get("takes_keys")?,
        };
        let difference = if row.try_get::<_, &str>("digest")? == kind.digest() {
            Difference::default()
        } else {
            kind.compare(&lines(client, queue).await?)
        };
        let functions = changed.remove(queue).unwrap_or_default();
        found.extend(findings(queue, &difference, &functions));
    }
    Ok(found)
}

async fn lines(client: &Client, queue: &str) -> Result<Vec<String>, QueueError> {
    let rows = client.query("SELECT line FROM host.shape($1)", &[&queue]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
