//! The account of an open lease: what of it has no outcome, and what waits for the next settlement.
//! Never does I/O.

use std::collections::HashMap;

use serde_json::Value;
use uuid::Uuid;

use super::{Dead, Effects, HandOn, Retry, Settlement};
use crate::id::{LeaseId, LeaseKey};
use crate::policy::outcome::Outcome;

/// The account of an open lease. Everything in it is settled exactly once, in as many settlements
/// as its messages take.
#[derive(Debug)]
pub struct Ledger {
    lease: LeaseId,
    token: Uuid,
    next_seq: i32,
    /// Positions without an outcome.
    rest: usize,
    pending: Option<Settlement>,
    /// Messages after one that is retried must wait for it.
    in_order: bool,
    /// The lease has more than was given out.
    left_behind: bool,
}

impl Ledger {
    /// The account of a lease with `count` positions to settle.
    #[must_use]
    pub const fn new(lease: LeaseId, token: Uuid, count: usize) -> Self {
        Self {
            lease,
            token,
            next_seq: 0,
            rest: count,
            pending: None,
            in_order: false,
            left_behind: false,
        }
    }

    /// That of a lease whose messages keep their order; `left_behind`: it has more than `count`.
    #[must_use]
    pub fn in_order(lease: LeaseId, token: Uuid, count: usize, left_behind: bool) -> Self {
        Self { in_order: true, left_behind, ..Self::new(lease, token, count) }
    }

    /// Whether the messages keep their order.
    #[must_use]
    pub const fn is_in_order(&self) -> bool {
        self.in_order
    }

    /// The lease.
    #[must_use]
    pub const fn lease(&self) -> LeaseId {
        self.lease
    }

    /// The lease, with what proves that it is ours.
    #[must_use]
    pub const fn key(&self) -> LeaseKey {
        LeaseKey { id: self.lease, token: self.token }
    }

    /// Positions that have no outcome yet.
    #[must_use]
    pub const fn rest(&self) -> usize {
        self.rest
    }

    fn pending(&mut self) -> &mut Settlement {
        let key = self.key();
        self.pending.get_or_insert_with(|| Settlement {
            lease: key.id,
            token: key.token,
            seq: 0,
            settled: Vec::new(),
            retries: Vec::new(),
            parked: Vec::new(),
            dead: Vec::new(),
            removed: Vec::new(),
            follow_ups: Vec::new(),
            results: Vec::new(),
            held: Vec::new(),
            tied: HashMap::new(),
            hand_on: None,
        })
    }

    fn settle(&mut self, position: u32) {
        debug_assert!(self.rest > 0, "more outcomes than messages");
        self.rest -= 1;
        let left = self.rest == 0 && self.left_behind;
        let pending = self.pending();
        pending.settled.push(position);
        pending.hand_on = left.then_some(HandOn::Untried);
    }

    /// Ends the lease with a message that is tried again.
    fn hand_on(&mut self, retry: Retry) {
        self.rest = 0;
        self.pending().hand_on = Some(HandOn::Retry(retry));
    }

    /// Ends a lease in order with a message whose settlement was refused. The `waiting` settlements
    /// of messages before it stay. The messages after it have to run again.
    pub fn end_with(
        &mut self,
        retry: Retry,
        refused: &mut Settlement,
        waiting: impl Iterator<Item = Settlement>,
    ) -> Settlement {
        self.rest = 0;
        self.pending = None;
        let before = waiting.last().map(|mut later| later.split_off(|p| p < retry.position));
        let mut last = before.unwrap_or_else(|| refused.split_off(|_| false));
        last.seq = refused.seq;
        last.hand_on = Some(HandOn::Retry(retry));
        last
    }

    /// Notes a message that is not due yet.
    pub fn park(&mut self, position: u32) {
        self.settle(position);
        self.pending().parked.push(position);
    }

    /// Notes a message that an operator has removed.
    pub fn removed(&mut self, position: u32) {
        self.settle(position);
        self.pending().removed.push(position);
    }

    /// Notes a message that is another handler's.
    pub fn not_ours(&mut self, position: u32) {
        self.settle(position);
    }

    /// Notes what became of a message. `effects` are those of an ack; `entry` makes its history's
    /// line from the error.
    pub fn record(
        &mut self,
        position: u32,
        outcome: Outcome,
        effects: Effects,
        entry: impl FnOnce(String) -> Value,
    ) {
        let outcome = match outcome {
            Outcome::Reschedule { delay, error } if self.in_order => {
                return self.hand_on(Retry { position, delay, entry: entry(error) });
            }
            outcome => outcome,
        };
        self.settle(position);
        let pending = self.pending();
        match outcome {
            Outcome::Ack => {
                let Effects { follow_ups, result, held } = effects;
                pending.follow_ups.extend(follow_ups.into_iter().map(|f| (position, f)));
                pending.results.extend(result.map(|result| (position, result)));
                pending.held.extend(held.map(|held| (position, held)));
            }
            Outcome::Reschedule { delay, error } => {
                pending.retries.push(Retry { position, delay, entry: entry(error) });
            }
            Outcome::DeadLetter { reason, error } => {
                pending.dead.push(Dead { position, reason, entry: entry(error) });
            }
            Outcome::Removed => pending.removed.push(position),
        }
    }

    /// Ties a message that was acked to the one that keeps the follow-ups of their call, so that no
    /// settlement has one without the other. Both are recorded, and no settlement was taken since.
    pub fn tie(&mut self, position: u32, keeper: u32) {
        if position != keeper {
            self.pending().tied.insert(position, keeper);
        }
    }

    /// Whether there is something to settle.
    #[must_use]
    pub const fn has_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// The next settlement, with all that has an outcome and is in no earlier one.
    pub fn take(&mut self) -> Option<Settlement> {
        let mut settlement = self.pending.take()?;
        settlement.settled.sort_unstable();
        settlement.removed.sort_unstable();
        self.pending = settlement.split_off_excess();
        if let Some(excess) = &mut self.pending {
            excess.hand_on = settlement.hand_on.take();
        }
        settlement.seq = self.next_seq;
        self.next_seq += 1;
        Some(settlement)
    }

    /// Accounts for a settlement that was made in `parts` instead of one.
    pub fn made_in_parts(&mut self, parts: i32) {
        self.next_seq += parts - 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn record(ledger: &mut Ledger, position: u32, outcome: Outcome) {
        ledger.record(position, outcome, Effects::default(), Value::from);
    }

    #[test]
    fn in_order_a_retry_ends_the_lease_with_what_came_before_it() {
        let mut ledger = Ledger::in_order(LeaseId::new(7), Uuid::nil(), 5, false);
        ledger.park(4);
        record(&mut ledger, 0, Outcome::Ack);
        let retry = Outcome::Reschedule { delay: Duration::ZERO, error: "x".into() };
        record(&mut ledger, 1, retry);
        assert_eq!(ledger.rest(), 0);
        let last = ledger.take().unwrap();
        assert_eq!((last.settled.as_slice(), last.retries.len()), (&[0, 4][..], 0));
        assert!(matches!(last.hand_on, Some(HandOn::Retry(r)) if r.position == 1));
    }

    #[test]
    fn what_was_left_behind_is_handed_on_with_the_last() {
        let mut ledger = Ledger::in_order(LeaseId::new(7), Uuid::nil(), 1, true);
        record(&mut ledger, 3, Outcome::Ack);
        let last = ledger.take().unwrap();
        assert_eq!(last.settled, [3]);
        assert!(matches!(last.hand_on, Some(HandOn::Untried)));
    }
}
