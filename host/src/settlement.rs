//! Outcomes on their way to the database: what a lease has still to do, what is done, and what the
//! next settlement says. Never does I/O.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::budget::Held;
use crate::id::LeaseId;
use crate::message::FollowUp;
use crate::outcome::{DeadReason, Outcome};

/// Follow-ups of one settlement, in bytes. Each is in memory several times while it is sent, at both ends. One
/// message's are never split.
pub const FOLLOW_UP_BYTES_MAX: usize = 8 << 20;

/// What one settlement says, all of it in one transaction.
#[derive(Debug)]
pub struct Settlement {
    /// The lease.
    pub lease: LeaseId,
    /// Proves that it is ours.
    pub token: Uuid,
    /// The number of this settlement of the lease, from 0.
    pub seq: i32,
    /// All positions that it settles, ascending.
    pub settled: Vec<u32>,
    /// Of these: to the schedule, for the next attempt.
    pub retries: Vec<Retry>,
    /// Of these: not due yet, to the schedule as they are.
    pub early: Vec<u32>,
    /// Of these: to the dead letters.
    pub dead: Vec<Dead>,
    /// Of these: removed by an operator, ascending.
    pub removed: Vec<u32>,
    /// New messages, each with the position of the message whose handler enqueued it.
    pub follow_ups: Vec<(u32, FollowUp)>,
    /// The memory that these take, by position; free again when this is dropped.
    pub held: Vec<(u32, Held)>,
    /// What becomes of the rest of the lease, if this is its last although there is a rest.
    pub hand_on: Option<HandOn>,
}

/// How a lease whose messages keep their order ends before its last message: the lane is held for the rest.
#[derive(Clone, Debug)]
pub enum HandOn {
    /// Its first is to be tried again.
    Retry(Retry),
    /// It was not given to this host, and is anybody's at once.
    Untried,
}

/// A message that is to be tried again.
#[derive(Clone, Debug)]
pub struct Retry {
    /// Which.
    pub position: u32,
    /// From the settlement on.
    pub delay: Duration,
    /// For the message's history.
    pub entry: Value,
}

/// A message that is given up on.
#[derive(Clone, Debug)]
pub struct Dead {
    /// Which.
    pub position: u32,
    /// Why.
    pub reason: DeadReason,
    /// For the message's history.
    pub entry: Value,
}

impl Settlement {
    /// How long it has its lane wait.
    #[must_use]
    pub fn lane_waits(&self) -> Option<Duration> {
        self.hand_on.as_ref().map(|how| match how {
            HandOn::Retry(retry) => retry.delay,
            HandOn::Untried => Duration::ZERO,
        })
    }

    /// Whether it puts something on the schedule.
    #[must_use]
    pub const fn schedules(&self) -> bool {
        !(self.retries.is_empty() && self.early.is_empty())
    }

    /// The settled positions as Postgres writes a multirange.
    #[must_use]
    pub fn multirange(&self) -> String {
        multirange(&self.settled)
    }

    /// The same of those that an operator has removed; `None`: there is none.
    #[must_use]
    pub fn removed_multirange(&self) -> Option<String> {
        (!self.removed.is_empty()).then(|| multirange(&self.removed))
    }

    /// The bytes of its follow-ups, without their headers.
    #[must_use]
    pub fn follow_up_bytes(&self) -> usize {
        self.follow_ups.iter().map(|(_, follow_up)| follow_up.payload.len()).sum()
    }

    /// Takes the part of some messages out, as a settlement of its own with the same number.
    fn split_off(&mut self, mine: impl Fn(u32) -> bool) -> Self {
        Self {
            lease: self.lease,
            token: self.token,
            seq: self.seq,
            settled: self.settled.extract_if(.., |p| mine(*p)).collect(),
            retries: self.retries.extract_if(.., |r| mine(r.position)).collect(),
            early: self.early.extract_if(.., |p| mine(*p)).collect(),
            dead: self.dead.extract_if(.., |d| mine(d.position)).collect(),
            removed: self.removed.extract_if(.., |p| mine(*p)).collect(),
            follow_ups: self.follow_ups.extract_if(.., |(p, _)| mine(*p)).collect(),
            held: self.held.extract_if(.., |(p, _)| mine(*p)).collect(),
            hand_on: None,
        }
    }

    /// Takes out what is more than one transaction should hold.
    fn split_off_excess(&mut self) -> Option<Self> {
        let first = self.follow_ups.first()?.0;
        let mut bytes = 0;
        let excess: HashSet<u32> = self
            .follow_ups
            .iter()
            .filter(|(position, follow_up)| {
                bytes += follow_up.payload.len();
                bytes > FOLLOW_UP_BYTES_MAX && *position != first
            })
            .map(|(position, _)| *position)
            .collect();
        (!excess.is_empty()).then(|| self.split_off(|p| excess.contains(&p)))
    }

    /// Takes out the first message that has follow-ups, with all that is to become of it, as a settlement
    /// that comes before this one.
    pub fn split_off_follow_ups(&mut self) -> Option<Self> {
        let position = self.follow_ups.first()?.0;
        if self.settled.len() == 1 {
            return None;
        }
        let part = self.split_off(|p| p == position);
        self.seq += 1;
        Some(part)
    }
}

/// Ascending positions.
fn multirange(positions: &[u32]) -> String {
    let mut text = String::from("{");
    let mut rest = positions;
    while let Some(&first) = rest.first() {
        let run = rest.iter().zip(first..).take_while(|(have, want)| *have == want).count();
        let comma = if text.len() > 1 { "," } else { "" };
        let end = first as usize + run;
        write!(text, "{comma}[{first},{end})").expect("writing to a String cannot fail");
        rest = &rest[run..];
    }
    text.push('}');
    text
}

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
    /// What comes after one that is tried again must wait for it.
    in_order: bool,
    /// The lease has more than was given out.
    left_behind: bool,
}

impl Ledger {
    /// The account of a lease with `count` positions to settle.
    #[must_use]
    pub const fn new(lease: LeaseId, token: Uuid, count: usize) -> Self {
        let (in_order, left_behind) = (false, false);
        Self { lease, token, next_seq: 0, rest: count, pending: None, in_order, left_behind }
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
            held: Vec::new(),
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

    /// Ends a lease in order with a message that was refused when it was to be settled: with what came before it, of the
    /// `waiting` settlements, and without all that came after it, which has to run again.
    pub fn end_with(
        &mut self,
        retry: Retry,
        mut refused: Settlement,
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

    /// Notes what became of a message. `held` is what its follow-ups take; `entry` makes its history's
    /// line from the error.
    pub fn record(
        &mut self,
        position: u32,
        outcome: Outcome,
        follow_ups: Vec<FollowUp>,
        held: Option<Held>,
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
                pending.follow_ups.extend(follow_ups.into_iter().map(|f| (position, f)));
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
mod tests;
