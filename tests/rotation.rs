//! Rotation: what is settled goes, what is not stays, and nobody is made to wait for it.

use host_queue::constants::{CURSOR_LOCK, ROTATION_LOCK};
use tokio_postgres::Client;

use crate::harness::sql_host::{
    ROTATES_ALWAYS, assert_only_inserted, backend, create_queue, deploy, value,
};
use crate::harness::{SqlHost, TestDb, wait_until};

async fn scene() -> (TestDb, Client, SqlHost) {
    SqlHost::with_queue(ROTATES_ALWAYS).await
}

/// More than a leaf of messages.
const LEAF: i64 = 300;

/// Fills the present leaf and begins the next. Returns the leaf that is not the present one any
/// more.
async fn fill_and_advance(hand: &SqlHost) -> i32 {
    let leaf =
        hand.value("SELECT (last_value / 100000000000 % 3)::int FROM queue.{q}_id_seq").await;
    hand.enqueue(1, LEAF).await;
    hand.next_generation().await;
    leaf
}

/// The reason why a leaf stays, which must have one.
async fn held(hand: &SqlHost, leaf: i32) -> String {
    hand.truncate(leaf).await.expect("the leaf must stay")
}

async fn rows(client: &Client, leaf: i32) -> i64 {
    value(client, &format!("SELECT count(*) FROM host.q__message_{leaf}")).await
}

#[tokio::test]
async fn without_a_handler_nothing_is_truncated_and_the_first_gets_everything() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", ROTATES_ALWAYS).await;
    let nobody = SqlHost::new(&db, "q", 0).await;
    let leaf = fill_and_advance(&nobody).await;
    assert_eq!(held(&nobody, leaf).await, "no handler is deployed yet");
    let handler = deploy(&client, "q", "default").await;
    let hand = SqlHost::new(&db, "q", handler).await;
    assert_eq!(held(&hand, leaf).await, "handler \"default\" has messages in it to come");
    assert_eq!(hand.work_off().await, (1..=LEAF).collect::<Vec<_>>());
    assert_eq!(hand.truncate(leaf).await, None);
}

#[tokio::test]
async fn an_open_lease_pins_its_leaf_and_so_does_the_slowest_handler() {
    let (db, client, hand) = scene().await;
    let second = deploy(&client, "q", "slow").await;
    let slow = SqlHost::new(&db, "q", second).await;
    let leaf = fill_and_advance(&hand).await;
    let lease = hand.must_lease(LEAF as i32).await;
    slow.must_lease(10).await;
    assert_eq!(held(&hand, leaf).await, "handler \"slow\" has messages in it to come");
    slow.work_off().await;
    let why = held(&hand, leaf).await;
    let open = format!("lease {} of session {} has been open since ", lease.id, hand.session);
    assert!(why.starts_with(&open), "{why}");
    hand.ack(&lease).await;
    let why = held(&hand, leaf).await;
    assert!(why.contains(&format!("of session {} has been open", slow.session)), "{why}");
    slow.end(false).await;
    let stray = SqlHost::new(&db, "q", second).await;
    let lease = stray.strays().await[0];
    let lease = stray.take_over(lease, 10).await.unwrap().expect("ten messages");
    // The rows pin the leaf, wherever in the log the lease is.
    assert!(held(&hand, leaf).await.contains("has been open"));
    stray.ack(&lease).await;
    assert_eq!(hand.truncate(leaf).await, None);
    assert_eq!(rows(&client, leaf).await, 0);
    drop((client, hand, slow, stray));
    assert_only_inserted(&db).await;
}

#[tokio::test]
async fn a_reader_is_waited_for_politely_and_named() {
    let (db, reader, hand) = scene().await;
    let leaf = fill_and_advance(&hand).await;
    hand.work_off().await;
    let lock = format!("BEGIN; SELECT count(*) FROM host.q__message_{leaf}");
    reader.batch_execute(&lock).await.unwrap();
    let pid = backend(&reader).await;
    for _ in 0..3 {
        let why = held(&hand, leaf).await;
        assert!(why.contains(&format!("process {pid} ")), "{why}");
        assert!(why.contains("AccessShareLock"), "{why}");
        hand.enqueue(1, 10).await;
        assert_eq!(hand.work_off().await.len(), 10);
    }
    reader.batch_execute("COMMIT").await.unwrap();
    assert_eq!(hand.truncate(leaf).await, None);
    drop((reader, hand));
    assert_only_inserted(&db).await;
}

/// Neither a snapshot nor an xid that somebody holds elsewhere stops rotation.
#[tokio::test]
async fn rotation_goes_on_under_an_old_snapshot_and_under_an_idle_transaction() {
    let (db, snapshot, hand) = scene().await;
    let idle = db.client().await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM host.queue";
    snapshot.batch_execute(begin).await.unwrap();
    idle.batch_execute("BEGIN; SELECT txid_current()").await.unwrap();
    for generation in 0..7 {
        let leaf = fill_and_advance(&hand).await;
        assert_eq!(leaf, generation % 3);
        assert_eq!(hand.work_off().await.len() as i64, LEAF);
        assert_eq!(hand.truncate(leaf).await, None);
        assert_eq!(rows(&hand.client, leaf).await, 0);
    }
    drop((idle, snapshot, hand));
    assert_only_inserted(&db).await;
}

