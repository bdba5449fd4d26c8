//! Take-over: leases without a master, which dead sessions and lost replies leave behind.

use futures_util::future::join;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::fetch::fetch;
use super::granted::Granted;
use super::{DEATHS_MAX, LeaseRequest, Taken, open};
use crate::connect::{Database, Pooled};
use crate::error::QueueError;
use crate::statements::Statements;
use host_core::id::{HandlerId, LeaseId, SessionId};
use host_core::settlement::Ledger;

/// An open lease without a master: its session has ended, or it is our own and its reply was lost.
#[derive(Clone, Copy, Debug)]
pub struct Stray {
    /// The lease.
    pub lease: LeaseId,
}

/// The strays of a handler, oldest first, at most a hundred: those of dead hosts, and those of
/// `own` whose reply may have been lost. Which of these are in good hands, only the caller knows.
pub async fn strays(
    database: &Database,
    statements: &Statements,
    handler: HandlerId,
    own: Option<SessionId>,
) -> Result<Vec<Stray>, QueueError> {
    let client = database.get().await?;
    let ask = async || -> Result<Vec<Row>, QueueError> {
        let statement = client.prepare_cached(&statements.strays).await?;
        Ok(client.query(&statement, &[&handler.get(), &own.map(SessionId::get), &100_i32]).await?)
    };
    let explained = async {
        match ask().await {
            Err(error) => Err(statements.explain(&client, Some(handler), error).await),
            rows => rows,
        }
    };
    let rows = client.ask(explained).await?;
    let stray = |row: &Row| Ok(Stray { lease: LeaseId::new(row.try_get(0)?) });
    rows.iter().map(stray).collect()
}

/// Makes a stray ours, or at most `request.messages_max` messages of it: what remains is a new
/// stray. No lease: there was nothing to do, or it went to the dead letters, or another host was
/// faster.
pub async fn take_over(
    database: &Database,
    statements: &Statements,
    session: SessionId,
    stray: Stray,
    request: LeaseRequest,
) -> Result<Taken, QueueError> {
    let client = database.get().await?;
    let taking = async {
        match take_over_on(&client, statements, session, stray, request).await {
            Err(error) => Err(statements.explain(&client, Some(request.handler), error).await),
            taken => taken,
        }
    };
    client.ask(taking).await
}

async fn take_over_on(
    client: &Pooled,
    statements: &Statements,
    session: SessionId,
    stray: Stray,
    request: LeaseRequest,
) -> Result<Taken, QueueError> {
    let fetch_statement = client.prepare_cached(&statements.fetch).await?;
    let take_over_statement = client.prepare_cached(&statements.take_over).await?;
    let token = Uuid::new_v4();
    let messages_max = request.messages_max.cast_signed();
    let params: [&(dyn ToSql + Sync); 6] =
        [&stray.lease.get(), &session.get(), &request.seq, &token, &messages_max, &DEATHS_MAX];
    let (answer, fetched) = join(
        client.query_one(&take_over_statement, &params),
        fetch(client, &fetch_statement, session, request.seq, request.handler),
    )
    .await;
    let row = match answer.map_err(QueueError::from) {
        // Settled meanwhile, or two hosts at once and the other was faster.
        Err(QueueError::LeaseLost(_) | QueueError::Busy(_)) => return Ok(Taken::default()),
        row => row?,
    };
    let granted = Granted(&row);
    if let Some(gone) = granted.gone()? {
        let lease = stray.lease;
        tracing::warn!(%lease, gone, "messages were deleted by hand; what is left of their lease runs again");
    }
    let Some((id, count)) = granted.lease()? else { return Ok(Taken::default()) };
    let ledger = if statements.in_order {
        Ledger::in_order(id, token, count, granted.more()?)
    } else {
        Ledger::new(id, token, count)
    };
    let lease = open(ledger, fetched?)?;
    Ok(Taken { leases: vec![lease], ..Taken::default() })
}
