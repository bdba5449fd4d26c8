//! Outcomes on their way to the database: what a lease has still to do, what is done, and what the
//! next settlement says. Never does I/O.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::deployment::secret::Secret;
use crate::id::{LeaseId, LeaseKey};
use crate::memory_gauge::MemoryHold;
use crate::message::FollowUp;
use crate::policy::outcome::DeadReason;

mod ledger;

pub use ledger::Ledger;

/// Follow-ups and results of one settlement, in bytes. Each is in memory several times while it is
/// sent, at both ends. What one call's follow-ups are acked with is never split.
pub const EFFECT_BYTES_MAX: usize = 8 << 20;

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
    pub parked: Vec<u32>,
    /// Of these: to the dead letters.
    pub dead: Vec<Dead>,
    /// Of these: removed by an operator, ascending.
    pub removed: Vec<u32>,
    /// New messages, each with the position of the message whose handler enqueued it; of a call
    /// with many messages, of the first that was acked.
    pub follow_ups: Vec<(u32, FollowUp)>,
    /// Of a call with many messages and with follow-ups: from the others that were acked to the
    /// first.
    pub tied: HashMap<u32, u32>,
    /// Results, each with the position of the message that was acked with it.
    pub results: Vec<(u32, Vec<u8>)>,
    /// The memory that follow-ups and results take, by position; free again when this is dropped.
    pub held: Vec<(u32, MemoryHold)>,
    /// What becomes of the rest of the lease, if this is its last although there is a rest.
    pub hand_on: Option<HandOn>,
}

/// How a lease whose messages keep their order ends before its last message: the lane is held for
/// the rest.
#[derive(Clone, Debug)]
pub enum HandOn {
    /// Its first is to be tried again.
    Retry(Retry),
    /// It was not given to this host, and is anybody's at once.
    Untried,
}

/// What happens together with an ack, and without one not at all.
#[derive(Debug, Default)]
pub struct Effects {
    /// New messages.
    pub follow_ups: Vec<FollowUp>,
    /// What the handler has left as the result.
    pub result: Option<Vec<u8>>,
    /// The memory that these take.
    pub held: Option<MemoryHold>,
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
    /// Which lease it is of.
    #[must_use]
    pub const fn key(&self) -> LeaseKey {
        LeaseKey { id: self.lease, token: self.token }
    }

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
        !(self.retries.is_empty() && self.parked.is_empty())
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

    /// The bytes of its follow-ups, without their headers, and of its results.
    #[must_use]
    pub fn effect_bytes(&self) -> usize {
        self.effect_sizes().map(|(_, bytes)| bytes).sum()
    }

    /// Each with the position of the message that it goes with.
    fn effect_sizes(&self) -> impl Iterator<Item = (u32, usize)> {
        let follow_ups = self.follow_ups.iter().map(|(p, follow_up)| (*p, follow_up.payload.len()));
        follow_ups
            .chain(self.results.iter().map(move |(p, result)| (self.keeper(*p), result.len())))
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

    /// The secrets that its follow-ups may quote.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        let mut secrets: Vec<Secret> = Vec::new();
        for secret in self.follow_ups.iter().flat_map(|(_, follow_up)| &*follow_up.hidden) {
            if !secrets.contains(secret) {
                secrets.push(secret.clone());
            }
        }
        secrets
    }

    /// Takes the part of some messages out, as a settlement of its own with the same number. Those
    /// that are tied to one of them come with it.
    fn split_off(&mut self, is_mine: impl Fn(u32) -> bool) -> Self {
        let tied = self.tied.clone();
        let mine = |p: u32| is_mine(tied.get(&p).copied().unwrap_or(p));
        Self {
            lease: self.lease,
            token: self.token,
            seq: self.seq,
            settled: self.settled.extract_if(.., |p| mine(*p)).collect(),
            retries: self.retries.extract_if(.., |r| mine(r.position)).collect(),
            parked: self.parked.extract_if(.., |p| mine(*p)).collect(),
            dead: self.dead.extract_if(.., |d| mine(d.position)).collect(),
            removed: self.removed.extract_if(.., |p| mine(*p)).collect(),
            follow_ups: self.follow_ups.extract_if(.., |(p, _)| mine(*p)).collect(),
            results: self.results.extract_if(.., |(p, _)| mine(*p)).collect(),
            held: self.held.extract_if(.., |(p, _)| mine(*p)).collect(),
            hand_on: None,
            tied: self.tied.extract_if(|p, _| mine(*p)).collect(),
        }
    }

