//! Take-over: what a dead session, or a lost reply, has left is run by others; no more and no less.

use tokio_postgres::Client;

use crate::harness::sql_host::{assert_only_inserted, deploy, sqlstate, value};
use crate::harness::{SqlHost, wait_until};

async fn deaths(client: &Client, lease: i64) -> i16 {
    value(client, &format!("SELECT deaths FROM host.q__lease WHERE id = {lease}")).await
}

#[tokio::test]
async fn only_what_is_not_settled_is_taken_over_in_portions() {
    let (db, client, dead) = SqlHost::with_queue("").await;
    dead.enqueue(0, 9).await;
    let held = dead.must_lease(10).await;
    assert!(dead.settle(&held, 0, "{[2,3),[5,6)}", "").await.unwrap());
    let heir = SqlHost::new(&db, "q", dead.handler).await;
    assert_eq!(heir.strays().await, [0; 0]);
    dead.end(true).await;
    assert_eq!(heir.strays().await, [held.id]);

    let part = heir.take_over(held.id, 3).await.unwrap().expect("a part");
    assert_eq!(part.count, 3);
    assert_eq!(heir.read(&part).await, [(0, 0), (1, 1), (3, 3)]);
    assert_eq!(deaths(&client, part.id).await, 1);
    assert_eq!(sqlstate(heir.take_over(held.id, 3).await), "HQ002");
    // Its settlements stay, and it can settle nothing more.
    assert_eq!(sqlstate(dead.settle(&held, 1, "{[0,2)}", "").await), "HQ002");
    assert_eq!(sqlstate(heir.settle(&part, 0, "{[2,3)}", "").await), "HQ002");
    assert!(heir.settle(&part, 0, "{[0,1),[3,4)}", "").await.unwrap());
    assert!(heir.settle(&part, 1, "{[1,2)}", "").await.unwrap());

    let rest = heir.strays().await;
    let [rest] = rest[..] else { panic!("one stray, not {rest:?}") };
    let rest = heir.take_over(rest, 100).await.unwrap().expect("the rest");
    assert_eq!(heir.read(&rest).await, [(4, 4), (6, 6), (7, 7), (8, 8), (9, 9)]);
    // One host has died with them, though they were handed on twice.
    assert_eq!(deaths(&client, rest.id).await, 1);
    assert!(heir.settle(&rest, 0, "{[4,5),[6,10)}", "").await.unwrap());
    assert_eq!(heir.strays().await, [0; 0]);
    assert!(heir.lease(10).await.is_none());
    drop((client, dead, heir));
    assert_only_inserted(&db).await;
}

#[tokio::test]
async fn the_lease_of_a_live_session_is_not_to_be_had_nor_for_one_that_has_ended() {
    let (db, _client, hand) = SqlHost::with_queue("").await;
    hand.enqueue(1, 3).await;
    let held = hand.must_lease(3).await;
    let other = SqlHost::new(&db, "q", hand.handler).await;
    assert_eq!(sqlstate(other.take_over(held.id, 3).await), "HQ002");
    hand.end(true).await;
    other.end(false).await;
    assert_eq!(sqlstate(other.take_over(held.id, 3).await), "HQ002");
}

#[tokio::test]
async fn what_was_in_flight_at_two_deaths_runs_alone_and_at_five_is_poison() {
    let (db, client, first) = SqlHost::with_queue("").await;
    first.enqueue(0, 2).await;
    let mut poisoned = first.must_lease(3).await.id;
    first.end(true).await;
    for death in 1..5 {
        let next = SqlHost::new(&db, "q", first.handler).await;
        let held = next.take_over(poisoned, 10).await.unwrap().expect("it runs");
        assert_eq!(deaths(&client, held.id).await, death);
        assert_eq!(held.count, if death == 1 { 3 } else { 1 });
        assert_eq!(next.read(&held).await[0], (0, 0));
        next.end(true).await;
        poisoned = held.id;
    }
    let last = SqlHost::new(&db, "q", first.handler).await;
    assert!(last.take_over(poisoned, 10).await.unwrap().is_none());
    let dead = "SELECT payload::text || ' ' || reason || ': ' || error FROM host.q__dead_letter";
    assert_eq!(value::<String>(&client, dead).await, "0 poison: 5 hosts died with it in flight");
    // Its neighbours live.
    let mut neighbours = Vec::new();
    loop {
        let strays = last.strays().await;
        let Some(stray) = strays.first() else { break };
        let held = last.take_over(*stray, 10).await.unwrap().expect("a neighbour");
        assert_eq!(deaths(&client, held.id).await, 2);
        let rows = last.read(&held).await;
        assert_eq!(rows.len(), 1);
        let (position, payload) = rows[0];
        neighbours.push(payload);
        let alone = format!("{{[{position},{position}]}}");
        assert!(last.settle(&held, 0, &alone, "").await.unwrap());
    }
    assert_eq!(neighbours, [1, 2]);
}

