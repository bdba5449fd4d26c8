//! The steps of a message's walk through a handler's loop, in their order: wake, lease, start,
//! collect, settle. Each is a function of that name. What it decides is decided by the module that
//! it asks.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Dispatcher;
use super::config::{HandlerRef, Mode};
use super::lease::Load;
use super::lease::idle::{Announcement, Next};
use super::lease::slots::Slot;
use super::lease::strays::SearchScope;
use super::round_trip::{Done, LeasePlan, LeaseRoom, LeaseSource, Leased, Settled};
use super::settle::open_lease::Extent;
use crate::rest::Stir;
use host_core::id::LeaseKey;
use host_queue::error::QueueError;
use host_queue::lease::Taken;
use host_queue::lease::take_over::Stray;

/// How long outcomes wait for others of their lease before they are settled without them.
const PARTIAL_AFTER: Duration = Duration::from_millis(20);
/// How long to wait if there is no memory for payloads.
const NO_MEMORY_AGAIN: Duration = Duration::from_millis(5);
/// How long to wait after a lease that failed for a passing reason.
const UNAVAILABLE_AGAIN: Duration = Duration::from_millis(200);
/// How long to wait after a lease that Postgres refused.
const LEASE_REFUSED_AGAIN: Duration = Duration::from_secs(1);

impl Dispatcher {
    /// Wake: a message may have come.
    pub(super) fn wake(&mut self, now: Instant) {
        self.planner.idle.wake(now);
        self.planner.strays.wake(now);
    }

    /// Wake: the queue was at rest, and something has stirred it.
    pub(super) fn stirred(&mut self, stir: Stir, now: Instant) {
        self.wake(now);
        if stir == Stir::Alarm {
            self.planner.strays.search_now(now);
        }
    }

    /// Looks for leases that dead hosts have left, now and then and when told to.
    pub(super) fn search(&mut self, mode: Mode, now: Instant) {
        let rests = self.planner.idle.rests();
        if mode == Mode::Leasing && self.planner.strays.begin_search(rests, now) {
            self.round_trips.search(SearchScope::of(self.round_trips.leasing_since(), now));
        }
    }

    /// When to lease next, if there is room for more messages.
    pub(super) fn next_lease_at(&self, now: Instant) -> Option<Instant> {
        let may_lease = self.control.borrow().mode == Mode::Leasing
            && self.round_trips.may_lease()
            && self.workers.may_begin();
        if may_lease { self.planner.next_at(self.load(), now) } else { None }
    }

    fn load(&self) -> Load {
        Load {
            leasing: self.round_trips.leasing(),
            requested: self.round_trips.requested(),
            in_hand: self.open.in_hand(),
            shape: self.version.load().shape(),
        }
    }

    /// Whether messages are leased before there are slots for them. Not with an incident.
    fn leases_ahead(&self) -> bool {
        self.planner.pace.leases_ahead() && !self.round_trips.is_ailing()
    }

    /// If it is time to lease: leases with a free slot, or waits for one. Where the database is
    /// far, no slot stands idle until the messages are here: it leases ahead, unless other handlers
    /// have all slots of the host.
    pub(super) fn seek_slot(&mut self, now: Instant) {
        if self.next_lease_at(now).is_none_or(|at| at > now) {
            return;
        }
        let version = self.version.load_full();
        let slots = version.slots();
        match slots.try_acquire() {
            Some(_) if self.leases_ahead() => self.lease(None, now),
            Some(slot) => self.lease(Some(slot), now),
            None if self.leases_ahead() && slots.are_all_used() => self.lease(None, now),
            None => self.slot_wait.begin(slots),
        }
    }

    /// Start, of messages that were leased ahead: gives them the slots that are free, or waits for
    /// one.
    pub(super) fn start_waiting(&mut self) {
        let waiting = self.open.waiting_batches();
        let more = self.workers.add_ahead(waiting, self.open.workers(), self.planner.pace);
        if more {
            self.slot_wait.begin(self.version.load().slots());
        }
    }

    /// Uses a slot that it has waited for: for messages that were leased ahead, else for a lease.
    pub(super) fn use_slot(&mut self, slot: Slot, now: Instant) {
        let waiting = self.open.waiting_batches();
        let Some(slot) = self.workers.start_one_ahead(waiting, self.planner.pace, slot) else {
            return;
        };
        if self.leases_ahead() { drop(slot) } else { self.lease(Some(slot), now) }
    }

