//! Open leases: what each has still to settle, and in which order. Never does I/O.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::batch::{Batch, Finished};
use super::pace::{Cost, Pace};
use host_core::id::{LeaseId, LeaseKey, MessageId};
use host_core::message::Expired;
use host_core::outcome::{DeadReason, Failure, Outcome, RetryPolicy, Verdict, outcome};
use host_core::settlement::{Dead, EFFECT_BYTES_MAX, Effects, Ledger, Retry, Settlement};
use host_queue::error::QueueError;

/// How long a settlement that Postgres refuses, and that has nothing more to leave out, waits before
/// it is tried again.
const REFUSED_AGAIN: Duration = Duration::from_secs(5);
/// How long one waits that did not get through.
const UNAVAILABLE_AGAIN: Duration = Duration::from_millis(200);

/// All open leases of one handler on this host.
#[derive(Debug, Default)]
pub(crate) struct OpenLeases {
    leases: HashMap<LeaseKey, Open>,
    /// Those that may have something to settle.
    changed: Vec<LeaseKey>,
    /// Messages leased and not finished.
    in_hand: usize,
}

#[derive(Debug)]
struct Open {
    ledger: Ledger,
    batch: Arc<Batch>,
    /// Settlements in order; only the first may be on its way.
    waiting: VecDeque<Settlement>,
    on_its_way: bool,
    again_at: Option<Instant>,
    /// The version that ran the newest of its messages.
    version: i32,
    _bytes: OwnedSemaphorePermit,
}

/// What is needed to decide and to write down what became of a message.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The queue's.
    pub policy: RetryPolicy,
    /// This host's name, for the history.
    pub host_name: Arc<str>,
}

impl Context {
    /// Makes a dead letter of a message whose deadline has passed.
    pub(crate) fn give_up(&self, ledger: &mut Ledger, message: Expired) {
        let error = "its deadline passed before it could run".to_owned();
        let outcome = Outcome::DeadLetter { reason: DeadReason::Expired, error };
        let entry = |error: String| self.entry(message.attempt, None, &error);
        ledger.record(message.position, outcome, Effects::default(), entry);
    }

    /// A line of a message's history, written as soon as an attempt is found to have ended: by which version and,
    /// if that is known, after how long; `None`: it was not run.
    fn entry(&self, attempt: u32, ran: Option<(i32, Option<Duration>)>, error: &str) -> Value {
        let at = SystemTime::now();
        let time = |t| humantime::format_rfc3339_millis(t).to_string();
        let mut entry = json!({
            "attempt": attempt,
            "at": time(at),
            "host": *self.host_name,
            "error": error,
        });
        if let Some((version, elapsed)) = ran {
            entry["version"] = version.into();
            if let Some(elapsed) = elapsed {
                entry["started"] = time(at - elapsed).into();
            }
        }
        entry
    }
}

impl OpenLeases {
    /// Notes a new lease.
    pub(crate) fn add(&mut self, ledger: Ledger, batch: Arc<Batch>, bytes: OwnedSemaphorePermit) {
        let key = ledger.key();
        self.in_hand += batch.waiting();
        // Of one whose messages are all not due, everything is known already.
        self.changed.push(key);
        let open = Open {
            ledger,
            batch,
            waiting: VecDeque::new(),
            on_its_way: false,
            again_at: None,
            version: 0,
            _bytes: bytes,
        };
        self.leases.insert(key, open);
    }

    /// Whether there is none.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Whether this lease is one of them.
    #[must_use]
    pub(crate) fn contains(&self, id: LeaseId) -> bool {
        self.leases.keys().any(|key| key.id == id)
    }

    /// Messages leased and not finished.
    #[must_use]
    pub(crate) const fn in_hand(&self) -> usize {
        self.in_hand
    }

    /// Batches with messages that nobody has begun.
    pub(crate) fn waiting_batches(&self) -> impl Iterator<Item = &Arc<Batch>> {
        self.leases.values().map(|open| &open.batch).filter(|batch| batch.waiting() > 0)
    }

    /// Tells those who run messages of what an operator has removed.
    pub(crate) fn remove(&self, removed: &HashSet<MessageId>) {
        if !removed.is_empty() {
            self.leases.values().for_each(|open| open.batch.remove(removed));
        }
    }

