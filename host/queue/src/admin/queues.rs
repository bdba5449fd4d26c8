//! Creating, changing and dropping queues. Never touches a message but those that go with a queue
//! that is dropped.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::{limits, unique};
use crate::error::QueueError;
use host_core::clock::millis;
use host_core::limits::{BACKOFF_CAP_DEFAULT, BACKOFF_DEFAULT};
use host_core::name::QueueName;
use host_core::policy::queue_limits::QueueLimits;
use host_core::policy::queue_settings::QueueSettings;
use host_core::policy::retry::Backoff;

pub use change::change;
pub(crate) use change::change_within;

mod change;

/// Raised when a queue that is to be dropped has messages left.
const SQLSTATE_MESSAGES_LEFT: &str = "HQ005";
/// Tries to drop a queue while hosts lock its tables in another order.
const DEADLOCKS_MAX: u32 = 10;

/// Why a queue was not dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DropError {
    /// It has messages, which would be lost; the text counts them.
    #[error("{0}")]
    MessagesLeft(QueueError),
    /// Postgres said no.
    #[error(transparent)]
    Queue(QueueError),
}

impl From<tokio_postgres::Error> for DropError {
    fn from(error: tokio_postgres::Error) -> Self {
        match QueueError::from(error) {
            left if left.is_refused_with(SQLSTATE_MESSAGES_LEFT) => Self::MessagesLeft(left),
            other => Self::Queue(other),
        }
    }
}

/// Creates a queue. False: there is one of that name, which was left alone.
pub async fn create(
    client: &mut Client,
    name: &QueueName,
    settings: &QueueSettings,
) -> Result<bool, QueueError> {
    let transaction = client.transaction().await?;
    match create_within(transaction.client(), name, settings).await {
        Ok(()) => {}
        Err(error) if error.is_refused_with("23505") => return Ok(false),
        Err(error) => return Err(error),
    }
    transaction.commit().await?;
    Ok(true)
}

/// Creates a queue, in the transaction that the client is in.
pub(crate) async fn create_within(
    client: &Client,
    name: &QueueName,
    settings: &QueueSettings,
) -> Result<(), QueueError> {
    let (base, cap, delays) = match &settings.policy.backoff {
        Backoff::Exponential { base, cap } => (*base, *cap, None),
        Backoff::Delays(delays) => {
            let delays: Vec<i64> = delays.iter().map(|d| millis(*d)).collect();
            (BACKOFF_DEFAULT, BACKOFF_CAP_DEFAULT, Some(delays))
        }
    };
    let ordered = settings.lanes.ordered().map(i32::from);
    let keyed = settings.lanes.keyed().map(i32::from);
    client
        .execute(
            include_str!("queues/create_queue.sql"),
            &[
                &name.as_str(),
                &settings.payload_type.sql_name(),
                &(settings.payload_bytes_max as i64),
                &(settings.policy.max_attempts as i32),
                &millis(base),
                &millis(cap),
                &(settings.rotate_bytes as i64),
                &millis(settings.rotate_age),
                &settings.wake_up,
                &delays,
                &settings.keep.map(millis),
                &settings.lanes.by_priority(),
                &ordered,
                &keyed,
            ],
        )
        .await?;
    if settings.unique.is_some() {
        unique::set(client, name, settings.unique).await?;
    }
    if settings.limits != QueueLimits::default() {
        limits::set(client, name, settings.limits).await?;
    }
    Ok(())
}

/// Drops a queue with its handlers and everything in it; with messages left, only if `force`.
pub async fn drop(client: &Client, queue: &QueueName, force: bool) -> Result<(), DropError> {
    let mut deadlocks = 0;
    loop {
        match client.execute("SELECT host.drop_queue($1, $2)", &[&queue.as_str(), &force]).await {
            Err(error) if is_deadlock(&error) && deadlocks < DEADLOCKS_MAX => deadlocks += 1,
            dropped => return Ok(dropped.map(|_| ())?),
        }
    }
}

/// Whether this and another waited for each other. The other has what it wanted now: to ask again
/// is enough.
fn is_deadlock(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED)
}

/// Stops hosts from leasing, or lets them go on. False: it was so before.
pub async fn set_paused(
    client: &Client,
    queue: &QueueName,
    paused: bool,
) -> Result<bool, QueueError> {
    let row = client.query_one("SELECT host.pause($1, $2)", &[&queue.as_str(), &paused]).await?;
    Ok(row.try_get(0)?)
}

/// Has a queue keep what is settled from now on for so long; `None`: it forgets all that it has
/// kept.
pub async fn set_keep(
    client: &Client,
    queue: &QueueName,
    keep: Option<Duration>,
) -> Result<(), QueueError> {
    let call = "SELECT host.set_keep($1, $2)";
    client.execute(call, &[&queue.as_str(), &keep.map(millis)]).await?;
    Ok(())
}

/// Says whether an INSERT on a queue may wake a sleeping host. Waits for open transactions that
/// have enqueued on it, at most a second.
pub async fn set_wake_up(
    client: &Client,
    queue: &QueueName,
    wake_up: bool,
) -> Result<(), QueueError> {
    client.execute("SELECT host.set_wake_up($1, $2)", &[&queue.as_str(), &wake_up]).await?;
    Ok(())
}

/// Lets a role enqueue, and nothing else.
pub async fn grant(client: &Client, queue: &QueueName, role: &str) -> Result<(), QueueError> {
    let call = "SELECT host.grant_producer($1, $2::text::name)";
    client.execute(call, &[&queue.as_str(), &role]).await?;
    Ok(())
}

/// The roles of the server, without its own.
pub async fn roles(client: &Client) -> Result<Vec<String>, QueueError> {
    let rows = client.query(include_str!("queues/roles.sql"), &[]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
