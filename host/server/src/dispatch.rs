//! The loop of one handler on one host: it leases messages, runs them, and settles them.
//!
//! ```text
//!           ┌─── round trip: settle what is done, lease what is next ───┐
//!   slots ──┤                                                           ├──► batch ──► workers
//!           └───────────────────────────────────────────────────────────┘                 │
//!                  ▲                                                                      │
//!                  └────────────────── open leases ◄── outcomes ◄─────────────────────────┘
//! ```
//!
//! The loop waits neither for a message to run nor for Postgres to answer. Several round trips are
//! under way at once. A lease whose last message takes an hour holds up none of the others.
//!
//! [`steps`] has the steps of a message's walk, in their order. They ask these modules:
//!
//! 1. [`lease`]: when to look (`idle`), how much to lease (`pace`), with which slots (`slots`), and
//!    what other hosts have left (`strays`).
//! 2. [`round_trip`]: what goes to Postgres, and what comes back; [`health`]: what fails there.
//! 3. [`run`]: the messages of a lease (`batch`), who runs them (`workers`, `worker`), and on which
//!    threads (`long_calls`, `threads`).
//! 4. [`settle`]: what each open lease still has to settle (`open_leases`).
//! 5. [`failure_log`]: what the log says of messages that fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, watch};

use self::config::{Control, DispatcherConfig, HostResources, Mode};
use self::failure_log::FailureLog;
use self::health::Health;
use self::lease::LeasePlanner;
use self::lease::slots::{PayloadMemory, SlotWait};
use self::round_trip::{Caller, RoundTrips};
use self::run::handler_version::HandlerVersion;
use self::run::workers::Workers;
use self::settle::open_lease::Extent;
use self::settle::open_leases::OpenLeases;
use self::settle::outcome_context::OutcomeContext;
use crate::rest::RestObserver;
use host_core::health::progress::{ROUND_EVERY, Watch};
use host_core::id::LeaseKey;

pub mod config;
mod failure_log;
pub mod health;
pub mod lease;
mod round_trip;
pub mod run;
mod settle;
mod steps;

/// One handler on this host.
pub struct Dispatcher {
    host: HostResources,
    /// The version in force; swapped by a deploy.
    version: Arc<ArcSwap<HandlerVersion>>,
    control: watch::Receiver<Control>,
    /// Notified when a message may have come.
    woken: Arc<Notify>,
    /// Whether the queue is at rest.
    rest: RestObserver,
    /// To be notified when the schedule has new messages.
    schedule_changed: Arc<Notify>,
    planner: LeasePlanner,
    slot_wait: SlotWait,
    payload_memory: PayloadMemory,
    round_trips: RoundTrips,
    workers: Workers,
    /// Leases whose messages are done.
    finished: mpsc::UnboundedReceiver<LeaseKey>,
    open: OpenLeases,
    failures: Arc<FailureLog>,
    /// When to settle what is done of leases that are not.
    partial_at: Option<Instant>,
    watch: Watch,
}

impl Dispatcher {
    /// A loop that has not begun.
    #[must_use]
    pub fn new(config: DispatcherConfig) -> Self {
        let DispatcherConfig { mut host, handler, lanes, version, .. } = config;
        // The calls of this handler end with its loop.
        host.stop_now = host.stop_now.child_token();
        let health =
            Health::of(handler.queue.as_str(), handler.name.as_str(), &host.shared_connections);
        let watch = host.progress.watch(format!("the loop of {}/{}", handler.queue, handler.name));
        let failures = Arc::new(FailureLog::new(handler.queue.as_str(), handler.name.as_str()));
        let planner = LeasePlanner::new(lanes, host.poll_max, host.cores, Instant::now());
        let caller = Caller { database: host.database.clone(), session: host.session, handler };
        let (workers, finished) = Workers::new(&host, version.clone());
        Self {
            version,
            control: config.control,
            woken: config.woken,
            rest: config.rest,
            schedule_changed: config.schedule_changed,
            planner,
            slot_wait: SlotWait::default(),
            payload_memory: PayloadMemory::new(host.payload_kib.clone()),
            round_trips: RoundTrips::new(caller, health),
            workers,
            finished,
            open: OpenLeases::default(),
            failures,
            partial_at: None,
            watch,
            host,
        }
    }

    /// Leases, runs and settles until it is told to end.
    pub async fn run(mut self) {
        loop {
            self.watch.round();
            let now = Instant::now();
            let mode = self.control.borrow_and_update().mode;
            self.settle_partly(now);
            self.tell_failures(now);
            self.search(mode, now);
            self.announce_pause(mode);
            self.start_waiting();
            self.seek_slot(now);
            self.settle(Extent::Final, None, now);
            if mode == Mode::Draining && self.open.is_empty() && self.round_trips.is_empty() {
                return;
            }
            let alarm = self.alarm(mode, now);
            tokio::select! {
                biased;
                () = self.host.stop_now.cancelled() => return,
                Some(lease) = self.finished.recv() => self.collect(lease, Instant::now()),
                Some(done) = self.round_trips.next() => {
                    if self.arrived(done, Instant::now()).is_break() {
                        return;
                    }
                }
                slot = self.slot_wait.slot() => self.use_slot(slot, Instant::now()),
                () = self.woken.notified() => self.wake(Instant::now()),
                stir = self.rest.stirred() => self.stirred(stir, Instant::now()),
                changed = self.control.changed() => match changed {
                    Ok(()) => self.obey(Instant::now()),
                    Err(_) => return,
                },
                () = tokio::time::sleep_until(alarm.into()) => {}
            }
        }
    }

    /// When something is to be done even if nothing happens.
    fn alarm(&self, mode: Mode, now: Instant) -> Instant {
        let lease = if self.slot_wait.is_on() { None } else { self.next_lease_at(now) };
        let search = if mode == Mode::Leasing { self.planner.strays.search_at() } else { None };
        let retry = if self.round_trips.may_settle() { self.open.retry_at() } else { None };
        let next = [self.partial_at, retry, lease, search].into_iter().flatten().min();
        let round = now + ROUND_EVERY;
        next.map_or(round, |at| at.clamp(now + Duration::from_millis(1), round))
    }

    /// Does what the handler manager says. A queue that was paused may have messages: it looks for
    /// them at once.
    fn obey(&mut self, now: Instant) {
        self.wake(now);
        self.planner.strays.search_now(now);
        self.open.remove(&self.control.borrow().removed);
    }

    fn outcome_context(&self) -> OutcomeContext {
        OutcomeContext {
            policy: self.control.borrow().policy.clone(),
            host_name: self.host.host_name.clone(),
            failures: self.failures.clone(),
        }
    }

    /// Says how much failed, to the log and for the database, where it is time.
    fn tell_failures(&self, now: Instant) {
        if let Some(report) = self.failures.tell(now) {
            // Nobody listens any more when the host stops.
            let _ = self.host.failing.send((self.round_trips.handler().id, report));
        }
    }
}
