//! Fencing: whatever is done at the same time or again, each effect of a settlement happens once,
//! and nobody's waiting makes others wait.

use std::pin::pin;
use std::task::Poll;

use futures_util::future::{join, poll_fn};
use tokio_postgres::{Client, NoTls};

use crate::harness::sql_host::{
    assert_only_inserted, backend, create_queue, deploy, sqlstate, value, wait_for_lock,
};
use crate::harness::{SqlHost, SqlLease, TestDb, wait_until};

/// Two queues, `q` with a handler and `sink` for follow-ups.
async fn scene() -> (TestDb, Client, SqlHost) {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", "").await;
    create_queue(&client, "sink", "").await;
    let handler = deploy(&client, "q", "default").await;
    let hand = SqlHost::new(&db, "q", handler).await;
    (db, client, hand)
}

const FOLLOW_UP: &str = ", p_follow_up_queue => '{sink}', p_follow_up_payload => '{7}',
    p_follow_up_headers => '{NULL}', p_follow_up_delay_ms => '{0}'";

/// Everything that a settlement can do, for positions 0 to 3.
const EVERYTHING: &str = r#", p_retry_pos => '{0}', p_retry_delay_ms => '{5}', p_retry_entry => ARRAY['{"error": "a"}'::jsonb],
    p_park_pos => '{1}', p_dead_pos => '{2}', p_dead_reason => '{given up}', p_dead_entry => ARRAY['{"error": "b"}'::jsonb],
    p_follow_up_queue => '{sink,sink}', p_follow_up_payload => '{7,8}', p_follow_up_headers => '{NULL,NULL}',
    p_follow_up_delay_ms => '{0,0}'"#;

/// Rows in: schedule, dead letters, sink, settlements.
async fn effects(client: &Client) -> [i64; 4] {
    let mut counts = [0; 4];
    let tables = ["host.q__schedule", "host.q__dead_letter", "queue.sink", "host.q__settlement"];
    for (count, table) in counts.iter_mut().zip(tables) {
        *count = value(client, &format!("SELECT count(*) FROM {table}")).await;
    }
    counts
}

#[tokio::test]
async fn a_settlement_retried_after_a_lost_reply_does_nothing_twice() {
    let (db, client, hand) = scene().await;
    hand.enqueue(1, 1).await;
    hand.run("INSERT INTO queue.q (payload, run_at) VALUES ('2', now() + interval '1 hour')").await;
    hand.enqueue(3, 6).await;
    let held = hand.must_lease(10).await;
    assert!(hand.settle(&held, 0, "{[0,4)}", EVERYTHING).await.unwrap());
    let once = [2, 1, 2, 1];
    assert_eq!(effects(&client).await, once);
    assert!(!hand.settle(&held, 0, "{[0,4)}", EVERYTHING).await.unwrap());
    assert_eq!(effects(&client).await, once);
    assert!(hand.settle(&held, 1, "{[4,6)}", "").await.unwrap());
    // Later still, after the next one.
    assert!(!hand.settle(&held, 0, "{[0,4)}", EVERYTHING).await.unwrap());
    assert_eq!(effects(&client).await, [2, 1, 2, 2]);
    // The attempt that failed counts, the one that was too early does not.
    let attempts = "SELECT array_agg(attempt ORDER BY origin) FROM host.q__schedule";
    assert_eq!(value::<Vec<i16>>(&client, attempts).await, [2, 1]);
    drop((client, hand));
    assert_only_inserted(&db).await;
}

