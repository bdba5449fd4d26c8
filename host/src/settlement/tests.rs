//! Ledgers and settlements.

use proptest::prelude::*;

use super::*;

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
    assert_eq!((whole.seq, whole.settled.as_slice(), whole.follow_ups.len()), (1, &[0, 2][..], 0));
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

fn retry() -> Outcome {
    Outcome::Reschedule { delay: Duration::ZERO, error: "x".into() }
}

#[test]
fn in_order_a_retry_ends_the_lease_with_what_came_before_it() {
    let mut ledger = Ledger::in_order(LeaseId::new(7), Uuid::nil(), 5, false);
    ledger.early(4);
    ledger.record(0, Outcome::Ack, Vec::new(), None, |_| unreachable!());
    ledger.record(1, retry(), Vec::new(), None, Value::from);
    assert_eq!(ledger.rest(), 0);
    let last = ledger.take().unwrap();
    assert_eq!((last.settled.as_slice(), last.retries.len()), (&[0, 4][..], 0));
    assert!(matches!(last.hand_on, Some(HandOn::Retry(r)) if r.position == 1));
}

#[test]
fn what_was_left_behind_is_handed_on_with_the_last() {
    let mut ledger = Ledger::in_order(LeaseId::new(7), Uuid::nil(), 1, true);
    ledger.record(3, Outcome::Ack, Vec::new(), None, |_| unreachable!());
    let last = ledger.take().unwrap();
    assert_eq!(last.settled, [3]);
    assert!(matches!(last.hand_on, Some(HandOn::Untried)));
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
