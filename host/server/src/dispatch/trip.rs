//! Round trips of a handler's loop, as futures that own what they need. They decide nothing.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::slots::Slot;
use host_core::id::HandlerId;
use host_core::lane::Turn;
use host_core::settlement::Settlement;
use host_queue::error::QueueError;
use host_queue::exchange::{Exchanged, LeaseRequest, Taken, exchange};
use host_queue::session::set_asleep;
use host_queue::statements::Statements;
use host_queue::take_over::{Stray, adopt, strays};

/// One round trip to be made.
pub(super) struct Trip {
    pub(super) shared: Shared,
    pub(super) statements: Arc<Statements>,
    pub(super) handler: HandlerId,
    pub(super) settlements: Vec<Settlement>,
    pub(super) wanted: Option<Wanted>,
    /// Since when it is to be made.
    pub(super) began: Instant,
}

/// What is to be leased, and with what.
pub(super) struct Wanted {
    pub(super) seq: i64,
    pub(super) messages_max: u32,
    pub(super) slots: Vec<Slot>,
    /// The right to hold so much payload, in KiB.
    pub(super) bytes: OwnedSemaphorePermit,
    /// Whose turn it is.
    pub(super) turn: Turn,
    /// Not from the queue, but what another host has left.
    pub(super) stray: Option<Stray>,
    /// To be told to producers before.
    pub(super) announce: Option<bool>,
}

/// What came of a round trip.
pub(super) struct Done {
    pub(super) settled: Vec<(Settlement, Result<(), QueueError>)>,
    pub(super) leased: Option<Leased>,
    pub(super) strays: Option<Result<Vec<Stray>, QueueError>>,
    /// Producers were told that no host sleeps.
    pub(super) told_awake: bool,
    /// Since when it was to be made.
    pub(super) began: Instant,
}

/// What came of a lease.
pub(super) struct Leased {
    pub(super) result: Result<Taken, QueueError>,
    pub(super) was_stray: bool,
    pub(super) slots: Vec<Slot>,
    pub(super) bytes: OwnedSemaphorePermit,
}

impl Trip {
    pub(super) async fn make(self) -> Done {
        let Self { shared, statements, handler, settlements, wanted, began } = self;
        let Some(wanted) = wanted else {
            let exchanged =
                exchange(&shared.database, &statements, shared.session, &settlements, None).await;
            let (settled, _) = unfold(settlements, exchanged);
            return Done { settled, leased: None, strays: None, told_awake: false, began };
        };
        let Wanted { seq, messages_max, slots, bytes, turn, stray, announce } = wanted;
        if let Some(asleep) = announce {
            tell(&shared, &statements, asleep).await;
        }
        let bytes_max = (bytes.num_permits() as u64) << 10;
        let leases_max = slots.len() as u32;
        let request = LeaseRequest { handler, seq, messages_max, bytes_max, turn, leases_max };
        let (database, session) = (&shared.database, shared.session);
        let was_stray = stray.is_some();
        let (settled, result) = if let Some(stray) = stray {
            let exchanged = exchange(database, &statements, session, &settlements, None).await;
            let (settled, _) = unfold(settlements, exchanged);
            (settled, adopt(database, &statements, session, stray, request).await)
        } else {
            let exchanged =
                exchange(database, &statements, session, &settlements, Some(request)).await;
            unfold(settlements, exchanged)
        };
        let leased = Some(Leased { result, was_stray, slots, bytes });
        Done { settled, leased, strays: None, told_awake: false, began }
    }
}

/// Looks for leases without a master.
pub(super) async fn find_strays(
    shared: Shared,
    statements: Arc<Statements>,
    handler: HandlerId,
) -> Done {
    let began = Instant::now();
    let found = strays(&shared.database, &statements, handler, shared.session).await;
    Done { settled: Vec::new(), leased: None, strays: Some(found), told_awake: false, began }
}

/// Tells producers that nobody needs to be woken.
pub(super) async fn tell_awake(shared: Shared, statements: Arc<Statements>) -> Done {
    let began = Instant::now();
    tell(&shared, &statements, false).await;
    Done { settled: Vec::new(), leased: None, strays: None, told_awake: true, began }
}

async fn tell(shared: &Shared, statements: &Statements, asleep: bool) {
    if let Err(error) = set_asleep(&shared.database, statements, asleep).await {
        // A hint that is not given costs a moment's sleep.
        tracing::debug!(%error, "cannot set the flag of sleep");
    }
}

type Results = (Vec<(Settlement, Result<(), QueueError>)>, Result<Taken, QueueError>);

/// Without a connection, or an answer, nothing is known, and that goes for each part.
fn unfold(settlements: Vec<Settlement>, exchanged: Result<Exchanged, QueueError>) -> Results {
    match exchanged {
        Ok(Exchanged { settled, taken }) => (settlements.into_iter().zip(settled).collect(), taken),
        Err(error) => {
            // Whatever was wrong, it was not a settlement that Postgres refused.
            let unknown = || Err(QueueError::Unavailable(error.to_string()));
            let settled = settlements.into_iter().map(|s| (s, unknown())).collect();
            (settled, Err(error))
        }
    }
}