    /// Lease: leases as many messages as are worth a round trip, with one slot in hand or ahead of
    /// the slots. A stray comes first.
    fn lease(&mut self, slot: Option<Slot>, now: Instant) {
        if slot.is_some() {
            self.slot_wait.end();
        }
        if self.next_lease_at(now).is_none_or(|at| at > now) {
            return;
        }
        // However much the others hold, it moves on with what is its own (I5). With an incident, it
        // has no more than that.
        let is_ailing = self.round_trips.is_ailing();
        let memory = &self.payload_memory;
        let payload = if is_ailing { memory.take_reserve() } else { memory.take() };
        let Some(payload) = payload else { return self.planner.idle.wait(now, NO_MEMORY_AGAIN) };
        let slots_max = if is_ailing { 1 } else { usize::MAX };
        let version = self.version.load_full();
        let size = self.planner.size(slot, version.slots(), self.load(), slots_max);
        self.planner.leased(now);
        let plan = LeasePlan {
            seq: self.host.next_seq.fetch_add(size.leases_max.into(), Ordering::Relaxed),
            leases_max: size.leases_max,
            messages_max: size.messages_max,
            room: LeaseRoom { slots: size.slots, payload },
            source: self.lease_source(),
        };
        self.settle(Extent::Final, Some(plan), now);
    }

    fn lease_source(&mut self) -> LeaseSource {
        let open = &self.open;
        if let Some(stray) = self.planner.strays.next(|lease| open.contains(lease)) {
            return LeaseSource::Stray(stray);
        }
        self.rest.begin_look();
        let announcement = self.announcement();
        LeaseSource::Queue { announcement, turn: self.planner.turns.next() }
    }

    /// The next announcement to producers, unless one is on its way.
    fn announcement(&mut self) -> Option<Announcement> {
        let wake_up = self.control.borrow().wake_up;
        if self.round_trips.announces() { None } else { self.planner.idle.announce(wake_up) }
    }

    /// If the handler is paused, its producers need wake nobody.
    pub(super) fn announce_pause(&mut self, mode: Mode) {
        if mode == Mode::Paused {
            self.planner.idle.rest();
            self.announce_if_awake();
        }
    }

    fn announce_if_awake(&mut self) {
        if self.announcement() == Some(Announcement::Awake) {
            self.round_trips.announce_awake();
        }
    }

    /// A round trip is over. Breaks when the queue, or the handler, is gone.
    pub(super) fn arrived(&mut self, done: Done, now: Instant) -> ControlFlow<()> {
        match done {
            Done::Exchanged { began, settled, leased } => {
                self.settled(settled, now);
                match leased {
                    None => {}
                    Some(Leased::FromQueue(Ok(taken), room)) => {
                        self.leased(taken, room, now - began, now);
                    }
                    Some(Leased::TakenOver(Ok(taken), room)) => self.taken_over(taken, room, now),
                    Some(Leased::TakenOver(Err(QueueError::Hidden(_)), _)) => {
                        self.planner.strays.hidden(now);
                    }
                    Some(Leased::FromQueue(Err(error), _) | Leased::TakenOver(Err(error), _)) => {
                        return self.cannot_lease(&error, now);
                    }
                }
            }
            Done::Searched { found, scope, .. } => {
                let is_stray = |stray: &Stray| !self.open.contains(stray.lease);
                let strays = found.ok().map(|found| found.into_iter().filter(is_stray));
                self.planner.strays.end_search(strays);
                if scope == SearchScope::Others {
                    self.planner.strays.reply_lost(now);
                }
            }
            Done::Announced => {}
        }
        ControlFlow::Continue(())
    }

    /// Messages came from the queue, or it has none that may start.
    fn leased(&mut self, taken: Taken, room: LeaseRoom, took: Duration, now: Instant) {
        if !taken.leases.is_empty() {
            self.planner.turns.go_on_after(taken.last_lane);
            self.planner.pace.observe_round_trip(took);
            self.rest.note_activity();
            self.planner.idle.found(taken.more, now);
            self.announce_if_awake();
            return self.start(taken, room);
        }
        let may_rest = self.rest.may_rest() && !self.round_trips.has_incident();
        let next = if may_rest { Next::MayRest } else { Next::LookOn };
        match taken.limit {
            Some(limit) => self.planner.idle.limited(limit, now),
            None => self.planner.idle.nothing(next, now),
        }
        if let Some(wait) = taken.wait {
            self.planner.idle.look_by(now + wait);
        }
    }