#[tokio::test]
async fn what_does_not_follow_on_is_refused_and_does_nothing() {
    let (_db, client, hand) = scene().await;
    hand.enqueue(1, 6).await;
    let held = hand.must_lease(6).await;
    assert!(hand.settle(&held, 0, "{[1,3)}", "").await.unwrap());
    for (seq, settled) in [
        (0, "{[1,4)}"), // the number is taken, by another
        (1, "{[2,4)}"), // a position is settled already
        (1, "{[5,7)}"), // a position is outside the lease
        (1, "{[-1,1)}"),
        (2, "{[3,4)}"), // a number is left out
    ] {
        let refused = hand.settle(&held, seq, settled, FOLLOW_UP).await;
        assert_eq!(sqlstate(refused), "HQ002", "{seq} {settled}");
    }
    let mut forged = held;
    forged.token = uuid::Uuid::new_v4();
    assert_eq!(sqlstate(hand.settle(&forged, 1, "{[3,4)}", "").await), "HQ002");
    assert_eq!(effects(&client).await, [0, 0, 0, 1]);
}

/// A lease is committed asynchronously: after a crash its number can be given out again.
#[tokio::test]
async fn a_lease_number_given_out_twice_cannot_be_settled_by_the_first_holder() {
    let (db, client, hand) = scene().await;
    hand.enqueue(1, 4).await;
    hand.run("BEGIN").await;
    let lost = hand.must_lease(2).await;
    hand.run("ROLLBACK").await;
    hand.run(&format!("SELECT setval('host.{{q}}__lease_id_seq', {}, false)", lost.id)).await;
    let held = hand.must_lease(4).await;
    assert_eq!(held.id, lost.id);
    assert_eq!(sqlstate(hand.settle(&lost, 0, "{[0,2)}", FOLLOW_UP).await), "HQ002");
    assert_eq!(effects(&client).await, [0, 0, 0, 0]);
    // Nor by another session that knows everything else.
    let other = SqlHost::new(&db, "q", hand.handler).await;
    assert_eq!(sqlstate(other.settle(&held, 0, "{[0,2)}", FOLLOW_UP).await), "HQ002");
    hand.ack(&held).await;
}

#[tokio::test]
async fn a_settlement_that_waits_holds_up_no_lease_and_no_other_settlement() {
    let (db, client, hand) = scene().await;
    hand.enqueue(1, 40).await;
    let (first, second) = (hand.must_lease(10).await, hand.must_lease(10).await);
    let stuck = hand.beside(&db).await;
    let pid = backend(&stuck.client).await;
    client.batch_execute("BEGIN; LOCK TABLE queue.sink IN SHARE MODE").await.unwrap();
    let settling =
        tokio::spawn(async move { stuck.settle(&first, 0, "{[0,10)}", FOLLOW_UP).await });
    wait_for_lock(&hand.client, pid).await;
    // And one that is done but for its commit.
    let uncommitted = hand.beside(&db).await;
    uncommitted.run("BEGIN").await;
    uncommitted.ack(&second).await;

    let third = hand.must_lease(10).await;
    hand.ack(&third).await;
    assert_eq!(
        hand.query("SELECT promoted FROM host.{q}__promote(10)", &[])
            .await
            .unwrap()
            .get::<_, i32>(0),
        0
    );
    let other = SqlHost::new(&db, "q", hand.handler).await;
    assert_eq!(other.work_off().await.len(), 10);

    client.batch_execute("COMMIT").await.unwrap();
    assert!(settling.await.unwrap().unwrap());
    uncommitted.run("COMMIT").await;
    assert_eq!(effects(&client).await[2], 1);
}

