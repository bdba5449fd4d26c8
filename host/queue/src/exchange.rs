//! One round trip: settles what is done, leases what comes next, fetches it. Each is a transaction of
//! its own; they are only sent together. In one transaction the lease would keep the queue locked
//! while the settlement's commit reaches the disk.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use uuid::Uuid;

use super::connect::{Database, Pooled};
use super::error::QueueError;
use super::fetch::{Fetched, fetch};
use super::granted::Granted;
use super::lanes::lease_lanes;
use super::settle::settle;
use super::statements::Statements;
use host_core::id::{HandlerId, LeaseId, SessionId};
use host_core::lane::LaneTurn;
use host_core::message::{Expired, Message};
use host_core::settlement::{Ledger, Settlement};

/// What to lease.
#[derive(Clone, Copy, Debug)]
pub struct LeaseRequest {
    /// For this handler.
    pub handler: HandlerId,
    /// A number that this session has used for no other lease of the queue.
    pub seq: i64,
    /// At most so many messages.
    pub messages_max: u32,
    /// At most so many bytes of payload, as they are stored; but one message always.
    pub bytes_max: u64,
    /// From which lanes.
    pub turn: LaneTurn,
    /// At most so many leases, numbered from `seq` on; only [`LaneTurn::Free`] gives more than one.
    pub leases_max: u32,
}

/// The right to process a batch of messages. Whatever happens to it, its ledger has to be settled, or
/// the session to end: there is no other way to be rid of one.
#[must_use]
#[derive(Debug)]
pub struct Lease {
    /// Its row in the log.
    pub id: LeaseId,
    /// What has to be done, and what is done.
    pub ledger: Ledger,
    /// To be run.
    pub messages: Vec<Message>,
    /// To be given up on.
    pub expired: Vec<Expired>,
}

/// What was leased.
#[derive(Debug, Default)]
pub struct Taken {
    /// None: there was nothing, or nothing was asked for.
    pub leases: Vec<Lease>,
    /// Whether the queue has more, as far as is known.
    pub more: bool,
    /// How long until there will be more, of what is known to wait for its time.
    pub wait: Option<Duration>,
    /// The queue's limits let nothing start.
    pub limit: Option<Wait>,
    /// The lane of the last of the leases, where lanes have their turns.
    pub last_lane: Option<u16>,
}

/// How long a limit lets no message start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Ask again after this time …
    pub time: Duration,
    /// … or when messages of the handler are settled: so many are in flight as may.
    pub until_settled: bool,
    /// The limits are of some lanes, and others may have messages at any time.
    pub others_may_start: bool,
}

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
    let (handler, number) = (r.handler.get(), session.get());
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
    let (time, until_settled) = (wait.max(Duration::from_millis(1)), granted.until_settled()?);
    let limit = Some(Wait { time, until_settled, others_may_start: false });
    Ok(Taken { limit, ..Taken::default() })
}

/// A lease from its rows.
pub(super) fn open(mut ledger: Ledger, fetched: Fetched) -> Result<Lease, QueueError> {
    let Fetched { messages, early, expired, removed, not_ours } = fetched;
    let have = messages.len() + early.len() + expired.len() + removed.len() + not_ours.len();
    let (id, count) = (ledger.lease(), ledger.rest());
    if have != count {
        return Err(QueueError::Unexpected(format!(
            "lease {id} is of {count} messages, but {have} came"
        )));
    }
    for position in early {
        ledger.early(position);
    }
    for position in removed {
        ledger.removed(position);
    }
    for position in not_ours {
        ledger.not_ours(position);
    }
    Ok(Lease { id, ledger, messages, expired })
}
