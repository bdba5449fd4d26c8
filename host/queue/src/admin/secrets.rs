//! Secrets in the database: values go in, and come out for hosts alone. Never logs one.

use std::collections::HashMap;
use std::time::SystemTime;

use tokio_postgres::Client;

use crate::error::QueueError;
use host_core::deployment::secret::{Secret, SecretName};

/// What anybody may know of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretInfo {
    /// Its name: any text, if it was set by SQL.
    pub name: String,
    /// When its value was set, by the server's clock.
    pub set_at: SystemTime,
    /// The role that set it.
    pub set_by: String,
    /// The handlers in force that are granted it, as `queue/handler`.
    pub granted_to: Vec<String>,
}

/// Sets a secret, or gives it another value. Whether there was none.
pub async fn set(client: &Client, name: &SecretName, value: &Secret) -> Result<bool, QueueError> {
    let call = "SELECT host.set_secret($1, $2)";
    Ok(client.query_one(call, &[&name.as_str(), &value.reveal()]).await?.try_get(0)?)
}

/// All secrets but for their values, in order of the name.
pub async fn list(client: &Client) -> Result<Vec<SecretInfo>, QueueError> {
    let rows = client.query_typed("SELECT * FROM host.secrets()", &[]).await?;
    let info = |row: &tokio_postgres::Row| {
        Ok(SecretInfo {
            name: row.try_get("name")?,
            set_at: row.try_get("set_at")?,
            set_by: row.try_get("set_by")?,
            granted_to: row.try_get("granted_to")?,
        })
    };
    rows.iter().map(info).collect()
}

/// Removes a secret. Whether there was one.
///
/// # Errors
/// [`QueueError::Refused`] with `HQ005` while handlers are granted it, unless `force`.
pub async fn remove(client: &Client, name: &SecretName, force: bool) -> Result<bool, QueueError> {
    let call = "SELECT host.remove_secret($1, $2)";
    Ok(client.query_one(call, &[&name.as_str(), &force]).await?.try_get(0)?)
}

/// The values of some secrets; those that are not set are left out.
pub async fn read(
    client: &Client,
    names: &[&str],
) -> Result<HashMap<SecretName, Secret>, QueueError> {
    let rows = client.query("SELECT * FROM host.read_secrets($1)", &[&names]).await?;
    let pair = |row: &tokio_postgres::Row| {
        Ok((name(row.try_get("name")?)?, Secret::from_stored(row.try_get("value")?)))
    };
    rows.iter().map(pair).collect()
}

fn name(text: &str) -> Result<SecretName, QueueError> {
    text.parse().map_err(|error| QueueError::Unexpected(format!("{error}")))
}
