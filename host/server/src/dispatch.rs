//! The loop of one handler on one host: lease, run, settle. Everything else is elsewhere: what a
//! verdict leads to in `outcome`, how it is written down in `queue`, how a message runs in `sandbox`.
//!
//! ```text
//!          ┌── exchange: settle what is done, lease what is next ──┐
//!   slots ─┤                                                      ├─► batch ─► workers ─► outcomes
//!          └──────────────────────────────────────────────────────┘              │
//!                 ▲                                                               │
//!                 └───────────────────────── ledger ◄─────────────────────────────┘
//! ```
//!
//! The loop never waits for a message to run or for Postgres to answer: several exchanges are on their
//! way at once, and a lease whose last message takes an hour holds up none of the others.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::DropGuard;

use self::brake::Brake;
use self::health::Health;
use self::idle::Idle;
use self::loaded::Loaded;
use self::long_calls::Track;
use self::open::{Context, OpenLeases};
use self::pace::Pace;
use self::parts::{Control, Parts, Shared};
use self::slots::{Slot, wait_for};
use self::trip::{Done, Trip, Wanted};
use host_core::id::{HandlerId, LeaseKey};
use host_core::lane::{Turn, Turns};
use host_core::name::{HandlerName, QueueName};
use host_core::progress::{ROUND_EVERY, Watch};
use host_queue::error::QueueError;
use host_queue::statements::Statements;
use host_queue::take_over::Stray;

pub mod batch;
pub mod brake;
pub mod health;
mod idle;
pub mod loaded;
mod long_calls;
mod open;
mod pace;
pub mod parts;
mod removal;
pub mod slots;
mod sweep;
pub mod threads;
mod trip;
mod worker;
mod workers;

/// Exchanges of one handler that are on their way at once.
const TRIPS_MAX: usize = 4;
/// How long outcomes wait for others of their lease before they are settled without them.
const PARTIAL_AFTER: Duration = Duration::from_millis(20);
/// Payload that each handler has in reserve, in KiB.
const RESERVE_KIB: usize = 1 << 10;
/// Payload that one lease may hold, in KiB.
const LEASE_KIB_MAX: usize = 16 << 10;

/// One handler on this host.
pub struct Dispatcher {
    shared: Shared,
    queue: QueueName,
    name: HandlerName,
    handler: HandlerId,
    statements: Arc<Statements>,
    /// The version in force; swapped by a deploy.
    loaded: Arc<ArcSwap<Loaded>>,
    control: watch::Receiver<Control>,
    woken: Arc<Notify>,
    /// Told when the schedule has got new messages.
    schedule_changed: Arc<Notify>,
    /// Payload that this handler may hold when the host's is used up, in KiB.
    reserve_kib: Arc<Semaphore>,
    open: OpenLeases,
    pace: Pace,
    track: Track,
    idle: Idle,
    turns: Turns,
    trips: FuturesUnordered<BoxFuture<'static, Done>>,
    /// How many of them lease.
    leasing: usize,
    waiting_for_slot: Option<BoxFuture<'static, Slot>>,
    partial_at: Option<Instant>,
    leased_at: Instant,
    sweep_at: Instant,
    /// Leases without a master: of dead sessions, or whose reply was lost.
    strays: VecDeque<Stray>,
    sweeping: bool,
    /// Producers are being told that no host sleeps.
    telling: bool,
    health: Health,
    /// Stops new messages while the follow-ups of those before wait to be settled.
    brake: Brake,
    watch: Watch,
    complete: (mpsc::UnboundedSender<LeaseKey>, mpsc::UnboundedReceiver<LeaseKey>),
    /// Interrupts its calls when it is dropped, as with its queue: nobody will settle them.
    _calls: DropGuard,
}

