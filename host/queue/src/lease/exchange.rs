//! One round trip: settles what is done, leases what comes next, fetches it. Each is a transaction
//! of its own; they are only sent together. In one transaction the lease would keep the queue
//! locked while the settlement's commit reaches the disk.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use uuid::Uuid;

use super::fetch::fetch;
use super::granted::Granted;
use super::lanes::lease_lanes;
use super::{LeaseRequest, Taken, Wait, open};
use crate::connect::{Database, Pooled};
use crate::error::QueueError;
use crate::settle::settle;
use crate::statements::Statements;
use host_core::id::SessionId;
use host_core::message::lane::LaneTurn;
use host_core::settlement::{Ledger, Settlement};

/// What came of an exchange. Each part stands for itself: one may fail and the others not.
#[derive(Debug)]
pub struct Exchanged {
    /// One result for each settlement, in the order given.
    pub settled: Vec<Result<(), QueueError>>,
    /// The leases.
    pub taken: Result<Taken, QueueError>,
}

/// Makes one round trip.
///
/// # Errors
/// If there is no connection, or no answer at all: then nothing is known of any part.
pub async fn exchange(
    database: &Database,
    statements: &Statements,
    session: SessionId,
    settlements: &[Settlement],
    request: Option<LeaseRequest>,
) -> Result<Exchanged, QueueError> {
    let client = database.get().await?;
    let done = client.ask(exchange_on(&client, statements, session, settlements, request)).await?;
    let errors = done.settled.iter().filter_map(|settled| settled.as_ref().err());
    errors.chain(done.taken.as_ref().err()).for_each(|error| client.note(error));
    Ok(done)
}

async fn exchange_on(
    client: &Pooled,
    statements: &Statements,
    session: SessionId,
    settlements: &[Settlement],
    request: Option<LeaseRequest>,
) -> Result<Exchanged, QueueError> {
    // That a queue was dropped is found here, if no statement of its was prepared before.
    let settle_statement = match client.prepare_cached(&statements.settle).await {
        Ok(statement) => statement,
        Err(error) => return Err(statements.explain(client, None, error.into()).await),
    };
    let hand_on_statement = if settlements.iter().any(|s| s.hand_on.is_some()) {
        Some(client.prepare_cached(&statements.hand_on).await?)
    } else {
        None
    };
    let started = Instant::now();

    // Sent first: what they free can be leased.
    let settling = join_all(
        settlements
            .iter()
            .map(|s| settle(client, &settle_statement, hand_on_statement.as_ref(), session, s)),
    );
    let leasing = async {
        match request {
            None => Ok(Taken::default()),
            Some(r @ LeaseRequest { turn: LaneTurn::Free(first), .. }) => {
                lease_lanes(client, statements, session, r, first).await
            }
            Some(r) => lease_one(client, statements, session, r).await,
        }
    };
    let (mut settled, mut taken) = join(settling, leasing).await;
    for answer in &mut settled {
        if let Err(error) = answer {
            *error = statements.explain(client, None, error.clone()).await;
        }
    }
    if let Err(error) = &mut taken {
        let handler = request.map(|request| request.handler);
        *error = statements.explain(client, handler, error.clone()).await;
    }
    let leased = taken.as_ref().map_or(&[][..], |taken| &taken.leases);
    tracing::debug!(
        settlements = settlements.len(),
        leased = leased.iter().map(|l| l.messages.len()).sum::<usize>(),
        elapsed_us = started.elapsed().as_micros() as u64,
        "round trip: settle, lease, fetch"
    );
    Ok(Exchanged { settled, taken })
}

/// One lease, from the queue's only lane or from the first that has messages.
async fn lease_one(
    client: &Pooled,
    statements: &Statements,
    session: SessionId,
    r: LeaseRequest,
) -> Result<Taken, QueueError> {
    let lanes = if let LaneTurn::First(lanes) = r.turn { Some(lanes) } else { None };
    let text = if lanes.is_some() { &statements.lease_of } else { &statements.lease };
    let lease_statement = client.prepare_cached(text).await?;
    let fetch_statement = client.prepare_cached(&statements.fetch).await?;
    let token = Uuid::new_v4();
    let messages_max = r.messages_max.cast_signed();
    let bytes_max = r.bytes_max.cast_signed();
    let handler = r.handler.get();
    let number = session.get();
    let mut lease_params: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
        vec![&handler, &number, &r.seq, &token, &messages_max, &bytes_max];
    if let Some(lanes) = &lanes {
        lease_params.push(lanes);
    }
    // The fetch is sent before the lease has answered: it goes by numbers that are ours.
    let (row, fetched) = join(
        client.query_one(&lease_statement, &lease_params),
        fetch(client, &fetch_statement, session, r.seq, r.handler),
    )
    .await;
    let row = row?;
    let granted = Granted(&row);
    let Some((id, count)) = granted.lease()? else { return none(granted) };
    let leases = vec![open(Ledger::new(id, token, count), fetched?)?];
    Ok(Taken { leases, more: granted.more()?, ..Taken::default() })
}

/// Why there is no lease.
fn none(granted: Granted<'_>) -> Result<Taken, QueueError> {
    let Some(wait) = granted.wait()? else { return Ok(Taken::default()) };
    let limit = Wait {
        time: wait.max(Duration::from_millis(1)),
        until_settled: granted.until_settled()?,
        others_may_start: false,
    };
    Ok(Taken { limit: Some(limit), ..Taken::default() })
}
