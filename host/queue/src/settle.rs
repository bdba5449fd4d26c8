//! Settle: makes outcomes durable. One transaction, which either happens whole or not at all.

use deadpool_postgres::ClientWrapper;
use serde_json::Value;
use tokio_postgres::Statement;
use tokio_postgres::types::{Json, ToSql};

use super::error::{QueueError, without};
use host_core::clock::millis;
use host_core::id::SessionId;
use host_core::lane::Priority;
use host_core::message::FollowUp;
use host_core::settlement::{HandOn, Settlement};

/// Sends a settlement; the reply says that it is durable. One that had been done before, its reply
/// lost, is done.
pub(super) async fn settle(
    client: &ClientWrapper,
    statement: &Statement,
    hand_on_statement: Option<&Statement>,
    session: SessionId,
    s: &Settlement,
) -> Result<(), QueueError> {
    if !s.settled.is_empty() {
        settle_positions(client, statement, session, s).await?;
    }
    match (&s.hand_on, hand_on_statement) {
        (Some(how), Some(statement)) => hand_on(client, statement, session, s, how).await,
        _ => Ok(()),
    }
}

/// Ends a lease that keeps its lane's order, and leaves what is not settled of it to whoever comes.
/// A transaction of its own, after the settlement: should this host die in between, the rest is
/// taken over as it is.
async fn hand_on(
    client: &ClientWrapper,
    statement: &Statement,
    session: SessionId,
    s: &Settlement,
    how: &HandOn,
) -> Result<(), QueueError> {
    let retry = if let HandOn::Retry(retry) = how { Some(retry) } else { None };
    let position = retry.map(|r| r.position.cast_signed());
    let delay = retry.map(|r| millis(r.delay));
    let entry = retry.map(|r| Json(&r.entry));
    let params: [&(dyn ToSql + Sync); 6] =
        [&s.lease.get(), &session.get(), &s.token, &position, &delay, &entry];
    client.execute(statement, &params).await?;
    Ok(())
}

async fn settle_positions(
    client: &ClientWrapper,
    statement: &Statement,
    session: SessionId,
    s: &Settlement,
) -> Result<(), QueueError> {
    let settled = s.multirange();
    let retries = (!s.retries.is_empty()).then_some(&s.retries);
    let dead = (!s.dead.is_empty()).then_some(&s.dead);
    let follow_ups = (!s.follow_ups.is_empty()).then_some(&s.follow_ups);

    let position = |p: u32| p.cast_signed();
    let entry = |e: &Value| Json(e.clone());
    let retry_pos: Option<Vec<i32>> =
        retries.map(|r| r.iter().map(|r| position(r.position)).collect());
    let retry_delay: Option<Vec<i64>> =
        retries.map(|r| r.iter().map(|r| millis(r.delay)).collect());
    let retry_entry: Option<Vec<_>> = retries.map(|r| r.iter().map(|r| entry(&r.entry)).collect());
    let early: Option<Vec<i32>> =
        (!s.early.is_empty()).then(|| s.early.iter().map(|p| position(*p)).collect());
    let dead_pos: Option<Vec<i32>> = dead.map(|d| d.iter().map(|d| position(d.position)).collect());
    let dead_reason: Option<Vec<&str>> = dead.map(|d| d.iter().map(|d| d.reason.name()).collect());
    let dead_entry: Option<Vec<_>> = dead.map(|d| d.iter().map(|d| entry(&d.entry)).collect());
    let queues: Option<Vec<&str>> =
        follow_ups.map(|f| f.iter().map(|(_, f)| f.queue.as_str()).collect());
    let payloads: Option<Vec<&[u8]>> =
        follow_ups.map(|f| f.iter().map(|(_, f)| f.payload.as_slice()).collect());
    let headers: Option<Vec<_>> = follow_ups.map(|f| f.iter().map(|(_, f)| headers(f)).collect());
    let delays: Option<Vec<i64>> =
        follow_ups.map(|f| f.iter().map(|(_, f)| millis(f.delay)).collect());
    let keys = any_of(&s.follow_ups, |f| f.key.as_deref());
    let priorities = any_of(&s.follow_ups, |f| f.priority.map(Priority::number));
    let unique_keys = any_of(&s.follow_ups, |f| f.unique_key.as_deref());
    let results = (!s.results.is_empty()).then_some(&s.results);
    let result_pos: Option<Vec<i32>> =
        results.map(|r| r.iter().map(|(p, _)| position(*p)).collect());
    let results: Option<Vec<&[u8]>> = results.map(|r| r.iter().map(|(_, r)| &**r).collect());

    let settled = client
        .execute(
            statement,
            &[
                &s.lease.get(),
                &session.get(),
                &s.token,
                &s.seq,
                &settled,
                &retry_pos,
                &retry_delay,
                &retry_entry,
                &early,
                &dead_pos,
                &dead_reason,
                &dead_entry,
                &queues,
                &payloads,
                &headers,
                &delays,
                &s.removed_multirange(),
                &result_pos,
                &results,
                &keys,
                &priorities,
                &unique_keys,
            ],
        )
        .await;
    // What Postgres says of a follow-up may quote it.
    settled.map(|_| ()).map_err(|error| without(&s.secrets(), error))
}

/// A column that most follow-ups do not have: nothing at all if none has it.
fn any_of<'a, T>(
    follow_ups: &'a [(u32, FollowUp)],
    column: impl Fn(&'a FollowUp) -> Option<T>,
) -> Option<Vec<Option<T>>> {
    let any = follow_ups.iter().any(|(_, f)| column(f).is_some());
    any.then(|| follow_ups.iter().map(|(_, f)| column(f)).collect())
}

fn headers(follow_up: &FollowUp) -> Option<Json<serde_json::Map<String, Value>>> {
    if follow_up.headers.is_empty() {
        return None;
    }
    Some(Json(
        follow_up.headers.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect(),
    ))
}
