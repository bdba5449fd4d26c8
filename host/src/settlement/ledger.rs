//! The account of an open lease: what of it has no outcome, and what waits for the next settlement. Never does I/O.

use std::collections::HashMap;

use serde_json::Value;
use uuid::Uuid;

use super::{Dead, Effects, Retry, Settlement};
use crate::id::LeaseId;
use crate::outcome::Outcome;

/// The account of an open lease. Everything in it is settled exactly once, in as many settlements as
/// its messages take.
#[derive(Debug)]
pub struct Ledger {
    lease: LeaseId,
    token: Uuid,
    next_seq: i32,
    /// Positions without an outcome.
    rest: usize,
    pending: Option<Settlement>,
}

impl Ledger {
    /// The account of a lease with `count` positions to settle.
    #[must_use]
    pub const fn new(lease: LeaseId, token: Uuid, count: usize) -> Self {
        Self { lease, token, next_seq: 0, rest: count, pending: None }
    }

    /// Positions that have no outcome yet.
    #[must_use]
    pub const fn rest(&self) -> usize {
        self.rest
    }

    fn pending(&mut self) -> &mut Settlement {
        let (lease, token) = (self.lease, self.token);
        self.pending.get_or_insert_with(|| Settlement {
            lease,
            token,
            seq: 0,
            settled: Vec::new(),
            retries: Vec::new(),
            early: Vec::new(),
            dead: Vec::new(),
            removed: Vec::new(),
            follow_ups: Vec::new(),
            results: Vec::new(),
            held: Vec::new(),
            tied: HashMap::new(),
        })
    }

    fn settle(&mut self, position: u32) {
        debug_assert!(self.rest > 0, "more outcomes than messages");
        self.rest -= 1;
        self.pending().settled.push(position);
    }

    /// Notes a message that is not due yet.
    pub fn early(&mut self, position: u32) {
        self.settle(position);
        self.pending().early.push(position);
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

    /// Notes what became of a message. `effects` are those of an ack; `entry` makes its history's line from
    /// the error.
    pub fn record(
        &mut self,
        position: u32,
        outcome: Outcome,
        effects: Effects,
        entry: impl FnOnce(String) -> Value,
    ) {
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

    /// Ties a message that was acked to the one that keeps the follow-ups of their call, so that no settlement has
    /// one without the other. Both are recorded, and no settlement was taken since.
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
        settlement.seq = self.next_seq;
        self.next_seq += 1;
        Some(settlement)
    }

    /// Accounts for a settlement that was made in `parts` instead of one.
    pub fn made_in_parts(&mut self, parts: i32) {
        self.next_seq += parts - 1;
    }
}
