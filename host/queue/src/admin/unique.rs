//! Unique keys: setting them up, and forgetting those that are free. Taking one is the INSERT's own
//! business.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::connect::Database;
use crate::error::QueueError;
use crate::statements::Statements;
use host_core::clock::millis;
use host_core::id::MessageId;
use host_core::name::QueueName;
use host_core::policy::unique::{OnDuplicate, Unique};

/// Has a queue take a `unique_key`; or none any more, which forgets all keys. Waits for open
/// transactions that have enqueued on it, at most a second.
pub async fn set(
    client: &Client,
    queue: &QueueName,
    unique: Option<Unique>,
) -> Result<(), QueueError> {
    let window_ms = unique.map(|u| millis(u.window));
    let on_duplicate = unique.map_or_else(OnDuplicate::default, |u| u.on_duplicate).name();
    let call = "SELECT host.set_unique($1, $2, $3)";
    client.execute(call, &[&queue.as_str(), &window_ms, &on_duplicate]).await?;
    Ok(())
}

/// The message that has taken a key, if it is still registered.
pub(crate) async fn taken_by(
    client: &Client,
    queue: &QueueName,
    key: &str,
) -> Result<Option<MessageId>, QueueError> {
    let sql = include_str!("taken_by.sql").replace("{q}", queue.as_str());
    let row = client.query_typed_opt(&sql, &[(&key, Type::TEXT)]).await?;
    row.map(|row| Ok(MessageId::new(row.try_get(0)?))).transpose()
}

/// The key of a message, if it is still registered.
pub(super) async fn key_of(
    client: &Client,
    queue: &QueueName,
    message: MessageId,
) -> Result<Option<String>, QueueError> {
    let sql = include_str!("key_of.sql").replace("{q}", queue.as_str());
    let row = client.query_opt(&sql, &[&message.get()]).await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}

/// Forgets keys that are free, of the `keys_max` that were taken first. Returns how many.
pub async fn forget(
    database: &Database,
    statements: &Statements,
    keys_max: i32,
) -> Result<i32, QueueError> {
    Ok(statements.call(database, &statements.forget_keys, &[&keys_max]).await?.try_get(0)?)
}
