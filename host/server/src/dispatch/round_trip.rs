//! Round trips to Postgres. Most settle what is done and lease what is next. Others look for stray
//! leases, or tell producers that no host sleeps. A round trip owns what it needs, and decides
//! nothing.

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::OwnedSemaphorePermit;

use super::config::HandlerRef;
use super::health::Health;
use super::lease::idle::Announcement;
use super::lease::slots::Slot;
use super::lease::strays::SearchScope;
use host_core::id::SessionId;
use host_core::message::lane::LaneTurn;
use host_core::settlement::Settlement;
use host_queue::connect::Database;
use host_queue::error::QueueError;
use host_queue::lease::exchange::{Exchanged, exchange};
use host_queue::lease::take_over::{Stray, strays, take_over};
use host_queue::lease::{LeaseRequest, Taken};
use host_queue::session::set_asleep;

/// Round trips of one handler under way at once.
const UNDER_WAY_MAX: usize = 4;

/// The round trips of one handler that are under way.
pub(super) struct RoundTrips {
    caller: Arc<Caller>,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    /// For each round trip that leases: when it began, and how many messages it asks for.
    leasing: Vec<(Instant, u32)>,
    /// One of them tells producers that no host sleeps.
    announces: bool,
    health: Health,
}

/// Who makes the round trips.
pub(super) struct Caller {
    pub(super) database: Database,
    pub(super) session: SessionId,
    pub(super) handler: HandlerRef,
}

/// What to lease, and the room for it.
pub(super) struct LeasePlan {
    /// Numbers its leases, from this one on.
    pub(super) seq: i64,
    pub(super) leases_max: u32,
    pub(super) messages_max: u32,
    pub(super) room: LeaseRoom,
    pub(super) source: LeaseSource,
}

/// What the messages of a lease need to run. Given back when dropped.
pub(super) struct LeaseRoom {
    pub(super) slots: Vec<Slot>,
    /// The right to hold their payload, in KiB.
    pub(super) payload: OwnedSemaphorePermit,
}

/// Where a lease comes from.
pub(super) enum LeaseSource {
    /// From the queue: from the lanes whose turn it is, after an announcement to producers.
    Queue { turn: LaneTurn, announcement: Option<Announcement> },
    /// From a lease that another host, or a lost reply, has left behind.
    Stray(Stray),
}

/// What came of a round trip.
pub(super) enum Done {
    /// Settlements, and perhaps a lease.
    Exchanged { began: Instant, settled: Vec<Settled>, leased: Option<Leased> },
    /// A search for stray leases.
    Searched { began: Instant, found: Result<Vec<Stray>, QueueError>, scope: SearchScope },
    /// Producers know that no host sleeps.
    Announced,
}

/// A settlement that was sent, and what Postgres said.
pub(super) struct Settled {
    pub(super) settlement: Settlement,
    pub(super) result: Result<(), QueueError>,
}

/// What Postgres said in one exchange.
struct Answers {
    settled: Vec<Settled>,
    taken: Result<Taken, QueueError>,
}

/// What came of a lease.
pub(super) enum Leased {
    /// From the queue.
    FromQueue(Result<Taken, QueueError>, LeaseRoom),
    /// By taking over a stray.
    TakenOver(Result<Taken, QueueError>, LeaseRoom),
}

impl Leased {
    fn error(&self) -> Option<&QueueError> {
        let (Self::FromQueue(result, _) | Self::TakenOver(result, _)) = self;
        result.as_ref().err()
    }
}

impl RoundTrips {
    pub(super) fn new(caller: Caller, health: Health) -> Self {
        Self {
            caller: Arc::new(caller),
            under_way: FuturesUnordered::new(),
            leasing: Vec::new(),
            announces: false,
            health,
        }
    }

    /// The handler that makes them.
    pub(super) fn handler(&self) -> &HandlerRef {
        &self.caller.handler
    }

    /// Whether none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// How many of them lease.
    pub(super) const fn leasing(&self) -> usize {
        self.leasing.len()
    }

    /// When the oldest round trip that leases began.
    pub(super) fn leasing_since(&self) -> Option<Instant> {
        self.leasing.iter().map(|(since, _)| *since).min()
    }

    /// How many messages the round trips that lease ask for.
    pub(super) fn requested(&self) -> u32 {
        self.leasing.iter().map(|(_, messages)| *messages).sum()
    }

    /// Whether one of them tells producers that no host sleeps.
    pub(super) const fn announces(&self) -> bool {
        self.announces
    }

    /// Whether the queue has an incident.
    pub(super) const fn is_ailing(&self) -> bool {
        self.health.is_unhealthy()
    }

    /// Whether something has failed lately.
    pub(super) const fn has_incident(&self) -> bool {
        self.health.has_incident()
    }

    /// Whether one more may lease.
    pub(super) fn may_lease(&self) -> bool {
        self.under_way.len() < if self.is_ailing() { 1 } else { UNDER_WAY_MAX }
    }

    /// Whether one more may settle. More round trips at once do not help a queue with an incident,
    /// and each holds in memory what it says.
    pub(super) fn may_settle(&self) -> bool {
        !self.is_ailing() || self.is_empty()
    }

