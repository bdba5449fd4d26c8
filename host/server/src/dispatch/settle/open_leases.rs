//! Open leases of one handler on this host: what each has still to settle. Never does I/O.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::open_lease::{Extent, OpenLease, SETTLEMENT_REFUSED_AGAIN};
use super::outcome_context::OutcomeContext;
use crate::dispatch::lease::pace::{Cost, Pace};
use crate::dispatch::run::batch::Batch;
use host_core::id::{LeaseId, LeaseKey, MessageId};
use host_core::message::Message;
use host_core::settlement::{EFFECT_BYTES_MAX, Settlement};
use host_queue::error::QueueError;
use host_queue::lease::Lease;

/// How long a settlement waits that did not get through.
const UNAVAILABLE_AGAIN: Duration = Duration::from_millis(200);

/// All open leases of one handler on this host.
#[derive(Debug, Default)]
pub(crate) struct OpenLeases {
    leases: HashMap<LeaseKey, OpenLease>,
    /// The leases that may have something to settle.
    changed: Vec<LeaseKey>,
    /// Messages leased and not finished.
    in_hand: usize,
}

impl OpenLeases {
    /// Notes a new lease, and takes the right to hold its payload. Returns its messages.
    pub(crate) fn add(
        &mut self,
        lease: Lease,
        payload: &mut OwnedSemaphorePermit,
        context: &OutcomeContext,
    ) -> Arc<Batch> {
        let kib = lease.messages.iter().map(Message::bytes).sum::<usize>() / 1024 + 1;
        let held = payload.split(kib.min(payload.num_permits())).expect("it has that many");
        let open = OpenLease::new(lease, held, context);
        let batch = open.batch().clone();
        self.in_hand += batch.waiting();
        // If none of its messages is due, it has something to settle already.
        self.changed.push(open.key());
        self.leases.insert(open.key(), open);
        batch
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
        self.leases.values().map(OpenLease::batch).filter(|batch| batch.waiting() > 0)
    }

    /// The workers of all batches.
    pub(crate) fn workers(&self) -> usize {
        self.leases.values().map(|open| open.batch().workers()).sum()
    }

    /// Tells workers which messages an operator has removed.
    pub(crate) fn remove(&self, removed: &HashSet<MessageId>) {
        if !removed.is_empty() {
            self.leases.values().for_each(|open| open.batch().remove(removed));
        }
    }

    /// Collect: turns what has run of a lease since the last time into outcomes. Whether anything
    /// has.
    pub(crate) fn collect(
        &mut self,
        key: LeaseKey,
        context: &OutcomeContext,
        pace: &mut Pace,
    ) -> bool {
        let Some(open) = self.leases.get_mut(&key) else { return false };
        let finished = open.batch().take_finished();
        let count = finished.len();
        context.failures.ran(count as u64);
        self.in_hand = self.in_hand.saturating_sub(count);
        let mut busy = Duration::ZERO;
        let mut cost = Cost::default();
        // In one pass: they are too many for the processor's nearest cache.
        for message in finished {
            busy += message.busy;
            cost.add(&message.run);
            open.record(message, context);
        }
        pace.observe(busy, cost, count);
        if open.rest() == 0 {
            // In order, what comes after a message that is tried again is not run.
            self.in_hand = self.in_hand.saturating_sub(open.batch().abandon());
        }
        self.changed.push(key);
        count > 0
    }

    /// The same for all leases.
    pub(crate) fn collect_all(&mut self, context: &OutcomeContext, pace: &mut Pace) -> bool {
        let keys: Vec<LeaseKey> = self.leases.keys().copied().collect();
        let mut any = false;
        for key in keys {
            any |= self.collect(key, context, pace);
        }
        any
    }

    /// The settlements that can be sent now. No more effects at once than one settlement should
    /// have.
    pub(crate) fn ready(&mut self, extent: Extent, now: Instant) -> Vec<Settlement> {
        let changed = std::mem::take(&mut self.changed);
        let mut ready = Vec::new();
        let mut bytes = 0;
        for key in changed {
            let Some(open) = self.leases.get_mut(&key) else { continue };
            if bytes >= EFFECT_BYTES_MAX || open.must_wait(now) {
                self.changed.push(key);
            } else if let Some(settlement) = open.ready(extent) {
                bytes += settlement.effect_bytes();
                ready.push(settlement);
            }
        }
        ready
    }