    /// Turns what has run of a lease since the last time into outcomes. Returns whether anything has.
    pub(crate) fn collect(&mut self, key: LeaseKey, context: &Context, pace: &mut Pace) -> bool {
        let Some(open) = self.leases.get_mut(&key) else { return false };
        let finished = open.batch.take_finished();
        let count = finished.len();
        self.in_hand = self.in_hand.saturating_sub(count);
        let (mut busy, mut cost) = (Duration::ZERO, Cost::default());
        // Once: they are too many for the processor's nearest cache.
        for f in finished {
            busy += f.busy;
            cost.add(&f.run);
            open.record(f, context);
        }
        pace.observe(busy, cost, count);
        if open.ledger.rest() == 0 {
            // In order, what comes after one that is tried again is not run.
            self.in_hand = self.in_hand.saturating_sub(open.batch.abandon());
        }
        self.changed.push(key);
        count > 0
    }

    /// The same for all leases.
    pub(crate) fn collect_all(&mut self, context: &Context, pace: &mut Pace) -> bool {
        let keys: Vec<LeaseKey> = self.leases.keys().copied().collect();
        let mut any = false;
        for key in keys {
            any |= self.collect(key, context, pace);
        }
        any
    }

    /// The settlements that can be sent now: of leases whose messages are all done, or, with
    /// `partial`, of all that have something to say. No more at once than one should be.
    pub(crate) fn ready(&mut self, partial: bool, now: Instant) -> Vec<Settlement> {
        let changed = std::mem::take(&mut self.changed);
        let mut ready = Vec::new();
        let mut bytes = 0;
        for key in changed {
            let Some(open) = self.leases.get_mut(&key) else { continue };
            let waits = open.again_at.is_some_and(|at| now < at) || open.must_stop();
            if bytes >= EFFECT_BYTES_MAX || waits {
                self.changed.push(key);
            } else if let Some(settlement) = open.ready(partial) {
                bytes += settlement.effect_bytes();
                ready.push(settlement);
            }
        }
        ready
    }

    /// Whether a settlement is waiting to be tried again.
    #[must_use]
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.leases.values().filter_map(|open| open.again_at).min()
    }

    /// Notes how a settlement went.
    pub(crate) fn settled(
        &mut self,
        sent: Settlement,
        result: Result<(), QueueError>,
        context: &Context,
        now: Instant,
    ) {
        let key = sent.key();
        let Some(open) = self.leases.get_mut(&key) else { return };
        open.on_its_way = false;
        self.changed.push(key);
        match result {
            Ok(()) => {
                if open.ledger.rest() == 0 && !open.ledger.has_pending() && open.waiting.is_empty()
                {
                    let batch = self.leases.remove(&key).map(|open| open.batch);
                    self.in_hand = self.in_hand.saturating_sub(batch.map_or(0, |b| b.forget()));
                }
            }
            Err(QueueError::LeaseLost(why)) => {
                tracing::warn!(lease = %key.id, %why, "lease lost; its messages run elsewhere");
                self.drop_lease(key);
            }
            Err(error) if error.is_passing() => {
                open.waiting.push_front(sent);
                open.again_at = Some(now + UNAVAILABLE_AGAIN);
            }
            // The queue was dropped, and this with it.
            Err(QueueError::Gone) => self.drop_lease(key),
            Err(error @ QueueError::Refused { .. }) => open.refused(sent, &error, context, now),
            Err(_) => {
                open.waiting.push_front(sent);
                open.again_at = Some(now + REFUSED_AGAIN);
            }
        }
    }
}

impl OpenLeases {
    fn drop_lease(&mut self, key: LeaseKey) {
        if let Some(open) = self.leases.remove(&key) {
            open.batch.abandon();
            self.in_hand = self.in_hand.saturating_sub(open.ledger.rest());
        }
    }
}

impl Open {
    fn record(&mut self, f: Finished, context: &Context) {
        if self.ledger.rest() == 0 {
            // It ran after one that could not be settled, and will again.
            return;
        }
        let Finished { position, attempt, version, run, held, tied_to, .. } = f;
        self.version = version;
        let outcome = outcome(run.verdict, &context.policy, attempt, fastrand::f64());
        let ran = Some((version, Some(run.elapsed)));
        let entry = |error: String| context.entry(attempt, ran, &error);
        let effects = Effects { follow_ups: run.follow_ups, result: run.result, held };
        self.ledger.record(position, outcome, effects, entry);
        if let Some(keeper) = tied_to {
            self.ledger.tie(position, keeper);
        }
    }

    /// Whether a message runs that is not the lease's any more once this is settled: in order, the next of its key would
    /// run beside it.
    fn must_stop(&self) -> bool {
        self.ledger.is_in_order() && self.ledger.rest() == 0 && self.batch.is_busy()
    }