impl Dispatcher {
    /// A loop that has not begun.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { mut shared, queue, name, handler, statements, loaded, .. } = parts;
        shared.stop_now = shared.stop_now.child_token();
        let track = Track::new(&shared.long_calls);
        Self {
            health: Health::of(queue.as_str(), name.as_str(), &shared.slow_lane),
            watch: shared.progress.watch(format!("the loop of {queue}/{name}")),
            idle: Idle::new(shared.poll_max, Instant::now()),
            brake: Brake::new(shared.follow_ups.clone(), shared.follow_up_bytes_max),
            _calls: shared.stop_now.clone().drop_guard(),
            shared,
            queue,
            name,
            handler,
            statements,
            loaded,
            control: parts.control,
            woken: parts.woken,
            schedule_changed: parts.schedule_changed,
            reserve_kib: Arc::new(Semaphore::new(RESERVE_KIB)),
            open: OpenLeases::default(),
            pace: Pace::default(),
            track,
            turns: Turns::of(parts.lanes),
            trips: FuturesUnordered::new(),
            leasing: 0,
            waiting_for_slot: None,
            partial_at: None,
            leased_at: Instant::now(),
            sweep_at: Instant::now(),
            strays: VecDeque::new(),
            sweeping: false,
            telling: false,
            complete: mpsc::unbounded_channel(),
        }
    }

    /// Leases, runs and settles until it is told to end.
    pub async fn run(mut self) {
        loop {
            self.watch.round();
            let now = Instant::now();
            let control = self.control.borrow_and_update().clone();
            self.settle_and_lease(&control, now);
            if control.draining && self.open.is_empty() && self.trips.is_empty() {
                return;
            }
            let alarm = self.alarm(&control, now);
            tokio::select! {
                biased;
                () = self.shared.stop_now.cancelled() => return,
                Some(lease) = self.complete.1.recv() => self.collect(lease, Instant::now()),
                Some(done) = self.trips.next() => {
                    if self.arrived(done).is_break() {
                        return;
                    }
                }
                slot = wait_for(&mut self.waiting_for_slot) => self.lease(slot),
                () = self.woken.notified() => self.idle.wake(Instant::now()),
                changed = self.control.changed() => match changed {
                    // A queue that was paused has what is to be had at once; so has a dead host's.
                    Ok(()) => {
                        self.idle.wake(Instant::now());
                        self.sweep_at = Instant::now();
                        self.open.remove(&self.control.borrow().removed);
                    }
                    Err(_) => return,
                },
                () = tokio::time::sleep_until(alarm.into()) => {}
            }
        }
    }

    /// Sends what is ready to be settled, and sees to the next lease.
    fn settle_and_lease(&mut self, control: &Control, now: Instant) {
        if self.partial_at.is_some_and(|at| at <= now) {
            self.partial_at = None;
            self.collect_all();
            self.add_workers();
            self.send(true, None, now);
        }
        if self.partial_at.is_none() && !self.open.is_empty() {
            self.partial_at = Some(now + PARTIAL_AFTER);
        }
        self.sweep(control, now);
        if !control.leasing && !control.draining {
            // Paused: its producers need wake nobody.
            self.idle.rest();
            self.tell_if_awake(control);
        }
        if self.next_lease(control, now).is_some_and(|at| at <= now) {
            // At once if there is a slot, else as soon as there is.
            match self.loaded.load().slots().try_acquire() {
                Some(slot) => self.lease(slot),
                None if self.waiting_for_slot.is_none() => {
                    let slots = self.loaded.load().slots().clone();
                    self.waiting_for_slot = Some(Box::pin(slots.acquire()));
                }
                None => {}
            }
        }
        self.send(false, None, now);
    }

    fn tell_if_awake(&mut self, control: &Control) {
        if !self.telling && self.idle.announce(control.wake_up) == Some(false) {
            self.telling = true;
            let told = trip::tell_awake(self.shared.clone(), self.statements.clone());
            self.trips.push(Box::pin(told));
        }
    }

    /// When something is to be done even if nothing happens.
    fn alarm(&self, control: &Control, now: Instant) -> Instant {
        let look =
            if self.waiting_for_slot.is_none() { self.next_lease(control, now) } else { None };
        let sweep = self.may_sweep(control).then_some(self.sweep_at);
        let retry = if self.may_settle() { self.open.retry_at() } else { None };
        let all = [self.partial_at, retry, look, sweep];
        let next = all.into_iter().flatten().min();
        let round = now + ROUND_EVERY;
        next.map_or(round, |at| at.clamp(now + Duration::from_millis(1), round))
    }

    /// When to lease next, if there is room for more messages.
    fn next_lease(&self, control: &Control, now: Instant) -> Option<Instant> {
        let room = self.room();
        let trips_max = if self.health.is_poor() { 1 } else { TRIPS_MAX };
        if !control.leasing || self.trips.len() >= trips_max || room == 0 || !self.brake.is_off() {
            return None;
        }
        if !self.strays.is_empty() {
            return (self.leasing == 0).then_some(now);
        }
        let look = self.idle.next_look(self.leasing)?;
        let shape = self.loaded.load().shape();
        Some(look.max(self.leased_at + self.pace.pause(room, shape, self.shared.cores)))
    }

    /// How many more messages to have in hand.
    fn room(&self) -> u32 {
        let in_hand = self.pace.in_hand(self.loaded.load().shape(), self.shared.cores);
        in_hand.saturating_sub(self.open.in_hand() as u32)
    }

    /// With one slot in hand: takes as many as are worth it, and leases as much as they are good for.
    fn lease(&mut self, slot: Slot) {
        self.waiting_for_slot = None;
        let control = self.control.borrow().clone();
        let now = Instant::now();
        if self.next_lease(&control, now).is_none_or(|at| at > now) {
            return;
        }
        let some_of = |from: &Arc<Semaphore>| {
            let kib = from.available_permits().clamp(1, LEASE_KIB_MAX);
            from.clone().try_acquire_many_owned(kib as u32)
        };
        // However much the others hold, it moves on with what is its own (I5); one in trouble has no more.
        let poor = self.health.is_poor();
        let bytes = if poor { None } else { some_of(&self.shared.payload_kib).ok() };
        let bytes = bytes.map_or_else(|| some_of(&self.reserve_kib), Ok);
        let Ok(bytes) = bytes else { return self.idle.wait(now, Duration::from_millis(5)) };
        let loaded = self.loaded.load_full();
        let wanted = self.room().clamp(1, self.pace.lease_max());
        self.leased_at = now;
        let mut slots = vec![slot];
        let per_call = loaded.shape().per_call;
        let sandboxes = self.pace.sandboxes(wanted).min(wanted.div_ceil(per_call));
        while !poor && (slots.len() as u32) < sandboxes {
            match loaded.slots().try_acquire() {
                Some(slot) => slots.push(slot),
                None => break,
            }
        }
        let messages_max = wanted.min(self.pace.messages(slots.len() as u32, per_call)).max(1);
        let seq = self.shared.next_seq.fetch_add(slots.len() as i64, Ordering::Relaxed);
        let open = &self.open;
        let strays = std::iter::from_fn(|| self.strays.pop_front());
        let stray = { strays }.find(|s| !open.contains(s.lease));
        let may_announce = stray.is_none() && !self.telling;
        let announce = if may_announce { self.idle.announce(control.wake_up) } else { None };
        let turn = if stray.is_none() { self.turns.next() } else { Turn::Only };
        let wanted = Wanted { seq, messages_max, slots, bytes, turn, stray, announce };
        self.send(false, Some(wanted), now);
    }

    /// A queue in trouble is not helped by more round trips at once, and each holds what it says in memory.
    fn may_settle(&self) -> bool {
        !self.health.is_poor() || self.trips.is_empty()
    }

    /// Makes a round trip, if there is anything to say.
    fn send(&mut self, partial: bool, wanted: Option<Wanted>, now: Instant) {
        let settlements =
            if self.may_settle() { self.open.ready(partial, now) } else { Vec::new() };
        if settlements.is_empty() && wanted.is_none() {
            return;
        }
        self.leasing += usize::from(wanted.is_some());
        let trip = Trip {
            shared: self.shared.clone(),
            statements: self.statements.clone(),
            handler: self.handler,
            settlements,
            wanted,
            began: now,
        };
        let lane = self.health.lane();
        self.trips.push(Box::pin(async {
            let _place = lane.await;
            trip.make().await
        }));
    }

    /// A round trip is over. Breaks when the queue is gone.
    fn arrived(&mut self, done: Done) -> ControlFlow<()> {
        let (began, now, context) = (done.began, Instant::now(), self.context());
        self.telling &= !done.told_awake;
        if done.settled.iter().any(|(s, result)| result.is_ok() && s.schedules()) {
            self.schedule_changed.notify_one();
        }
        for (settlement, result) in done.settled {
            // A refused follow-up is its guest's doing: it is split off, and the queue is well.
            let refused = matches!(result, Err(QueueError::Refused { .. }));
            if settlement.follow_ups.is_empty() || !refused {
                self.health.note("settle", result.as_ref().err(), began, now);
            }
            if let (Ok(()), Some(wait)) = (&result, settlement.lane_waits()) {
                self.idle.look_by(now + wait);
            }
            self.open.settled(settlement, result, &context, now);
        }
        if let Some(strays) = done.strays {
            self.sweeping = false;
            self.health.note("look for strays", strays.as_ref().err(), began, now);
            if let Ok(strays) = strays {
                let known = |s: &Stray| self.open.contains(s.lease);
                self.strays = strays.into_iter().filter(|s| !known(s)).collect();
            }
        }
        let Some(leased) = done.leased else { return ControlFlow::Continue(()) };
        self.leasing -= 1;
        self.health.note("lease", leased.result.as_ref().err(), began, now);
        match leased.result {
            Ok(taken) if !taken.leases.is_empty() => {
                self.turns.go_on_after(taken.last_lane);
                if !leased.was_stray {
                    self.pace.observe_trip(now - began);
                    self.idle.found(taken.more, now);
                    let control = self.control.borrow().clone();
                    self.tell_if_awake(&control);
                } else if self.strays.is_empty() {
                    // What was more than we could take is a new stray.
                    self.sweep_at = now;
                }
                self.begin(taken.leases, leased.slots, leased.bytes);
            }
            // Another host was faster, and may have left some of it.
            Ok(_) if leased.was_stray => {
                if self.strays.is_empty() {
                    self.sweep_at = self.sweep_at.min(now + PARTIAL_AFTER * 5);
                }
            }
            Ok(taken) => {
                if let Some(limit) = taken.limit {
                    self.idle.limited(limit, now);
                } else {
                    self.idle.nothing(now);
                }
                taken.wait.into_iter().for_each(|wait| self.idle.look_by(now + wait));
            }
            Err(error) => return self.cannot_lease(&error, leased.was_stray, now),
        }
        ControlFlow::Continue(())
    }

    fn context(&self) -> Context {
        let policy = self.control.borrow().policy.clone();
        Context { policy, host_name: self.shared.host_name.clone() }
    }
}