    /// A stray is ours, or another host was faster.
    fn taken_over(&mut self, taken: Taken, room: LeaseRoom, now: Instant) {
        if taken.leases.is_empty() {
            self.planner.strays.missed(now);
        } else {
            self.planner.strays.taken_over(now);
            self.rest.note_activity();
            self.start(taken, room);
        }
    }

    /// A lease failed. Breaks when the queue, or the handler, is gone.
    fn cannot_lease(&mut self, error: &QueueError, now: Instant) -> ControlFlow<()> {
        self.planner.strays.reply_lost(now);
        if matches!(error, QueueError::Gone) {
            let HandlerRef { queue, name, .. } = self.round_trips.handler();
            tracing::info!(%queue, handler = %name, "the queue or the handler is gone");
            return ControlFlow::Break(());
        }
        let again = if error.is_passing() { UNAVAILABLE_AGAIN } else { LEASE_REFUSED_AGAIN };
        self.planner.idle.wait(now, again);
        ControlFlow::Continue(())
    }

    /// Start: gives the messages of leases to workers. Each lease has its share of the slots. Those
    /// that were leased ahead have none yet.
    fn start(&mut self, taken: Taken, room: LeaseRoom) {
        let LeaseRoom { mut slots, mut payload } = room;
        let context = self.outcome_context();
        let mut leases_left = taken.leases.len();
        for lease in taken.leases {
            let workers = if lease.ledger.is_in_order() { 1 } else { slots.len() / leases_left };
            leases_left -= 1;
            let slots = slots.split_off(slots.len().saturating_sub(workers));
            let batch = self.open.add(lease, &mut payload, &context);
            // What operators have removed while the lease was under way.
            self.open.remove(&self.control.borrow().removed);
            self.workers.start(&batch, slots);
        }
    }

    /// Collect: the messages of a lease are done, and have their outcomes. In order, this also ends
    /// with a message that did not succeed. If it is dead-lettered, the messages after it go on,
    /// else they wait for its retry; and the lane is free, or another's turn has come.
    pub(super) fn collect(&mut self, lease: LeaseKey, now: Instant) {
        self.planner.idle.settled(now);
        let any = self.open.collect(lease, &self.outcome_context(), &mut self.planner.pace);
        self.expect_calls(any);
        if self.planner.turns.in_order() {
            self.planner.idle.look_by(now);
            self.add_workers();
        }
    }

    /// Learns from messages that have run which threads the next calls begin on.
    fn expect_calls(&self, any: bool) {
        if any {
            self.workers.expect(self.planner.pace.standing());
        }
    }

    /// Where messages wait behind slow ones, and slots are free, more workers help.
    fn add_workers(&self) {
        self.workers.add(self.open.waiting_batches(), self.planner.pace);
    }

    /// Settles what is done of leases that are not, when outcomes have waited for long enough.
    pub(super) fn settle_partly(&mut self, now: Instant) {
        if self.partial_at.is_some_and(|at| at <= now) {
            self.partial_at = None;
            let any = self.open.collect_all(&self.outcome_context(), &mut self.planner.pace);
            self.expect_calls(any);
            self.add_workers();
            self.settle(Extent::Partial, None, now);
        }
        if self.partial_at.is_none() && !self.open.is_empty() {
            self.partial_at = Some(now + PARTIAL_AFTER);
        }
    }

    /// Settle: makes a round trip with what is to be settled, and with a lease if there is a plan.
    pub(super) fn settle(&mut self, extent: Extent, plan: Option<LeasePlan>, now: Instant) {
        let may_settle = self.round_trips.may_settle();
        let settlements = if may_settle { self.open.ready(extent, now) } else { Vec::new() };
        if !settlements.is_empty() || plan.is_some() {
            self.round_trips.exchange(settlements, plan, now);
        }
    }

    /// Settlements are durable, or failed.
    fn settled(&mut self, settled: Vec<Settled>, now: Instant) {
        let context = self.outcome_context();
        for Settled { settlement, result } in settled {
            if result.is_ok() {
                self.rest.note_activity();
                if settlement.schedules() {
                    self.schedule_changed.notify_one();
                }
                if let Some(wait) = settlement.lane_waits() {
                    self.planner.idle.look_by(now + wait);
                }
            }
            self.open.settled(settlement, result, &context, now);
        }
    }
}