    /// Settles, and leases if there is a plan.
    pub(super) fn exchange(
        &mut self,
        settlements: Vec<Settlement>,
        plan: Option<LeasePlan>,
        now: Instant,
    ) {
        self.leasing.extend(plan.as_ref().map(|plan| (now, plan.messages_max)));
        let caller = self.caller.clone();
        let turn = self.health.connection_turn();
        self.under_way.push(Box::pin(async move {
            let _turn = turn.await;
            caller.exchange(settlements, plan, now).await
        }));
    }

    /// Looks for stray leases: those of dead hosts, and this host's own.
    pub(super) fn search(&mut self, scope: SearchScope) {
        let caller = self.caller.clone();
        self.under_way.push(Box::pin(async move {
            let began = Instant::now();
            let Caller { database, session, handler } = &*caller;
            let own = (scope == SearchScope::All).then_some(*session);
            let found = strays(database, &handler.statements, handler.id, own).await;
            Done::Searched { began, found, scope }
        }));
    }

    /// Tells producers that no host sleeps.
    pub(super) fn announce_awake(&mut self) {
        self.announces = true;
        let caller = self.caller.clone();
        self.under_way.push(Box::pin(async move {
            caller.announce(Announcement::Awake).await;
            Done::Announced
        }));
    }

    /// The next one that is over. `None`: none is under way.
    pub(super) async fn next(&mut self) -> Option<Done> {
        let done = self.under_way.next().await?;
        let now = Instant::now();
        match &done {
            Done::Exchanged { began, settled, leased } => {
                for Settled { settlement, result } in settled {
                    // A refused follow-up is its guest's doing: it is split off, and the queue is
                    // well.
                    let refused = matches!(result, Err(QueueError::Refused { .. }));
                    if settlement.follow_ups.is_empty() || !refused {
                        self.health.note("settle", result.as_ref().err(), *began, now);
                    }
                }
                if let Some(leased) = leased {
                    if let Some(at) = self.leasing.iter().position(|(since, _)| since == began) {
                        self.leasing.swap_remove(at);
                    }
                    self.health.note("lease", leased.error(), *began, now);
                }
            }
            Done::Searched { began, found, .. } => {
                self.health.note("look for strays", found.as_ref().err(), *began, now);
            }
            Done::Announced => self.announces = false,
        }
        Some(done)
    }
}

impl Caller {
    async fn exchange(
        &self,
        settlements: Vec<Settlement>,
        plan: Option<LeasePlan>,
        began: Instant,
    ) -> Done {
        let Some(LeasePlan { seq, leases_max, messages_max, room, source }) = plan else {
            let settled = self.settle(settlements).await;
            return Done::Exchanged { began, settled, leased: None };
        };
        let request = |turn| LeaseRequest {
            handler: self.handler.id,
            seq,
            messages_max,
            bytes_max: (room.payload.num_permits() as u64) << 10,
            turn,
            leases_max,
        };
        match source {
            LeaseSource::Queue { turn, announcement } => {
                if let Some(announcement) = announcement {
                    self.announce(announcement).await;
                }
                let Answers { settled, taken } = self.ask(settlements, Some(request(turn))).await;
                let leased = Some(Leased::FromQueue(taken, room));
                Done::Exchanged { began, settled, leased }
            }
            LeaseSource::Stray(stray) => {
                let settled = self.settle(settlements).await;
                let request = request(LaneTurn::Only);
                let Self { database, session, handler } = self;
                let taken =
                    take_over(database, &handler.statements, *session, stray, request).await;
                let leased = Some(Leased::TakenOver(taken, room));
                Done::Exchanged { began, settled, leased }
            }
        }
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Vec<Settled> {
        self.ask(settlements, None).await.settled
    }

    /// Without a connection, or an answer, nothing is known, and that goes for each part.
    async fn ask(&self, settlements: Vec<Settlement>, request: Option<LeaseRequest>) -> Answers {
        let Self { database, session, handler } = self;
        let exchanged =
            exchange(database, &handler.statements, *session, &settlements, request).await;
        match exchanged {
            Ok(Exchanged { settled, taken }) => {
                let pairs = settlements.into_iter().zip(settled);
                let settled = |(settlement, result)| Settled { settlement, result };
                Answers { settled: pairs.map(settled).collect(), taken }
            }
            Err(error) => {
                // Whatever was wrong, it was not a settlement that Postgres refused.
                let unknown = |settlement| {
                    let result = Err(QueueError::Unavailable(error.to_string()));
                    Settled { settlement, result }
                };
                let settled = settlements.into_iter().map(unknown).collect();
                Answers { settled, taken: Err(error) }
            }
        }
    }

    async fn announce(&self, announcement: Announcement) {
        let asleep = announcement == Announcement::Asleep;
        let statements = &self.handler.statements;
        if let Err(error) = set_asleep(&self.database, statements, asleep).await {
            // A hint that is not given costs a moment's sleep.
            tracing::debug!(%error, "cannot set the flag of sleep");
        }
    }
}