    fn ready(&mut self, partial: bool) -> Option<Settlement> {
        if self.on_its_way {
            return None;
        }
        if self.waiting.is_empty() && (partial || self.ledger.rest() == 0) {
            self.waiting.extend(self.ledger.take());
        }
        let first = self.waiting.pop_front()?;
        self.on_its_way = true;
        self.again_at = None;
        Some(first)
    }

    /// Postgres will not have it. What can be to blame is a follow-up, so the calls that have some are
    /// settled one by one, and the one that is refused again is tried again later without them.
    fn refused(
        &mut self,
        mut sent: Settlement,
        error: &QueueError,
        context: &Context,
        now: Instant,
    ) {
        if let Some(part) = sent.split_off_follow_ups() {
            self.ledger.made_in_parts(2);
            self.waiting.push_front(sent);
            self.waiting.push_front(part);
        } else if let Some(&(position, _)) = sent.follow_ups.first() {
            sent.follow_ups.clear();
            sent.results.clear();
            sent.held.clear();
            for position in sent.call_of(position) {
                self.follow_up_refused(&mut sent, position, error, context);
            }
            self.waiting.push_front(sent);
        } else {
            self.waiting.push_front(sent);
            self.again_at = Some(now + REFUSED_AGAIN);
        }
    }

    /// What becomes of a message whose call's follow-ups cannot be stored.
    fn follow_up_refused(
        &mut self,
        sent: &mut Settlement,
        position: u32,
        error: &QueueError,
        context: &Context,
    ) {
        let verdict = Verdict::Failed(Failure::FollowUp(error.to_string()));
        let attempt = self.batch.attempt(position).unwrap_or(1);
        let ran = Some((self.version, None));
        let entry = |error: String| context.entry(attempt, ran, &error);
        match outcome(verdict, &context.policy, attempt, fastrand::f64()) {
            Outcome::Reschedule { delay, error } => {
                let retry = Retry { position, delay, entry: entry(error) };
                if self.ledger.is_in_order() {
                    *sent = self.ledger.end_with(retry, sent, self.waiting.drain(..));
                } else {
                    sent.retries.push(retry);
                }
            }
            Outcome::DeadLetter { reason, error } => {
                sent.dead.push(Dead { position, reason, entry: entry(error) });
            }
            Outcome::Ack | Outcome::Removed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;
    use uuid::Uuid;

    use super::*;
    use host_core::message::{Headers, Message};
    use host_core::outcome::Backoff;

    fn add(open: &mut OpenLeases, token: u128, messages: usize) -> LeaseKey {
        let ledger = Ledger::new(LeaseId::new(7), Uuid::from_u128(token), messages);
        let message = |position: usize| Message {
            position: position as u32,
            id: MessageId::new(position as i64),
            attempt: 1,
            enqueued_at: SystemTime::UNIX_EPOCH,
            headers: Headers::default(),
            payload: vec![].into(),
            unreadable: None,
        };
        let key = ledger.key();
        let batch = Arc::new(Batch::new(key, (0..messages).map(message).collect(), false));
        let bytes = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("one");
        open.add(ledger, batch, bytes);
        key
    }

    /// After a crash of the server, whose lease was lost with it.
    #[test]
    fn a_number_that_is_given_out_again_is_another_lease() {
        let mut open = OpenLeases::default();
        let now = Instant::now();
        let policy = RetryPolicy { max_attempts: 1, backoff: Backoff::Delays(vec![]) };
        let context = Context { policy, host_name: "host".into() };
        let (lost, again) = (add(&mut open, 1, 3), add(&mut open, 2, 5));
        assert_eq!((open.in_hand(), open.leases.len()), (8, 2));
        let entry = |_: String| Value::Null;
        for key in [lost, again] {
            let ledger = &mut open.leases.get_mut(&key).unwrap().ledger;
            ledger.record(0, Outcome::Ack, Effects::default(), entry);
        }
        let mut sent = open.ready(true, now);
        assert_eq!(sent.len(), 2);
        sent.sort_by_key(|settlement| settlement.token);
        let why = QueueError::LeaseLost("it is another's".into());
        open.settled(sent.remove(0), Err(why), &context, now);
        assert!(!open.leases.contains_key(&lost) && open.leases.contains_key(&again));
        assert!(open.contains(again.id));
        // One of each was done, which its worker would have said.
        assert_eq!(open.in_hand(), 6);
        open.settled(sent.remove(0), Ok(()), &context, now);
        assert!(open.leases.contains_key(&again), "it has more");
    }
}
