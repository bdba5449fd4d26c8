//! Windows: order of visibility is not order of ids, and nothing that is in the making is walked.

use serde_json::Value;
use tokio_postgres::Client;

use crate::harness::sql_host::{assert_only_inserted, deploy, sqlstate, value};
use crate::harness::{SqlHost, wait_until};

async fn insert(client: &Client, a: i64, b: i64) {
    let sql = "INSERT INTO queue.q (payload) SELECT to_jsonb(g) FROM generate_series";
    client.batch_execute(&format!("{sql}({a}::bigint, {b}::bigint) g")).await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_commits_after_later_ids_is_not_lost() {
    let (db, early, hand) = SqlHost::with_queue("").await;
    let late = db.client().await;
    early.batch_execute("BEGIN").await.unwrap();
    insert(&early, 1, 3).await;
    insert(&late, 4, 6).await;
    assert_eq!(hand.work_off().await, [4, 5, 6]);
    insert(&late, 7, 7).await;
    assert_eq!(hand.work_off().await, [7]);
    early.batch_execute("COMMIT").await.unwrap();
    assert_eq!(hand.work_off().await, [1, 2, 3]);
    assert!(hand.lease(10).await.is_none());
    drop((early, late, hand));
    assert_only_inserted(&db).await;
}

#[tokio::test]
async fn subtransactions_and_prepared_transactions_come_when_they_commit() {
    let (db, producer, hand) = SqlHost::with_queue(", p_wake_up => false").await;
    producer.batch_execute("BEGIN; SAVEPOINT a").await.unwrap();
    insert(&producer, 1, 1).await;
    producer.batch_execute("RELEASE a; SAVEPOINT b").await.unwrap();
    insert(&producer, 2, 2).await;
    producer.batch_execute("ROLLBACK TO b; SAVEPOINT c").await.unwrap();
    insert(&producer, 3, 3).await;
    let other = db.client().await;
    insert(&other, 4, 4).await;
    assert_eq!(hand.work_off().await, [4]);
    producer.batch_execute("PREPARE TRANSACTION 'windows'").await.unwrap();
    insert(&other, 5, 5).await;
    assert_eq!(hand.work_off().await, [5]);
    drop(producer);
    other.batch_execute("COMMIT PREPARED 'windows'").await.unwrap();
    assert_eq!(hand.work_off().await, [1, 3]);
}

/// A snapshot does not list its own transaction as in progress: a window cut by one that has
/// inserted would lose what it inserted. And one older than the cursor's would find everything
/// again.
#[tokio::test]
async fn windows_are_cut_only_in_a_transaction_without_an_xid_at_read_committed() {
    let (_db, client, hand) = SqlHost::with_queue("").await;
    for (begin, insert) in [
        ("BEGIN", "INSERT INTO queue.q (payload) VALUES ('1')"),
        ("BEGIN", "SAVEPOINT s; INSERT INTO queue.q (payload) VALUES ('1')"),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ", ""),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", ""),
    ] {
        let lease = format!(
            "SELECT host.q__lease({}, {}, 1, gen_random_uuid(), 1, 1)",
            hand.handler, hand.session
        );
        for call in [lease.as_str(), "SELECT host.q__promote(1)"] {
            client.batch_execute(&format!("{begin}; {insert}")).await.unwrap();
            let error = client.batch_execute(call).await.expect_err(call);
            let text = error.as_db_error().unwrap().message().to_owned();
            assert!(text.contains("needs a READ COMMITTED transaction of its own"), "{text}");
            client.batch_execute("ROLLBACK").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_big_window_is_handed_out_in_chunks_while_others_commit() {
    let (db, producer, hand) = SqlHost::with_queue("").await;
    insert(&producer, 1, 10_000).await;
    let mut given = Vec::new();
    let mut next = 10_001;
    while let Some(held) = hand.lease(333).await {
        given.extend(hand.payloads(&held).await);
        hand.ack(&held).await;
        if next <= 10_100 {
            insert(&producer, next, next).await;
            next += 1;
        }
    }
    assert_eq!(given, (1..next).collect::<Vec<_>>());
    drop((producer, hand));
    assert_only_inserted(&db).await;
}

#[tokio::test]
async fn a_lease_is_bounded_in_bytes_but_has_one_message_always() {
    let (_db, client, hand) = SqlHost::with_queue("").await;
    let sizes = "INSERT INTO queue.q (payload)
        SELECT to_jsonb(repeat('x', size)) FROM unnest(ARRAY[10, 5000, 10, 10, 100000, 10]) size";
    client.batch_execute(sizes).await.unwrap();
    let mut counts = Vec::new();
    while let Some(held) = hand.try_lease(100, 5_500).await.unwrap() {
        let rows: i64 = hand
            .query("SELECT count(*) FROM host.{q}__read($1, $2)", &[&hand.session, &held.seq])
            .await
            .unwrap()
            .get(0);
        assert_eq!(rows, i64::from(held.count));
        counts.push(held.count);
        hand.ack(&held).await;
    }
    assert_eq!(counts, [4, 1, 1]);
}

/// Pages that a call touches, those of the functions in it included.
async fn pages(client: &Client, call: &str) -> i64 {
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT {call}");
    let plan: Value = value(client, &explain).await;
    let plan = &plan[0]["Plan"];
    plan["Shared Hit Blocks"].as_i64().unwrap() + plan["Shared Read Blocks"].as_i64().unwrap()
}

fn lease_call(hand: &SqlHost, seq: i64) -> String {
    let (handler, session) = (hand.handler, hand.session);
    format!("host.q__lease({handler}, {session}, {seq}, gen_random_uuid(), 1000, 1 << 30)")
}

#[tokio::test]
async fn a_huge_uncommitted_insert_is_not_walked() {
    let (db, huge, hand) = SqlHost::with_queue("").await;
    let producer = db.client().await;
    insert(&producer, 1, 1).await;
    assert_eq!(hand.work_off().await, [1]);
    huge.batch_execute("BEGIN").await.unwrap();
    insert(&huge, 1_000_001, 1_200_000).await;

    // Of 200,000 rows the index alone has 700 pages. The first call on a connection reads the
    // catalogs as well, so the cheapest of some counts.
    let (mut lease, mut read) = (i64::MAX, i64::MAX);
    for n in 0..3 {
        insert(&producer, 10 * n + 2, 10 * n + 11).await;
        let seq = hand.next_seq();
        lease = lease.min(pages(&hand.client, &lease_call(&hand, seq)).await);
        let rows = format!("(SELECT count(*) FROM host.q__read({}, {seq}))", hand.session);
        read = read.min(pages(&hand.client, &rows).await);
    }
    assert!(lease < 200, "{lease} pages for a lease");
    assert!(read < 200, "{read} pages for its rows");
    let empty = pages(&hand.client, &lease_call(&hand, hand.next_seq())).await;
    assert!(empty < 200, "{empty} pages for an empty poll");

    huge.batch_execute("COMMIT").await.unwrap();
    let mut count = 0;
    while let Some(held) = hand.lease(50_000).await {
        count += held.count;
    }
    assert_eq!(count, 200_000);
}

/// What has been leased stays in its leaf until the leaf is truncated; a lease must not pass
/// through it (I6).
#[tokio::test]
async fn a_lease_costs_the_same_however_much_is_behind_the_cursor() {
    let (_db, producer, hand) = SqlHost::with_queue("").await;
    insert(&producer, 1, 200_000).await;
    while hand.lease(50_000).await.is_some() {}
    let (mut lease, mut read, mut promote) = (i64::MAX, i64::MAX, i64::MAX);
    for n in 0..3 {
        insert(&producer, n, n).await;
        let seq = hand.next_seq();
        lease = lease.min(pages(&hand.client, &lease_call(&hand, seq)).await);
        let rows = format!("(SELECT count(*) FROM host.q__read({}, {seq}))", hand.session);
        read = read.min(pages(&hand.client, &rows).await);
    }
    assert!(lease < 200 && read < 200, "{lease} pages for a lease, {read} for its rows");

    let scheduled =
        "INSERT INTO host.q__schedule (due, slot, origin, enqueued_at, attempt, payload)
        SELECT now() - interval '1 h', 0, g, now(), 1, '1' FROM generate_series(1, ";
    producer.batch_execute(&format!("{scheduled} 200000) g")).await.unwrap();
    assert_eq!(hand.value::<i32>("SELECT promoted FROM host.{q}__promote(200001)").await, 200_000);
    for _ in 0..3 {
        producer.batch_execute(&format!("{scheduled} 1) g")).await.unwrap();
        promote = promote.min(pages(&hand.client, "host.q__promote(10)").await);
    }
    assert!(promote < 300, "{promote} pages to promote a message");
}

#[tokio::test]
async fn a_huge_rolled_back_insert_is_walked_once() {
    let (_db, huge, hand) = SqlHost::with_queue("").await;
    huge.batch_execute("BEGIN").await.unwrap();
    insert(&huge, 1, 200_000).await;
    huge.batch_execute("ROLLBACK").await.unwrap();
    let mut touched = Vec::new();
    for _ in 0..4 {
        touched.push(pages(&hand.client, &lease_call(&hand, hand.next_seq())).await);
    }
    assert!(*touched.last().unwrap() < 100, "pages of one poll after the other: {touched:?}");
}

#[tokio::test]
async fn an_empty_poll_writes_nothing() {
    let (_db, client, hand) = SqlHost::with_queue("").await;
    insert(&client, 1, 5).await;
    assert_eq!(hand.work_off().await.len(), 5);
    let polls = [
        format!(
            "SELECT host.q__lease({}, {}, 99, gen_random_uuid(), 1, 1)",
            hand.handler, hand.session
        ),
        "SELECT host.q__promote(10)".to_owned(),
    ];
    for poll in polls {
        // One that takes long, or comes after many transactions of others, may write where it has
        // got to.
        wait_until("a poll takes no xid", async || {
            client.batch_execute(&format!("BEGIN; {poll}")).await.unwrap();
            let wrote: bool =
                value(&client, "SELECT pg_current_xact_id_if_assigned() IS NOT NULL").await;
            client.batch_execute("COMMIT").await.unwrap();
            !wrote
        })
        .await;
    }
}

#[tokio::test]
async fn an_ended_session_gets_no_lease() {
    let (_db, client, hand) = SqlHost::with_queue("").await;
    insert(&client, 1, 5).await;
    hand.end(true).await;
    assert_eq!(sqlstate(hand.try_lease(1, 1).await), "HQ001");
}

#[tokio::test]
async fn each_handler_has_its_own_cursor_over_the_same_messages() {
    let (db, client, hand) = SqlHost::with_queue("").await;
    insert(&client, 1, 5).await;
    assert_eq!(hand.work_off().await.len(), 5);
    let handler = deploy(&client, "q", "second").await;
    let second = SqlHost::new(&db, "q", handler).await;
    insert(&client, 6, 7).await;
    assert_eq!(second.work_off().await, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(hand.work_off().await, [6, 7]);
}