    /// Takes out what is more than one transaction should hold.
    fn split_off_excess(&mut self) -> Option<Self> {
        let first = self.effect_sizes().next()?.0;
        let mut bytes = 0;
        let excess: HashSet<u32> = self
            .effect_sizes()
            .filter(|(position, size)| {
                bytes += size;
                bytes > EFFECT_BYTES_MAX && *position != first
            })
            .map(|(position, _)| position)
            .collect();
        (!excess.is_empty()).then(|| self.split_off(|p| excess.contains(&p)))
    }

    /// Takes out the first call that has follow-ups, with all that is to become of its messages, as
    /// a settlement that comes before this one.
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
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::outcome::Outcome;

    fn ledger(count: usize) -> Ledger {
        Ledger::new(LeaseId::new(7), Uuid::nil(), count)
    }

    #[test]
    fn settlements_follow_one_another_and_say_everything_once() {
        let mut ledger = ledger(4);
        ledger.record(2, Outcome::Ack, Effects::default(), |_| unreachable!());
        ledger.park(0);
        let first = ledger.take().unwrap();
        assert_eq!(
            (first.seq, first.multirange().as_str(), first.parked.as_slice()),
            (0, "{[0,1),[2,3)}", &[0][..])
        );
        assert!(!ledger.has_pending());
        ledger.record(
            1,
            Outcome::Reschedule { delay: Duration::ZERO, error: "x".into() },
            Effects::default(),
            Value::from,
        );
        ledger.not_ours(3);
        let second = ledger.take().unwrap();
        assert_eq!((second.seq, second.multirange().as_str()), (1, "{[1,2),[3,4)}"));
        assert_eq!(second.retries[0].entry, Value::from("x"));
        assert_eq!(ledger.rest(), 0);
        assert!(ledger.take().is_none());
    }

    /// A follow-up of so many bytes.
    fn enqueues(bytes: usize) -> Effects {
        let (queue, payload) = ("q".into(), vec![0; bytes]);
        let follow_up = FollowUp {
            queue,
            payload,
            headers: vec![],
            delay: Duration::ZERO,
            key: None,
            priority: None,
            unique_key: None,
            hidden: Arc::default(),
        };
        Effects { follow_ups: vec![follow_up], ..Effects::default() }
    }

    fn leaves(bytes: usize) -> Effects {
        Effects { result: Some(vec![0; bytes]), ..Effects::default() }
    }

    #[test]
    fn what_goes_with_an_ack_is_dropped_without_one() {
        let mut ledger = ledger(1);
        let outcome = Outcome::DeadLetter { reason: DeadReason::Rejected, error: String::new() };
        ledger.record(0, outcome, Effects { result: Some(vec![1]), ..enqueues(1) }, Value::from);
        let settlement = ledger.take().unwrap();
        assert!(settlement.follow_ups.is_empty() && settlement.results.is_empty());
    }

    #[test]
    fn a_message_with_follow_ups_can_be_settled_alone() {
        let mut ledger = ledger(3);
        ledger.record(0, Outcome::Ack, leaves(1), Value::from);
        ledger.record(1, Outcome::Ack, enqueues(0), Value::from);
        ledger.record(2, Outcome::Ack, Effects::default(), Value::from);
        let mut whole = ledger.take().unwrap();
        let part = whole.split_off_follow_ups().unwrap();
        assert_eq!((part.seq, part.settled.as_slice(), part.follow_ups.len()), (0, &[1][..], 1));
        assert_eq!((part.results.len(), whole.results.len()), (0, 1));
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
            let effects = if position % 2 == 0 { enqueues(4 << 20) } else { leaves(4 << 20) };
            ledger.record(position, Outcome::Ack, effects, Value::from);
        }
        let sizes: Vec<_> = std::iter::from_fn(|| ledger.take())
            .map(|s| (s.seq, s.settled.len(), s.effect_bytes() >> 20))
            .collect();
        assert_eq!(sizes, (0..10).map(|seq| (seq, 2, 8)).collect::<Vec<_>>());
    }

    #[test]
    fn the_acks_of_a_call_stay_with_its_follow_ups() {
        let mut ledger = ledger(20);
        for position in 0..20 {
            let effects = if position % 5 == 0 { enqueues(20 << 20) } else { leaves(3 << 20) };
            ledger.record(position, Outcome::Ack, effects, Value::from);
            ledger.tie(position, position / 5 * 5);
        }
        let mut first = ledger.take().unwrap();
        assert_eq!((first.settled.as_slice(), first.results.len()), (&[0, 1, 2, 3, 4][..], 4));
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
