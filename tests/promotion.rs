//! Promotion: what is due comes into the queue once, whoever else is slow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::{join, join_all};
use tokio_postgres::Client;

use crate::harness::sql_host::{assert_only_inserted, deploy, value};
use crate::harness::{SqlHost, seed};

/// Schedules the numbers from `a` to `b`, all due `seconds` from now.
async fn schedule(client: &Client, a: i64, b: i64, seconds: f64) {
    let sql = format!(
        "INSERT INTO host.q__schedule (due, slot, origin, enqueued_at, attempt, payload)
         SELECT d, host.slot(d, now()), g, now(), 1, to_jsonb(g)
         FROM generate_series({a}::bigint, {b}::bigint) g, LATERAL (SELECT date_trunc('seconds', now()) + {seconds} * interval '1 s' AS d) d"
    );
    client.batch_execute(&sql).await.unwrap();
}

/// Promotes once: how many, and whether more are due.
async fn promote(hand: &SqlHost, messages: i32) -> (i32, bool) {
    let row = hand
        .query("SELECT promoted, again FROM host.{q}__promote($1)", &[&messages])
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

/// What is still to be promoted, as operators see it: as many as are counted.
async fn scheduled(hand: &SqlHost) -> Vec<i64> {
    let peek = "SELECT ARRAY(SELECT p.id FROM host.{q}__peek_scheduled(NULL, 100) p ORDER BY p.id)";
    let ids: Vec<i64> = hand.value(peek).await;
    let counted: i64 = hand.value("SELECT scheduled FROM host.{q}__stored(100)").await;
    assert_eq!(counted, ids.len() as i64, "{ids:?}");
    ids
}

#[tokio::test]
async fn a_stalled_inserter_stalls_nobody_and_is_found_behind_the_cursor() {
    let (db, client, hand) = SqlHost::with_queue("").await;
    let stalled = db.client().await;
    stalled.batch_execute("BEGIN").await.unwrap();
    schedule(&stalled, 1, 3, -60.0).await;
    schedule(&client, 4, 6, -10.0).await;
    assert_eq!(promote(&hand, 100).await, (3, false));
    // Committed at once, and still behind the cursor.
    schedule(&client, 7, 8, -30.0).await;
    assert_eq!(scheduled(&hand).await, [7, 8]);
    assert_eq!(promote(&hand, 100).await, (2, false));
    assert_eq!(promote(&hand, 100).await, (0, false));
    stalled.batch_execute("COMMIT").await.unwrap();
    assert_eq!(scheduled(&hand).await, [1, 2, 3]);
    assert_eq!(promote(&hand, 2).await, (2, true));
    assert_eq!(scheduled(&hand).await.len(), 1, "it came late, and the snapshot has it");
    assert_eq!(promote(&hand, 2).await, (1, false));
    assert_eq!(scheduled(&hand).await, [0; 0]);
    assert_eq!(promote(&hand, 2).await, (0, false));
    let mut all = hand.work_off().await;
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3, 4, 5, 6, 7, 8]);
    drop((client, stalled, hand));
    assert_only_inserted(&db).await;
}

#[tokio::test]
async fn many_messages_of_one_due_time_are_promoted_in_chunks() {
    let (_db, client, hand) = SqlHost::with_queue("").await;
    schedule(&client, 1, 1_000, -5.0).await;
    assert_eq!(promote(&hand, 300).await, (300, true));
    // Of the very same time, before and behind the cursor.
    schedule(&client, 1_001, 1_500, -5.0).await;
    schedule(&client, 1_501, 1_502, 3600.0).await;
    let mut promoted = 300;
    loop {
        let (count, again) = promote(&hand, 70).await;
        promoted += count;
        if !again {
            break;
        }
    }
    assert_eq!(promoted, 1_500);
    let mut all = hand.work_off().await;
    all.sort_unstable();
    assert_eq!(all, (1..=1_500).collect::<Vec<_>>());
    let next: i64 = hand.value("SELECT next_ms FROM host.{q}__promote(1)").await;
    assert!((3_000_000..=3_600_000).contains(&next), "{next}");
}

#[tokio::test]
async fn one_promotes_at_a_time_and_what_it_loses_is_promoted_again() {
    let (db, client, hand) = SqlHost::with_queue("").await;
    schedule(&client, 1, 10, -5.0).await;
    let cut_off = hand.beside(&db).await;
    cut_off.run("BEGIN").await;
    assert_eq!(promote(&cut_off, 4).await, (4, true));
    assert_eq!(promote(&hand, 10).await, (0, false));
    cut_off.run("ROLLBACK").await;
    assert_eq!(promote(&hand, 20).await, (10, false));
    assert_eq!(hand.work_off().await.len(), 10);
}

