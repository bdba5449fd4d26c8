//! Creating, changing and dropping queues. Never touches a message but those that go with a queue
//! that is dropped.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::{limits, unique};
use crate::catalog::Queue;
use crate::error::QueueError;
use host_core::clock::millis;
use host_core::limits::{
    ATTEMPTS, ATTEMPTS_DEFAULT, BACKOFF, BACKOFF_CAP_DEFAULT, BACKOFF_CAP_MAX, BACKOFF_DEFAULT,
    DELAYS, KEEP, OutOfRange, PAYLOAD_BYTES, PAYLOAD_BYTES_DEFAULT, ROTATE_AGE, ROTATE_AGE_DEFAULT,
    ROTATE_BYTES, ROTATE_BYTES_DEFAULT, bytes_within, count_within, duration_within,
};
use host_core::message::PayloadType;
use host_core::message::lane::Lanes;
use host_core::name::QueueName;
use host_core::policy::queue_limits::QueueLimits;
use host_core::policy::retry::{Backoff, RetryPolicy};
use host_core::policy::unique::Unique;

pub use change::change;
pub(crate) use change::change_within;

mod change;

/// Raised when a queue that is to be dropped has messages left.
const SQLSTATE_MESSAGES_LEFT: &str = "HQ005";
/// Tries to drop a queue while hosts lock its tables in another order.
const DEADLOCKS_MAX: u32 = 10;

/// A queue to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewQueue {
    /// The name of its table.
    pub name: QueueName,
    /// What its `payload` column holds.
    pub payload_type: PayloadType,
    /// Its largest payload, in bytes.
    pub payload_bytes_max: u64,
    /// How often and when it retries.
    pub policy: RetryPolicy,
    /// A generation ends when its leaf has this many bytes …
    pub rotate_bytes: u64,
    /// … and this age.
    pub rotate_age: Duration,
    /// Whether an INSERT may wake a sleeping host.
    pub wake_up: bool,
    /// Its strands.
    pub lanes: Lanes,
    /// How long settled messages stay readable, at least; `None`: until their generation is
    /// truncated.
    pub keep: Option<Duration>,
    /// How it takes unique keys, if it does.
    pub unique: Option<Unique>,
    /// Its limits, if it has any.
    pub limits: QueueLimits,
}

impl From<&Queue> for NewQueue {
    fn from(queue: &Queue) -> Self {
        Self {
            name: queue.name.clone(),
            payload_type: queue.payload_type,
            payload_bytes_max: queue.payload_bytes_max,
            policy: queue.policy.clone(),
            rotate_bytes: queue.rotate_bytes,
            rotate_age: queue.rotate_age,
            wake_up: queue.wake_up,
            lanes: queue.lanes,
            keep: queue.keep,
            unique: queue.unique,
            limits: queue.limits,
        }
    }
}

impl NewQueue {
    /// One of this name, with every setting as it is where nobody says otherwise.
    #[must_use]
    pub fn named(name: QueueName) -> Self {
        Self {
            name,
            payload_type: PayloadType::Jsonb,
            payload_bytes_max: PAYLOAD_BYTES_DEFAULT,
            policy: RetryPolicy {
                max_attempts: ATTEMPTS_DEFAULT,
                backoff: Backoff::Exponential { base: BACKOFF_DEFAULT, cap: BACKOFF_CAP_DEFAULT },
            },
            rotate_bytes: ROTATE_BYTES_DEFAULT,
            rotate_age: ROTATE_AGE_DEFAULT,
            wake_up: true,
            lanes: Lanes::One,
            keep: None,
            unique: None,
            limits: QueueLimits::default(),
        }
    }

    /// Refuses what a queue cannot be.
    pub fn check(&self) -> Result<(), OutOfRange> {
        bytes_within("max-bytes", self.payload_bytes_max, &PAYLOAD_BYTES)?;
        count_within("max-attempts", self.policy.max_attempts, &ATTEMPTS)?;
        match &self.policy.backoff {
            Backoff::Exponential { base, cap } => {
                duration_within("backoff", *base, &BACKOFF)?;
                duration_within("backoff-cap", *cap, &(*base..=BACKOFF_CAP_MAX))?;
            }
            Backoff::Delays(delays) => {
                count_within("delays", delays.len() as u32, &DELAYS)?;
                for delay in delays {
                    duration_within("delays", *delay, &(Duration::ZERO..=BACKOFF_CAP_MAX))?;
                }
            }
        }
        bytes_within("rotate-size", self.rotate_bytes, &ROTATE_BYTES)?;
        duration_within("rotate-age", self.rotate_age, &ROTATE_AGE)?;
        self.limits.check()?;
        self.unique.as_ref().map_or(Ok(()), Unique::check)?;
        self.keep.map_or(Ok(()), check_keep)
    }
}

/// Refuses a time for which no queue can keep what is settled.
pub fn check_keep(keep: Duration) -> Result<(), OutOfRange> {
    duration_within("keep", keep, &KEEP)
}

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
pub async fn create(client: &mut Client, queue: &NewQueue) -> Result<bool, QueueError> {
    let transaction = client.transaction().await?;
    match create_within(transaction.client(), queue).await {
        Ok(()) => {}
        Err(error) if error.is_refused_with("23505") => return Ok(false),
        Err(error) => return Err(error),
    }
    transaction.commit().await?;
    Ok(true)
}

/// Creates a queue, in the transaction that the client is in.
pub(crate) async fn create_within(client: &Client, queue: &NewQueue) -> Result<(), QueueError> {
    let (base, cap, delays) = match &queue.policy.backoff {
        Backoff::Exponential { base, cap } => (*base, *cap, None),
        Backoff::Delays(delays) => {
            let delays: Vec<i64> = delays.iter().map(|d| millis(*d)).collect();
            (BACKOFF_DEFAULT, BACKOFF_CAP_DEFAULT, Some(delays))
        }
    };
    let ordered = queue.lanes.ordered().map(i32::from);
    let keyed = queue.lanes.keyed().map(i32::from);
    client
        .execute(
            "SELECT host.create_queue($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            &[
                &queue.name.as_str(),
                &queue.payload_type.sql_name(),
                &(queue.payload_bytes_max as i64),
                &(queue.policy.max_attempts as i32),
                &millis(base),
                &millis(cap),
                &(queue.rotate_bytes as i64),
                &millis(queue.rotate_age),
                &queue.wake_up,
                &delays,
                &queue.keep.map(millis),
                &queue.lanes.by_priority(),
                &ordered,
                &keyed,
            ],
        )
        .await?;
    if queue.unique.is_some() {
        unique::set(client, &queue.name, queue.unique).await?;
    }
    if queue.limits != QueueLimits::default() {
        limits::set(client, &queue.name, queue.limits).await?;
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
