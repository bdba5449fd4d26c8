//! Take-over: the leases that dead sessions left open.

use futures_util::future::join;
use uuid::Uuid;

use super::connect::Database;
use super::error::QueueError;
use super::exchange::{Lease, LeaseRequest, open};
use super::fetch::fetch;
use super::statements::Statements;
use crate::id::{HandlerId, LeaseId, SessionId};

/// A message that was in flight when so many hosts died is a dead letter. From the second on it is
/// leased alone, so that it takes no other with it.
pub const DEATHS_MAX: i32 = 5;

/// Open leases of ended sessions, oldest first, at most `limit`.
pub async fn orphans(
    database: &Database,
    statements: &Statements,
    handler: HandlerId,
    limit: i32,
) -> Result<Vec<LeaseId>, QueueError> {
    let client = database.get().await?;
    let statement = client.prepare_cached(&statements.orphans).await?;
    let rows = client.query(&statement, &[&handler.get(), &limit]).await?;
    rows.iter().map(|row| Ok(LeaseId::new(row.try_get(0)?))).collect()
}

/// Takes over at most `request.messages_max` messages of such a lease. What remains is a new orphan.
/// `None`: there was nothing to do, or it went to the dead letters, or another host was faster.
pub async fn take_over(
    database: &Database,
    statements: &Statements,
    session: SessionId,
    orphan: LeaseId,
    request: LeaseRequest,
) -> Result<Option<Lease>, QueueError> {
    let client = database.get().await?;
    let take_over = client.prepare_cached(&statements.take_over).await?;
    let fetch_statement = client.prepare_cached(&statements.fetch).await?;
    let token = Uuid::new_v4();
    let messages_max = request.messages_max.cast_signed();
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
        [&orphan.get(), &session.get(), &request.seq, &token, &messages_max, &DEATHS_MAX];
    let (taken, fetched) = join(
        client.query_one(&take_over, &params),
        fetch(&client, &fetch_statement, session, request.seq, request.handler),
    )
    .await;
    let row = match taken.map_err(QueueError::from) {
        Err(QueueError::LeaseLost(_)) => return Ok(None),
        // Two hosts at once: the settlement's number is unique, and the other had it first.
        Err(e) if e.is_refused_with("23505") => return Ok(None),
        row => row?,
    };
    let Some(id) = row.try_get::<_, Option<i64>>(0)? else { return Ok(None) };
    let count = row.try_get::<_, i32>(1)?.cast_unsigned() as usize;
    open(LeaseId::new(id), token, count, fetched?, true).map(Some)
}
