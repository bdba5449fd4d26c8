//! Settle: makes outcomes durable. One transaction, which either happens whole or not at all.

use deadpool_postgres::ClientWrapper;
use serde_json::{Map, Value};
use tokio_postgres::Statement;
use tokio_postgres::types::{Json, ToSql};

use super::error::{QueueError, without};
use host_core::clock::millis;
use host_core::id::SessionId;
use host_core::message::FollowUp;
use host_core::message::lane::Priority;
use host_core::settlement::{Dead, HandOn, Retry, Settlement};

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
    let parked = column(&s.parked, |position| position.cast_signed());
    let removed = s.removed_multirange();
    let retries = Retries::of(&s.retries);
    let dead_letters = DeadLetters::of(&s.dead);
    let follow_ups = FollowUps::of(&s.follow_ups);
    let results = Results::of(&s.results);

    let lease = s.lease.get();
    let session = session.get();
    let itself: [Parameter; 7] = [&lease, &session, &s.token, &s.seq, &settled, &parked, &removed];
    let parameters = [
        &itself[..],
        &retries.parameters(),
        &dead_letters.parameters(),
        &follow_ups.parameters(),
        &results.parameters(),
    ]
    .concat();
    let settled = client.execute(statement, &parameters).await;
    // What Postgres says of a follow-up may quote it.
    settled.map(|_| ()).map_err(|error| without(&s.secrets(), error))
}

type Parameter<'a> = &'a (dyn ToSql + Sync);

/// A parameter with a value of each row; `None` without rows, which is NULL.
type Column<T> = Option<Vec<T>>;

fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Column<T> {
    (!rows.is_empty()).then(|| rows.iter().map(value).collect())
}

/// A column that most rows do not have: NULL if none has it.
fn rare_column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> Option<T>) -> Column<Option<T>> {
    rows.iter().any(|row| value(row).is_some()).then(|| rows.iter().map(value).collect())
}

/// The parameters `p_retry_*` of `settle.sql`, in its order. So are those that follow.
struct Retries<'a> {
    position: Column<i32>,
    delay_ms: Column<i64>,
    entry: Column<Json<&'a Value>>,
}

impl<'a> Retries<'a> {
    fn of(retries: &'a [Retry]) -> Self {
        Self {
            position: column(retries, |retry| retry.position.cast_signed()),
            delay_ms: column(retries, |retry| millis(retry.delay)),
            entry: column(retries, |retry| Json(&retry.entry)),
        }
    }

    fn parameters(&self) -> [Parameter<'_>; 3] {
        [&self.position, &self.delay_ms, &self.entry]
    }
}

/// `p_dead_*`
struct DeadLetters<'a> {
    position: Column<i32>,
    reason: Column<&'static str>,
    entry: Column<Json<&'a Value>>,
}

impl<'a> DeadLetters<'a> {
    fn of(dead: &'a [Dead]) -> Self {
        Self {
            position: column(dead, |dead| dead.position.cast_signed()),
            reason: column(dead, |dead| dead.reason.name()),
            entry: column(dead, |dead| Json(&dead.entry)),
        }
    }

    fn parameters(&self) -> [Parameter<'_>; 3] {
        [&self.position, &self.reason, &self.entry]
    }
}

/// `p_follow_up_*`
struct FollowUps<'a> {
    queue: Column<&'a str>,
    payload: Column<&'a [u8]>,
    headers: Column<Option<Json<Map<String, Value>>>>,
    delay_ms: Column<i64>,
    key: Column<Option<&'a str>>,
    priority: Column<Option<i16>>,
    unique_key: Column<Option<&'a str>>,
}

impl<'a> FollowUps<'a> {
    fn of(follow_ups: &'a [(u32, FollowUp)]) -> Self {
        Self {
            queue: column(follow_ups, |(_, f)| f.queue.as_str()),
            payload: column(follow_ups, |(_, f)| f.payload.as_slice()),
            headers: column(follow_ups, |(_, f)| headers(f)),
            delay_ms: column(follow_ups, |(_, f)| millis(f.delay)),
            key: rare_column(follow_ups, |(_, f)| f.key.as_deref()),
            priority: rare_column(follow_ups, |(_, f)| f.priority.map(Priority::number)),
            unique_key: rare_column(follow_ups, |(_, f)| f.unique_key.as_deref()),
        }
    }

    fn parameters(&self) -> [Parameter<'_>; 7] {
        [
            &self.queue,
            &self.payload,
            &self.headers,
            &self.delay_ms,
            &self.key,
            &self.priority,
            &self.unique_key,
        ]
    }
}

/// `p_result_*`
struct Results<'a> {
    position: Column<i32>,
    result: Column<&'a [u8]>,
}

impl<'a> Results<'a> {
    fn of(results: &'a [(u32, Vec<u8>)]) -> Self {
        Self {
            position: column(results, |(position, _)| position.cast_signed()),
            result: column(results, |(_, result)| result.as_slice()),
        }
    }

    fn parameters(&self) -> [Parameter<'_>; 2] {
        [&self.position, &self.result]
    }
}

fn headers(follow_up: &FollowUp) -> Option<Json<Map<String, Value>>> {
    if follow_up.headers.is_empty() {
        return None;
    }
    let headers = follow_up.headers.iter();
    Some(Json(headers.map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect()))
}