/// The client of a frozen host does not read what it has asked for, and its transaction stays open.
#[tokio::test]
async fn a_client_that_does_not_read_its_rows_holds_up_nobody() {
    let (db, client, hand) = scene().await;
    client
        .batch_execute(
            "INSERT INTO queue.q (payload) SELECT to_jsonb(repeat('x', 500000)) FROM generate_series(1, 80)",
        )
        .await
        .unwrap();
    let big = hand.must_lease(80).await;
    hand.enqueue(1, 10).await;

    let (frozen, mut connection) = tokio_postgres::connect(&db.url, NoTls).await.unwrap();
    let read = format!("SELECT payload::text FROM host.q__read({}, {})", hand.session, big.seq);
    let mut asking = pin!(async {
        let params: [i32; 0] = [];
        let rows = frozen.query_raw(&read, params).await.unwrap();
        let pid = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND datname = current_database()";
        wait_until("the server cannot send more", async || {
            client.query_opt(pid, &[]).await.unwrap().is_some()
        })
        .await;
        rows
    });
    // From here on nobody reads from the connection.
    let _rows = poll_fn(|context| {
        let _ = std::future::Future::poll(std::pin::Pin::new(&mut connection), context);
        match asking.as_mut().poll(context) {
            Poll::Ready(rows) => Poll::Ready(rows),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;

    assert_eq!(hand.work_off().await, (1..=10).collect::<Vec<_>>());
    hand.ack(&big).await;
}

/// How the lease ended, by the log: settled by its session, taken over.
async fn ended_by(client: &Client, held: &SqlLease) -> (i64, i64) {
    let sql = "SELECT count(*) FILTER (WHERE NOT revoked), count(*) FILTER (WHERE revoked)
        FROM host.q__settlement WHERE lease_id = $1";
    let row = client.query_one(sql, &[&held.id]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn of_settle_and_take_over_at_the_same_time_the_first_to_commit_wins() {
    let (db, client, hand) = scene().await;
    for isolation in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        for settle_first in [true, false] {
            for first_commits in [true, false] {
                let case = format!("{isolation}, {settle_first}, {first_commits}");
                let zombie = SqlHost::new(&db, "q", hand.handler).await;
                zombie.enqueue(1, 5).await;
                let held = zombie.must_lease(5).await;
                zombie.end(true).await;
                let heir = SqlHost::new(&db, "q", hand.handler).await;
                let emitted = effects(&client).await[2];
                let (first, second) =
                    if settle_first { (&zombie, &heir) } else { (&heir, &zombie) };
                let second_pid = backend(&second.client).await;
                // With a snapshot of before either.
                let begin = format!(
                    "BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM host.q__settlement"
                );
                first.run(&begin).await;
                second.run(&begin).await;
                let settle = async || zombie.settle(&held, 0, "{[0,5)}", FOLLOW_UP).await.map(drop);
                let take_over = async || heir.take_over(held.id, 10).await.map(drop);
                let end_first = async {
                    wait_for_lock(&client, second_pid).await;
                    first.run(if first_commits { "COMMIT" } else { "ROLLBACK" }).await;
                };
                let (result, ()) = if settle_first {
                    settle().await.unwrap();
                    join(take_over(), end_first).await
                } else {
                    take_over().await.unwrap();
                    join(settle(), end_first).await
                };
                assert_eq!(result.is_err(), first_commits, "{case}: {result:?}");
                second.run("COMMIT").await;
                let settled = i64::from(settle_first == first_commits);
                assert_eq!(ended_by(&client, &held).await, (settled, 1 - settled), "{case}");
                assert_eq!(effects(&client).await[2] - emitted, settled, "{case}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_races_between_settle_and_take_over_each_has_one_winner() {
    let (db, client, zombie) = scene().await;
    zombie.enqueue(1, 200).await;
    let mut leases = Vec::new();
    while let Some(held) = zombie.lease(1).await {
        leases.push(held);
    }
    zombie.end(true).await;
    let heirs = [
        SqlHost::new(&db, "q", zombie.handler).await,
        SqlHost::new(&db, "q", zombie.handler).await,
    ];
    let (mut settled, mut taken) = (0, 0);
    for held in &leases {
        let settle = zombie.settle(held, 0, "{[0,1)}", FOLLOW_UP);
        let take = join(heirs[0].take_over(held.id, 1), heirs[1].take_over(held.id, 1));
        let (s, (a, b)) = join(settle, take).await;
        assert_eq!(
            [s.is_ok(), a.is_ok(), b.is_ok()].iter().filter(|won| **won).count(),
            1,
            "{s:?} {a:?} {b:?}"
        );
        settled += i64::from(s.is_ok());
        taken += i64::from(s.is_err());
    }
    eprintln!("{settled} settled, {taken} taken over");
    assert_eq!(effects(&client).await[2], settled);
    drop((client, zombie, heirs));
    assert_only_inserted(&db).await;
}
