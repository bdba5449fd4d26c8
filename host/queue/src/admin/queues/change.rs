//! Changing the settings of a queue that exists. Never changes what its messages lie in: the type
//! of its payloads and its lanes stay.

use tokio_postgres::Client;

use super::{set_keep, set_wake_up};
use crate::admin::{limits, unique};
use crate::error::QueueError;
use host_core::clock::millis;
use host_core::name::QueueName;
use host_core::policy::queue_settings::QueueSettings;
use host_core::policy::retry::Backoff;

/// Gives a queue the settings of `wanted` that differ from `before`, in one transaction: all or
/// none. A smaller largest payload is refused while the queue has messages.
pub async fn change(
    client: &mut Client,
    queue: &QueueName,
    before: &QueueSettings,
    wanted: &QueueSettings,
) -> Result<(), QueueError> {
    let transaction = client.transaction().await?;
    change_within(transaction.client(), queue, before, wanted).await?;
    transaction.commit().await?;
    Ok(())
}

/// The same, in the transaction that the client is in.
pub(crate) async fn change_within(
    client: &Client,
    queue: &QueueName,
    before: &QueueSettings,
    wanted: &QueueSettings,
) -> Result<(), QueueError> {
    set_queue(client, queue, before, wanted).await?;
    if before.unique != wanted.unique {
        unique::set(client, queue, wanted.unique).await?;
    }
    if before.limits != wanted.limits {
        limits::set(client, queue, wanted.limits).await?;
    }
    if before.keep != wanted.keep {
        set_keep(client, queue, wanted.keep).await?;
    }
    if before.wake_up != wanted.wake_up {
        set_wake_up(client, queue, wanted.wake_up).await?;
    }
    Ok(())
}

/// What `host.set_queue` sets. Sends only what differs: somebody else may change the rest.
async fn set_queue(
    client: &Client,
    queue: &QueueName,
    before: &QueueSettings,
    wanted: &QueueSettings,
) -> Result<(), QueueError> {
    let (mut base, mut cap, mut delays) = (None, None, None);
    if before.policy.backoff != wanted.policy.backoff {
        match &wanted.policy.backoff {
            Backoff::Exponential { base: first, cap: longest } => {
                (base, cap) = (Some(millis(*first)), Some(millis(*longest)));
            }
            Backoff::Delays(waits) => delays = Some(waits.iter().map(|d| millis(*d)).collect()),
        }
    }
    let attempts = differs(before.policy.max_attempts, wanted.policy.max_attempts);
    let payload = differs(before.payload_bytes_max, wanted.payload_bytes_max);
    let rotate_bytes = differs(before.rotate_bytes, wanted.rotate_bytes);
    let rotate_age = differs(before.rotate_age, wanted.rotate_age);
    if attempts.is_none()
        && payload.is_none()
        && rotate_bytes.is_none()
        && rotate_age.is_none()
        && before.policy.backoff == wanted.policy.backoff
    {
        return Ok(());
    }
    let delays: Option<Vec<i64>> = delays;
    client
        .execute(
            include_str!("set_queue.sql"),
            &[
                &queue.as_str(),
                &attempts.map(u32::cast_signed),
                &base,
                &cap,
                &delays,
                &payload.map(u64::cast_signed),
                &rotate_bytes.map(u64::cast_signed),
                &rotate_age.map(millis),
            ],
        )
        .await?;
    Ok(())
}

/// What is wanted, if it is not so.
fn differs<T: PartialEq + Copy>(before: T, wanted: T) -> Option<T> {
    (before != wanted).then_some(wanted)
}