/// Found by the model: it would have been a dead letter of a handler that is not to run it, or has
/// acked it.
#[tokio::test]
async fn another_handlers_retry_in_a_poisoned_lease_is_no_dead_letter() {
    let (db, client, hand) = SqlHost::with_queue("").await;
    let second = deploy(&client, "q", "second").await;
    hand.enqueue(1, 1).await;
    let held = hand.must_lease(1).await;
    let retry = r#", p_retry_pos => '{0}', p_retry_delay_ms => '{0}', p_retry_entry => ARRAY['{"error": "no"}'::jsonb]"#;
    assert!(hand.settle(&held, 0, "{[0,1)}", retry).await.unwrap());
    hand.run("SELECT host.{q}__promote(10)").await;

    let mut dead = SqlHost::new(&db, "q", second).await;
    let mut held = dead.must_lease(10).await;
    assert_eq!(held.count, 2);
    assert!(dead.settle(&held, 0, "{[0,1)}", "").await.unwrap());
    for _ in 1..5 {
        dead.end(true).await;
        dead = SqlHost::new(&db, "q", second).await;
        held = dead.take_over(held.id, 10).await.unwrap().expect("it is to be settled");
    }
    dead.end(true).await;
    let last = SqlHost::new(&db, "q", second).await;
    assert!(last.take_over(held.id, 10).await.unwrap().is_none());
    assert_eq!(value::<i64>(&client, "SELECT count(*) FROM host.q__dead_letter").await, 0);
    assert_eq!(last.strays().await, [0; 0]);
    // Whose it is still has it.
    assert_eq!(hand.must_lease(10).await.count, 1);
}

#[tokio::test]
async fn an_end_in_order_is_no_death() {
    let (db, client, mut hand) = SqlHost::with_queue("").await;
    hand.enqueue(1, 2).await;
    let mut lease = hand.must_lease(2).await.id;
    for _ in 0..6 {
        hand.end(false).await;
        hand = SqlHost::new(&db, "q", hand.handler).await;
        let held = hand.take_over(lease, 10).await.unwrap().expect("both");
        assert_eq!((held.count, deaths(&client, held.id).await), (2, 0));
        lease = held.id;
    }
}

/// The reply to a lease, or to a settlement, can be lost: then the session has a lease that it
/// knows nothing of, or not all of. It takes it over as it would another's.
#[tokio::test]
async fn a_session_finds_its_own_strays_and_takes_over_what_is_left_of_them() {
    let (_db, client, hand) = SqlHost::with_queue("").await;
    hand.enqueue(0, 4).await;
    let held = hand.must_lease(5).await;
    assert!(hand.settle(&held, 0, "{[0,2)}", "").await.unwrap());
    assert_eq!(hand.strays().await, [0; 0], "it is too new to be one");
    wait_until("the lease is old enough", async || hand.strays().await == [held.id]).await;
    let first = hand.take_over(held.id, 1).await.unwrap().expect("one of them");
    assert_eq!(hand.read(&first).await, [(2, 2)]);
    // What that left nobody knows of, however new it is.
    let left = hand.strays().await;
    assert_eq!(left.len(), 1);
    let rest = hand.take_over(left[0], 10).await.unwrap().expect("the rest");
    assert_eq!(hand.read(&rest).await, [(3, 3), (4, 4)]);
    assert_eq!(deaths(&client, rest.id).await, 0);
    // The reply that was thought lost comes after all.
    assert_eq!(sqlstate(hand.settle(&held, 1, "{[2,5)}", "").await), "HQ002");
    assert!(hand.settle(&first, 0, "{[2,3)}", "").await.unwrap());
    assert!(hand.settle(&rest, 0, "{[3,5)}", "").await.unwrap());
    assert_eq!(sqlstate(hand.take_over(rest.id, 10).await), "HQ002");
}

#[tokio::test]
async fn a_host_with_many_slow_messages_still_sees_what_others_have_left() {
    let (db, _client, hand) = SqlHost::with_queue("").await;
    hand.enqueue(1, 151).await;
    for _ in 0..150 {
        hand.must_lease(1).await;
    }
    let dead = SqlHost::new(&db, "q", hand.handler).await;
    let left = dead.must_lease(1).await;
    wait_until("its own leases are old", async || hand.strays().await.len() == 100).await;
    dead.end(true).await;
    assert_eq!(hand.strays().await.first(), Some(&left.id));
}
