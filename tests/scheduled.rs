//! The proof before a partition of the schedule is truncated, and what the proof of messages rests
//! on. Accounts are right after an advance that was cut off. Leases are there as long as their
//! messages.

use tokio_postgres::Client;

use crate::harness::sql_host::{ROTATES_ALWAYS, sqlstate, value};
use crate::harness::{SqlHost, TestDb, wait_until};

async fn queue(settings: &str) -> (TestDb, Client, SqlHost) {
    SqlHost::with_queue(&format!("{ROTATES_ALWAYS}{settings}")).await
}

/// Schedules 18 messages that are due, six in each partition of the finest level: one of these is
/// of the minute that is over.
const SCHEDULE: &str = "INSERT INTO host.q__schedule (due, slot, origin, enqueued_at, attempt, payload)
    SELECT now() - interval '1 hour', n / 6, n, now(), 1, to_jsonb(n) FROM generate_series(0, 17) n";
const PROMOTE: &str = "SELECT promoted FROM host.q__promote(100)";
const TRUNCATE: &str = "SELECT host.q__truncate_schedule()";

/// For each partition of the finest level: the messages, and the account.
async fn accounts(client: &Client) -> Vec<(i64, i64)> {
    let sql = "SELECT (SELECT count(*) FROM host.q__schedule s WHERE s.slot = n),
            (SELECT p.promoted[n + 1] FROM host.q__promotion p ORDER BY p.id DESC LIMIT 1)
        FROM generate_series(0, 2) n ORDER BY n";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn while_a_partition_of_the_schedule_is_detached_its_cursor_stands() {
    let (db, client, hand) = queue("").await;
    client.batch_execute(SCHEDULE).await.unwrap();
    for slot in [1, 20] {
        let detach =
            format!("ALTER TABLE host.q__schedule DETACH PARTITION host.q__schedule_{slot}");
        client.batch_execute(&detach).await.unwrap();
        assert_eq!(sqlstate(client.query_one(PROMOTE, &[]).await), "HQ012");
        assert_eq!(value::<i32>(&client, TRUNCATE).await, 0);
        let status = db.host(&["status"]).await.ok();
        assert!(status.contains(&format!("host.q__schedule_{slot} is detached")), "{status}");
        let remedy: String = value(&client, "SELECT remedy FROM host.detached('q')").await;
        client.batch_execute(&remedy).await.unwrap();
    }
    assert_eq!(value::<i32>(&client, PROMOTE).await, 18);
    assert_eq!(hand.work_off().await, (0..18).collect::<Vec<_>>());
    assert_eq!(accounts(&client).await, [(6, 6); 3]);
    assert_eq!(value::<i32>(&client, TRUNCATE).await, 1);
    let mut left = accounts(&client).await;
    left.sort_unstable();
    assert_eq!(left, [(0, 0), (6, 6), (6, 6)]);
}

/// An index that lacks every third message, and of which Postgres thinks that it is whole.
fn damage(slot: i32) -> String {
    format!(
        "CREATE INDEX due_{slot} ON host.q__schedule_{slot} (due, id) WHERE id % 3 <> 1;
         CREATE INDEX late_{slot} ON host.q__schedule_{slot} (txid, id) WHERE id % 3 <> 1;
         UPDATE pg_index SET indpred = NULL
            WHERE indexrelid IN ('host.due_{slot}'::regclass, 'host.late_{slot}'::regclass);"
    )
}

#[tokio::test]
async fn what_was_never_promoted_keeps_its_partition_and_comes_at_last() {
    let (db, client, hand) = queue("").await;
    client.batch_execute(SCHEDULE).await.unwrap();
    client.batch_execute("DROP INDEX host.q__schedule_due, host.q__schedule_late").await.unwrap();
    client.batch_execute(&[0, 1, 2].map(damage).concat()).await.unwrap();
    let host = hand.beside(&db).await;
    assert_eq!(host.value::<i32>(PROMOTE).await, 12, "it cannot see the others");
    assert_eq!(host.value::<i32>(TRUNCATE).await, 0);
    let doctor = db.host(&["doctor"]).await.stdout;
    let named = "messages of queue q were never leased, or never came back from the schedule";
    assert!(doctor.contains(named), "{doctor}");
    client
        .batch_execute(
            "DROP INDEX host.due_0, host.due_1, host.due_2, host.late_0, host.late_1, host.late_2;
             CREATE INDEX q__schedule_due ON host.q__schedule (due, id);
             CREATE INDEX q__schedule_late ON host.q__schedule (txid, id)",
        )
        .await
        .unwrap();
    assert_eq!(value::<i32>(&client, PROMOTE).await, 0, "the cursor has passed them");
    assert_eq!(value::<i32>(&client, TRUNCATE).await, 0, "to see them now is not to have run them");
    // Two of each partition whose minute is over.
    let mut delivered = 0;
    wait_until("a partition goes", async || {
        delivered += value::<i64>(&client, "SELECT host.q__deliver_missed()").await;
        value::<i32>(&client, TRUNCATE).await == 1
    })
    .await;
    assert!(delivered > 0 && delivered % 2 == 0, "{delivered}");
    assert_eq!(value::<i64>(&client, "SELECT host.q__deliver_missed()").await, 0);
    let mut done = hand.work_off().await;
    done.sort_unstable();
    done.dedup();
    assert_eq!(done.len() as i64, 12 + delivered);
}