#[tokio::test]
async fn a_message_that_comes_late_to_an_old_leaf_is_delivered_before_the_leaf_goes() {
    let (db, late, hand) = scene().await;
    late.batch_execute("BEGIN").await.unwrap();
    let id: i64 = value(&late, "SELECT nextval('queue.q_id_seq')").await;
    let leaf = fill_and_advance(&hand).await;
    hand.work_off().await;
    assert_eq!(hand.truncate(leaf).await, None);
    let insert =
        format!("INSERT INTO queue.q (id, payload) OVERRIDING SYSTEM VALUE VALUES ({id}, '-1')");
    late.batch_execute(&insert).await.unwrap();
    assert!(held(&hand, leaf).await.contains("RowExclusiveLock"));
    late.batch_execute("COMMIT").await.unwrap();
    assert_eq!(held(&hand, leaf).await, "handler \"default\" has messages in it to come");
    let lease = hand.must_lease(10).await;
    assert_eq!(hand.payloads(&lease).await, [-1]);
    assert!(held(&hand, leaf).await.contains("has been open"));
    hand.ack(&lease).await;
    assert_eq!(hand.truncate(leaf).await, None);
    drop((late, hand));
    assert_only_inserted(&db).await;
}

/// `setval` is not undone when its transaction is: a crash can leave the sequences in the next
/// generation, or the first of them, and the cursors in the one before.
#[tokio::test]
async fn rotation_recovers_from_an_advance_that_was_cut_off() {
    for sequences in [
        &["host.q__lease_id_seq"][..],
        &["host.q__lease_id_seq", "host.q__promotion_id_seq"],
        &["host.q__lease_id_seq", "host.q__promotion_id_seq", "queue.q_id_seq"],
    ] {
        let (db, client, hand) = scene().await;
        hand.enqueue(1, LEAF).await;
        for sequence in sequences {
            client
                .batch_execute(&format!("SELECT setval('{sequence}', 100000000001, false)"))
                .await
                .unwrap();
        }
        hand.enqueue(LEAF + 1, 2 * LEAF).await;
        // The cursors are still in it, and so may be the present end of the lease log.
        assert_eq!(hand.work_off().await, (1..=2 * LEAF).collect::<Vec<_>>());
        let why = held(&hand, 0).await;
        let expected = [
            "it is the present one",
            "the cursor of handler \"default\" has not been carried forward",
            "the cursor of the schedule has not been carried forward",
        ];
        assert!(expected.contains(&why.as_str()), "{why}");
        hand.next_generation().await;
        assert_eq!(hand.truncate(0).await, None);
        assert_eq!(hand.truncate(1).await, None);
        for leaf in [2, 0, 1] {
            assert_eq!(fill_and_advance(&hand).await, leaf);
            assert_eq!(hand.work_off().await.len() as i64, LEAF);
            assert_eq!(hand.truncate(leaf).await, None);
        }
        drop((client, hand));
        assert_only_inserted(&db).await;
    }
}

#[tokio::test]
async fn only_one_host_rotates_and_a_leaf_that_is_in_use_is_not_begun_again() {
    let (db, other, hand) = scene().await;
    assert_eq!(held(&hand, 0).await, "it is the present one");
    let leaf = fill_and_advance(&hand).await;
    hand.work_off().await;
    let queue: i32 = value(&other, "SELECT id FROM host.queue").await;
    let lock = format!("BEGIN; SELECT pg_advisory_xact_lock({ROTATION_LOCK}, {queue})");
    other.batch_execute(&lock).await.unwrap();
    assert_eq!(held(&hand, leaf).await, "another host is rotating");
    other.batch_execute("COMMIT").await.unwrap();
    let lock = format!("BEGIN; SELECT pg_advisory_xact_lock({CURSOR_LOCK}, {})", hand.handler);
    other.batch_execute(&lock).await.unwrap();
    assert_eq!(held(&hand, leaf).await, "handler \"default\" is leasing");
    other.batch_execute("COMMIT").await.unwrap();

    fill_and_advance(&hand).await;
    hand.enqueue(1, LEAF).await;
    let mut why = None;
    wait_until("only the next leaf is in the way", async || {
        why = hand.advance().await;
        why.as_deref() != Some("the present leaf is not old enough")
    })
    .await;
    assert_eq!(why.as_deref(), Some("leaf 0, which would be next, is not empty"));
    drop((other, hand));
    assert_only_inserted(&db).await;
}

#[tokio::test]
async fn leaves_of_the_schedule_go_when_their_time_is_over_and_all_is_promoted() {
    let (db, client, hand) = scene().await;
    let truncate = async || hand.value::<i32>("SELECT host.{q}__truncate_schedule()").await;
    // One row in each leaf of the finest level: one of them is of the minute that is over.
    let insert = "INSERT INTO host.q__schedule (due, slot, origin, enqueued_at, attempt, payload)
        SELECT now() - interval '1 hour', slot, slot, now(), 1, to_jsonb(slot) FROM generate_series(0, 2) slot";
    client.batch_execute(insert).await.unwrap();
    assert_eq!(truncate().await, 0, "it is not promoted");
    assert_eq!(hand.value::<i32>("SELECT promoted FROM host.{q}__promote(10)").await, 3);
    client.batch_execute("BEGIN; SELECT count(*) FROM host.q__schedule").await.unwrap();
    assert_eq!(truncate().await, 0, "somebody reads it");
    client.batch_execute("COMMIT; BEGIN").await.unwrap();
    client.batch_execute(insert).await.unwrap();
    assert_eq!(truncate().await, 0, "somebody writes to it");
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(truncate().await, 0, "what came late is not promoted");
    assert_eq!(hand.value::<i32>("SELECT promoted FROM host.{q}__promote(10)").await, 3);
    assert_eq!(truncate().await, 1);
    assert_eq!(value::<i64>(&client, "SELECT count(*) FROM host.q__schedule").await, 4);
    assert_eq!(hand.work_off().await.len(), 6);
    drop((client, hand));
    assert_only_inserted(&db).await;
}