/// A retry keeps its message's identity, its history and its handler.
#[tokio::test]
async fn a_rescheduled_message_comes_back_as_the_same_for_its_own_handler_only() {
    let (db, client, hand) = SqlHost::with_queue("").await;
    let second = deploy(&client, "q", "second").await;
    hand.enqueue(1, 1).await;
    let id: i64 = value(&client, "SELECT id FROM queue.q").await;
    let entry = r#", p_retry_pos => '{0}', p_retry_delay_ms => '{0}', p_retry_entry => ARRAY['{"error": "no"}'::jsonb]"#;
    for attempt in 1..=3_i16 {
        let held = hand.must_lease(1).await;
        let read = "SELECT id, attempt, handler_id, coalesce(jsonb_array_length(history), 0) FROM host.{q}__read($1, $2)";
        let row = hand.query(read, &[&hand.session, &held.seq]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i16>(1)), (id, attempt));
        let only = (attempt > 1).then_some(hand.handler);
        assert_eq!(
            (row.get::<_, Option<i32>>(2), row.get::<_, i32>(3)),
            (only, i32::from(attempt) - 1)
        );
        assert!(hand.settle(&held, 0, "{[0,1)}", entry).await.unwrap());
        assert_eq!(promote(&hand, 10).await.0, 1);
    }
    // The other one sees where they are, and that they are not its own.
    let other = SqlHost::new(&db, "q", second).await;
    let held = other.must_lease(10).await;
    let read = "SELECT count(*) FILTER (WHERE handler_id IS NULL) FROM host.{q}__read($1, $2)";
    let own: i64 = other.query(read, &[&other.session, &held.seq]).await.unwrap().get(0);
    assert_eq!((own, held.count), (1, 4));
    drop((client, hand, other));
    assert_only_inserted(&db).await;
}

/// Inserts in transactions that stay open for random times, due before and after now. Returns what
/// it committed.
async fn insert(client: Client, number: i64, mut rng: Rng) -> Vec<i64> {
    let mut next = number * 1_000_000;
    let mut committed = Vec::new();
    for _ in 0..60 {
        let (first, mut keep) = (next, rng.u8(..10) > 0);
        client.batch_execute("BEGIN").await.unwrap();
        for _ in 0..rng.u8(1..4) {
            let last = next + rng.i64(0..40);
            let seconds = [-60.0, -1.0, 0.0, 0.3, 1.0][rng.usize(..5)];
            schedule(&client, next, last, seconds).await;
            next = last + 1;
            let hold = if rng.u8(..30) == 0 { 400 } else { rng.u64(..10) };
            tokio::time::sleep(Duration::from_millis(hold)).await;
        }
        keep &= client.batch_execute(if keep { "COMMIT" } else { "ROLLBACK" }).await.is_ok();
        if keep {
            committed.extend(first..next);
        }
    }
    committed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_inserters_do_each_committed_message_is_promoted_once() {
    let mut rng = Rng::with_seed(seed());
    let (db, client, hand) = SqlHost::with_queue("").await;
    let done = AtomicBool::new(false);
    let mut inserters = Vec::new();
    for number in 0..4 {
        inserters.push(insert(db.client().await, number, rng.fork()));
    }
    let inserting = async {
        let committed = join_all(inserters).await.concat();
        done.store(true, Ordering::SeqCst);
        committed
    };
    let mut sizes = rng.fork();
    let promoting = async {
        loop {
            let last = done.load(Ordering::SeqCst);
            let row = hand
                .query("SELECT again, next_ms FROM host.{q}__promote($1)", &[&sizes.i32(1..60)])
                .await
                .unwrap();
            let (again, next): (bool, Option<i64>) = (row.get(0), row.get(1));
            if last && !again && next.is_none() {
                return;
            }
        }
    };
    let (mut committed, ()) = join(inserting, promoting).await;
    let mut promoted = hand.work_off().await;
    promoted.sort_unstable();
    committed.sort_unstable();
    assert_eq!(promoted.len(), committed.len());
    assert!(promoted == committed);
    drop((client, hand));
    assert_only_inserted(&db).await;
}