/// Of a queue from before there were accounts, nothing is known: its partitions go as they did.
#[tokio::test]
async fn what_was_promoted_before_there_were_accounts_is_not_missed() {
    let (_db, client, hand) = queue("").await;
    client.batch_execute(SCHEDULE).await.unwrap();
    let unknown =
        "INSERT INTO host.q__promotion (due, schedule_id, hi, late_txids, late_txid, late_id)
        VALUES ('-infinity', 0, '1:1:', '{}', 0, 0)";
    client.batch_execute(unknown).await.unwrap();
    assert_eq!(value::<i32>(&client, PROMOTE).await, 18);
    assert_eq!(value::<i32>(&client, TRUNCATE).await, 1);
    let known = "SELECT count(*) FROM (SELECT promoted FROM host.q__promotion ORDER BY id DESC LIMIT 1) p, unnest(p.promoted) n
        WHERE n = 0";
    assert!(value::<i64>(&client, known).await >= 1, "from now on it is");
    assert_eq!(hand.work_off().await.len(), 18);
}

#[tokio::test]
async fn the_leases_of_messages_that_were_missed_are_kept_with_them() {
    let (_db, client, hand) = queue("").await;
    hand.enqueue(1, 300).await;
    hand.next_generation().await;
    // These leases are of messages of the generation before.
    let held = hand.must_lease(150).await;
    assert_eq!(hand.payloads(&held).await, (1..=150).collect::<Vec<_>>());
    hand.ack(&held).await;
    client.batch_execute("ALTER TABLE queue.q DETACH PARTITION host.q__message_0").await.unwrap();
    hand.enqueue(301, 600).await;
    hand.next_generation().await;
    assert_eq!(hand.work_off().await, (301..=600).collect::<Vec<_>>());
    let first = Some("its leases are of messages in leaf 0, which goes first".to_owned());
    assert_eq!(hand.truncate(1).await, first);
    assert!(hand.truncate(0).await.unwrap().contains("never leased 150 of its messages"));
    assert_eq!(hand.truncate(1).await, first);
    let attach = "ALTER TABLE queue.q ATTACH PARTITION host.q__message_0 FOR VALUES IN (0)";
    client.batch_execute(attach).await.unwrap();
    assert_eq!(value::<i64>(&client, "SELECT host.q__deliver_missed()").await, 150);
    assert_eq!(hand.work_off().await, (151..=300).collect::<Vec<_>>());
    assert_eq!(hand.truncate(0).await, None);
    assert_eq!(hand.truncate(1).await, None);
}

/// The sequences are in the next generation, and the cursors are not.
#[tokio::test]
async fn an_advance_that_was_cut_off_leaves_the_accounts_right() {
    for settings in ["", ", p_ordered_lanes => 2", ", p_keyed_lanes => 2"] {
        let (_db, client, mut hand) = queue(settings).await;
        let key = if settings.is_empty() { "NULL" } else { "'k'" };
        if !settings.is_empty() {
            hand.lane = value(&client, "SELECT (hashtextextended('k', 0) & 1)::int").await;
        }
        let enqueue = async |hand: &SqlHost, messages: i64| {
            let sql = "INSERT INTO queue.q (payload, key) SELECT to_jsonb(g), ";
            hand.run(&format!("{sql} {key} FROM generate_series(1, {messages}) g")).await;
        };
        for generation in 0..3 {
            enqueue(&hand, 300).await;
            hand.next_generation().await;
            assert_eq!(hand.work_off().await.len(), 300);
            assert_eq!(hand.truncate(generation).await, None);
        }
        // Generation 3, and then 4, whose partition has had 300 messages before.
        enqueue(&hand, 50).await;
        for sequence in ["host.q__lease_id_seq", "host.q__promotion_id_seq", "queue.q_id_seq"] {
            let set = format!("SELECT setval('{sequence}', 400000000001, false)");
            client.batch_execute(&set).await.unwrap();
        }
        enqueue(&hand, 300).await;
        let account = async || {
            let sql = "SELECT l.leased[1] || ' ' || l.leased[2] FROM host.{q}__cursors($1) c
                JOIN host.{q}__lease l ON l.id = c.id WHERE c.lane = $2::int";
            let row = hand.query(sql, &[&hand.handler, &hand.lane]).await.unwrap();
            row.get::<_, String>(0)
        };
        let held = hand.must_lease(70).await;
        hand.ack(&held).await;
        assert_eq!(account().await, "50 20", "{settings}");
        let held = hand.must_lease(100).await;
        hand.ack(&held).await;
        assert_eq!(account().await, "50 120", "{settings}");
        hand.next_generation().await;
        assert_eq!(account().await, "50 120", "{settings}");
        assert_eq!(hand.work_off().await.len(), 180);
        assert_eq!(hand.truncate(0).await, None);
        assert_eq!(hand.truncate(1).await, None);
    }
}
