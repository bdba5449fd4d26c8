//! Outcomes on their way to the database: what a lease has still to do, what is done, and what the
//! next settlement says. Never does I/O.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::budget::Held;
use crate::id::LeaseId;
use crate::message::FollowUp;
use crate::outcome::DeadReason;

mod ledger;

pub use ledger::Ledger;

/// Follow-ups of one settlement, in bytes. Each is in memory several times while it is sent, at both ends. One
/// call's are never split.
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
    /// New messages, each with the position of the message whose handler enqueued it; of a call with many
    /// messages, of the first that was acked.
    pub follow_ups: Vec<(u32, FollowUp)>,
    /// Of a call with many messages and with follow-ups: from the others that were acked to the first.
    pub tied: HashMap<u32, u32>,
    /// The memory that these take, by position; free again when this is dropped.
    pub held: Vec<(u32, Held)>,
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

    /// The message whose follow-ups are this one's as well, or itself.
    fn keeper(&self, position: u32) -> u32 {
        self.tied.get(&position).copied().unwrap_or(position)
    }

    /// All messages whose acks stand and fall with the follow-ups of this one.
    #[must_use]
    pub fn call_of(&self, keeper: u32) -> Vec<u32> {
        self.settled.iter().copied().filter(|p| self.keeper(*p) == keeper).collect()
    }

    /// Takes the part of some messages out, as a settlement of its own with the same number. Those that are tied
    /// to one of them come with it.
    fn split_off(&mut self, is_mine: impl Fn(u32) -> bool) -> Self {
        let tied = self.tied.clone();
        let mine = |p: u32| is_mine(tied.get(&p).copied().unwrap_or(p));
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
            tied: self.tied.extract_if(|p, _| mine(*p)).collect(),
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

    /// Takes out the first call that has follow-ups, with all that is to become of its messages, as a settlement
    /// that comes before this one.
    pub fn split_off_follow_ups(&mut self) -> Option<Self> {
        let position = self.follow_ups.first()?.0;
        if self.settled.len() == self.call_of(position).len() {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::outcome::Outcome;

    fn ledger(count: usize) -> Ledger {
        Ledger::new(LeaseId::new(7), Uuid::nil(), count)
    }

    #[test]
    fn settlements_follow_one_another_and_say_everything_once() {
        let mut ledger = ledger(4);
        ledger.record(2, Outcome::Ack, Vec::new(), None, |_| unreachable!());
        ledger.early(0);
        let first = ledger.take().unwrap();
        assert_eq!(
            (first.seq, first.multirange().as_str(), first.early.as_slice()),
            (0, "{[0,1),[2,3)}", &[0][..])
        );
        assert!(!ledger.has_pending());
        ledger.record(
            1,
            Outcome::Reschedule { delay: Duration::ZERO, error: "x".into() },
            Vec::new(),
            None,
            Value::from,
        );
        ledger.not_ours(3);
        let second = ledger.take().unwrap();
        assert_eq!((second.seq, second.multirange().as_str()), (1, "{[1,2),[3,4)}"));
        assert_eq!(second.retries[0].entry, Value::from("x"));
        assert_eq!(ledger.rest(), 0);
        assert!(ledger.take().is_none());
    }

    #[test]
    fn follow_ups_of_what_is_not_acked_are_dropped() {
        let mut ledger = ledger(1);
        let follow_up =
            FollowUp { queue: "q".into(), payload: vec![], headers: vec![], delay: Duration::ZERO };
        let outcome = Outcome::DeadLetter { reason: DeadReason::Rejected, error: String::new() };
        ledger.record(0, outcome, vec![follow_up], None, Value::from);
        assert!(ledger.take().unwrap().follow_ups.is_empty());
    }

    #[test]
    fn a_message_with_follow_ups_can_be_settled_alone() {
        let mut ledger = ledger(3);
        let follow_up =
            FollowUp { queue: "q".into(), payload: vec![], headers: vec![], delay: Duration::ZERO };
        ledger.record(0, Outcome::Ack, Vec::new(), None, Value::from);
        ledger.record(1, Outcome::Ack, vec![follow_up], None, Value::from);
        ledger.record(2, Outcome::Ack, Vec::new(), None, Value::from);
        let mut whole = ledger.take().unwrap();
        let part = whole.split_off_follow_ups().unwrap();
        assert_eq!((part.seq, part.settled.as_slice(), part.follow_ups.len()), (0, &[1][..], 1));
        assert_eq!(
            (whole.seq, whole.settled.as_slice(), whole.follow_ups.len()),
            (1, &[0, 2][..], 0)
        );
        assert!(whole.split_off_follow_ups().is_none());
    }

    #[test]
    fn a_settlement_is_not_larger_than_one_transaction_should_be() {
        let mut ledger = ledger(20);
        for position in 0..20 {
            let payload = vec![0; 4 << 20];
            let follow_up =
                FollowUp { queue: "q".into(), payload, headers: vec![], delay: Duration::ZERO };
            ledger.record(position, Outcome::Ack, vec![follow_up], None, Value::from);
        }
        let sizes: Vec<_> = std::iter::from_fn(|| ledger.take())
            .map(|s| (s.seq, s.settled.len(), s.follow_ups.len()))
            .collect();
        assert_eq!(sizes, (0..10).map(|seq| (seq, 2, 2)).collect::<Vec<_>>());
    }

    #[test]
    fn the_acks_of_a_call_stay_with_its_follow_ups() {
        let mut ledger = ledger(20);
        for position in 0..20 {
            let keeps = position % 5 == 0;
            let payload = vec![0; 20 << 20];
            let follow_up =
                FollowUp { queue: "q".into(), payload, headers: vec![], delay: Duration::ZERO };
            let follow_ups = if keeps { vec![follow_up] } else { vec![] };
            ledger.record(position, Outcome::Ack, follow_ups, None, Value::from);
            ledger.tie(position, position / 5 * 5);
        }
        let mut first = ledger.take().unwrap();
        assert_eq!(first.settled, [0, 1, 2, 3, 4]);
        assert!(first.split_off_follow_ups().is_none(), "it is one call");
        assert_eq!(first.call_of(0), [0, 1, 2, 3, 4]);
        let mut second = ledger.take().unwrap();
        assert_eq!((second.settled.as_slice(), second.tied.len()), (&[5, 6, 7, 8, 9][..], 4));
        second.settled.push(30);
        let part = second.split_off_follow_ups().unwrap();
        assert_eq!((part.settled.len(), second.settled.as_slice()), (5, &[30][..]));
    }

    proptest! {
        #[test]
        fn a_multirange_covers_exactly_the_positions(positions in prop::collection::btree_set(0u32..60, 0..60)) {
            let mut ledger = ledger(positions.len());
            for &p in &positions {
                ledger.not_ours(p);
            }
            let Some(settlement) = ledger.take() else { return Ok(()) };
            let text = settlement.multirange();
            let covered: Vec<u32> = text.trim_matches(['{', '}']).split("),").flat_map(|r| {
                let (a, b) = r.trim_matches(['[', ')']).split_once(',').unwrap();
                a.parse::<u32>().unwrap()..b.parse().unwrap()
            }).collect();
            prop_assert_eq!(covered, positions.into_iter().collect::<Vec<_>>());
        }
    }
}