    /// When the next settlement is to be tried again.
    #[must_use]
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.leases.values().filter_map(OpenLease::again_at).min()
    }

    /// Notes how a settlement went.
    pub(crate) fn settled(
        &mut self,
        sent: Settlement,
        result: Result<(), QueueError>,
        context: &OutcomeContext,
        now: Instant,
    ) {
        let key = sent.key();
        let Some(open) = self.leases.get_mut(&key) else { return };
        open.answered();
        self.changed.push(key);
        match result {
            Ok(()) => {
                if open.is_over() {
                    let unheard = open.batch().forget();
                    self.in_hand = self.in_hand.saturating_sub(unheard);
                    self.leases.remove(&key);
                }
            }
            Err(QueueError::LeaseLost(why)) => {
                tracing::warn!(lease = %key.id, %why, "lease lost; its messages run elsewhere");
                self.drop_lease(key);
            }
            Err(error) if error.is_passing() => {
                open.try_again(sent, now + UNAVAILABLE_AGAIN);
            }
            // The queue was dropped, and this with it.
            Err(QueueError::Gone) => self.drop_lease(key),
            Err(error @ QueueError::Refused { .. }) => open.refused(sent, &error, context, now),
            Err(_) => open.try_again(sent, now + SETTLEMENT_REFUSED_AGAIN),
        }
    }

    fn drop_lease(&mut self, key: LeaseKey) {
        if let Some(open) = self.leases.remove(&key) {
            open.batch().abandon();
            self.in_hand = self.in_hand.saturating_sub(open.rest());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tokio::sync::Semaphore;
    use uuid::Uuid;

    use super::*;
    use crate::dispatch::failure_log::FailureLog;
    use host_core::message::Headers;
    use host_core::policy::retry::{Backoff, RetryPolicy};
    use host_core::settlement::Ledger;

    fn context() -> OutcomeContext {
        let policy = RetryPolicy { max_attempts: 1, backoff: Backoff::Delays(vec![]) };
        let failures = Arc::new(FailureLog::new("work", "default"));
        OutcomeContext { policy, host_name: "host".into(), failures }
    }

    /// A lease of which the first message is removed, and settled first.
    fn add(open: &mut OpenLeases, token: u128, messages: u32) -> LeaseKey {
        let id = LeaseId::new(7);
        let mut ledger = Ledger::new(id, Uuid::from_u128(token), messages as usize);
        ledger.removed(0);
        let message = |position| Message {
            position,
            id: MessageId::new(position.into()),
            attempt: 1,
            enqueued_at: SystemTime::UNIX_EPOCH,
            headers: Headers::default(),
            payload: vec![].into(),
            unreadable: None,
        };
        let messages = (1..messages).map(message).collect();
        let key = ledger.key();
        let lease = Lease { id, ledger, messages, expired: vec![] };
        let mut payload = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("one");
        open.add(lease, &mut payload, &context());
        key
    }

    /// After a crash of the server, whose lease was lost with it.
    #[test]
    fn a_number_that_is_given_out_again_is_another_lease() {
        let mut open = OpenLeases::default();
        let now = Instant::now();
        let lost = add(&mut open, 1, 4);
        let again = add(&mut open, 2, 6);
        assert_eq!((open.in_hand(), open.leases.len()), (8, 2));
        let mut sent = open.ready(Extent::Partial, now);
        assert_eq!(sent.len(), 2);
        sent.sort_by_key(|settlement| settlement.token);
        let why = QueueError::LeaseLost("it is another's".into());
        open.settled(sent.remove(0), Err(why), &context(), now);
        assert!(!open.leases.contains_key(&lost) && open.leases.contains_key(&again));
        assert!(open.contains(again.id));
        assert_eq!(open.in_hand(), 5);
        open.settled(sent.remove(0), Ok(()), &context(), now);
        assert!(open.leases.contains_key(&again), "it has more");
    }
}
