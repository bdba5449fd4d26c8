//! The proof before a partition is truncated: each message in it was leased by each handler.
//! Whatever hides one from the hosts, and whoever forges what the system sets, no message goes
//! without having run.

use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio_postgres::Client;

use crate::harness::sql_host::{ROTATES_ALWAYS, deploy, sqlstate, value};
use crate::harness::{SqlHost, TestDb};

async fn queue(more: &str) -> (TestDb, Client, SqlHost) {
    SqlHost::with_queue(&format!("{ROTATES_ALWAYS}{more}")).await
}

/// Leases and acks all there is, in every lane; returns the payloads.
async fn work_off(hand: &mut SqlHost, lanes: i32, at_once: i32) -> Vec<i64> {
    let mut done = Vec::new();
    for lane in 0..lanes {
        hand.lane = lane;
        while let Some(held) = hand.lease(at_once).await {
            done.extend(hand.payloads(&held).await);
            hand.ack(&held).await;
        }
    }
    done
}

/// For each partition: messages, and those in the handler's account.
async fn accounts(hand: &SqlHost) -> Vec<(i64, i64)> {
    let sql = "SELECT (SELECT count(*) FROM queue.{q} m WHERE m.id / 100000000000 % 3 = leaf),
            (SELECT sum(l.leased[leaf + 1])::bigint FROM host.{q}__cursors($1) c JOIN host.{q}__lease l ON l.id = c.id)
        FROM generate_series(0, 2) leaf ORDER BY leaf";
    let sql = sql.replace("{q}", &hand.queue);
    let rows = hand.client.query(&sql, &[&hand.handler]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn the_account_of_every_kind_of_queue_is_exact() {
    for (lanes, settings) in [
        (1, ""),
        (3, ", p_priorities => true"),
        (4, ", p_ordered_lanes => 4"),
        (4, ", p_keyed_lanes => 4"),
    ] {
        let (db, client, mut hand) = queue(settings).await;
        let handler = deploy(&client, "q", "other").await;
        let mut other = SqlHost::new(&db, "q", handler).await;
        for generation in 0..5 {
            // Some are open across the change, so that leases are of two generations, and some come
            // late.
            let late = db.client().await;
            late.batch_execute("BEGIN; INSERT INTO queue.q (payload) VALUES ('0')").await.unwrap();
            hand.enqueue(1, 200).await;
            hand.next_generation().await;
            hand.enqueue(201, 300).await;
            late.batch_execute("COMMIT").await.unwrap();
            let step = 7 + 90 * (generation % 2);
            assert_eq!(work_off(&mut hand, lanes, step).await.len(), 301, "{settings}");
            assert_eq!(work_off(&mut other, lanes, 1_000).await.len(), 301, "{settings}");
            // The first of a new handler's are all that there are, of one from now on none.
            client.batch_execute("BEGIN").await.unwrap();
            let newest = deploy(&client, "q", &format!("new{generation}")).await;
            client
                .batch_execute(&format!("SELECT host.begin_from_now({newest}); COMMIT"))
                .await
                .unwrap();
            for handler in [hand.handler, other.handler, newest] {
                let mut all = hand.beside(&db).await;
                all.handler = handler;
                // Of a truncated one, what was counted stays until its next generation.
                for (messages, leased) in accounts(&all).await.into_iter().filter(|a| a.0 > 0) {
                    assert_eq!(messages, leased, "{settings}, generation {generation}");
                }
            }
            client.batch_execute(&format!("SELECT host.remove_handler({newest})")).await.unwrap();
            assert_eq!(hand.truncate(generation % 3).await, None, "{settings}");
        }
    }
}

#[tokio::test]
async fn hidden_messages_keep_their_partition_and_are_delivered_at_last() {
    for ordered in [false, true] {
        let settings = if ordered { ", p_ordered_lanes => 2" } else { "" };
        let (db, client, mut hand) = queue(settings).await;
        let lanes = if ordered { 2 } else { 1 };
        hand.enqueue(1, 300).await;
        hand.next_generation().await;
        client
            .batch_execute("ALTER TABLE queue.q DETACH PARTITION host.q__message_0")
            .await
            .unwrap();
        // So many that there are some in each lane.
        hand.enqueue(301, 340).await;
        assert_eq!(work_off(&mut hand, lanes, 1_000).await.len(), 40);
        let why = hand.truncate(0).await.expect("they have not run");
        assert!(
            why.starts_with("handler \"default\" has never leased 300 of its messages"),
            "{why}"
        );
        let doctor = db.host(&["doctor"]).await;
        assert_eq!(doctor.code, 6, "{}", doctor.stdout);
        assert!(
            doctor.stdout.contains("300 messages of queue q were never leased"),
            "{}",
            doctor.stdout
        );
        let status = db.host(&["status"]).await.ok();
        assert!(status.contains("300 of its messages were never leased"), "{status}");

        client
            .batch_execute(
                "ALTER TABLE queue.q ATTACH PARTITION host.q__message_0 FOR VALUES IN (0)",
            )
            .await
            .unwrap();
        assert!(hand.truncate(0).await.is_some(), "to see them now is not to have run them");
        assert_eq!(value::<i64>(&client, "SELECT host.q__deliver_missed()").await, 300);
        let mut all = work_off(&mut hand, lanes, 1_000).await;
        all.sort_unstable();
        assert_eq!(all, (1..=300).collect::<Vec<_>>());
        let ids = "SELECT count(DISTINCT origin) FROM queue.q WHERE origin < 100000000000";
        assert_eq!(value::<i64>(&client, ids).await, 300, "they keep their ids");
        assert_eq!(hand.truncate(0).await, None);
        assert_eq!(value::<i64>(&client, "SELECT host.q__deliver_missed()").await, 0);
    }
}

/// Of a partition of which some were leased, only the others come again.
#[tokio::test]
async fn what_was_leased_before_is_not_delivered_again() {
    let (_db, client, hand) = queue("").await;
    hand.enqueue(1, 100).await;
    assert_eq!(hand.work_off().await.len(), 100);
    hand.enqueue(1, 300).await;
    hand.next_generation().await;
    client.batch_execute("ALTER TABLE queue.q DETACH PARTITION host.q__message_0").await.unwrap();
    hand.enqueue(301, 310).await;
    assert_eq!(hand.work_off().await, (301..=310).collect::<Vec<_>>());
    client
        .batch_execute("ALTER TABLE queue.q ATTACH PARTITION host.q__message_0 FOR VALUES IN (0)")
        .await
        .unwrap();
    assert!(hand.truncate(0).await.unwrap().contains("never leased 300 of its messages"));
    assert_eq!(value::<i64>(&client, "SELECT host.q__deliver_missed()").await, 300);
    assert_eq!(hand.work_off().await, (1..=300).collect::<Vec<_>>());
    assert_eq!(hand.truncate(0).await, None);
}

#[tokio::test]
async fn a_message_that_comes_while_they_are_counted_is_not_overlooked() {
    let (db, client, hand) = queue("").await;
    let late = db.client().await;
    late.batch_execute("BEGIN").await.unwrap();
    let id: i64 = value(&late, "SELECT nextval('queue.q_id_seq')").await;
    hand.enqueue(1, 300).await;
    hand.next_generation().await;
    hand.work_off().await;
    assert_eq!(
        value::<Option<String>>(&client, "SELECT why FROM host.q__count('message', 0)").await,
        None
    );
    let counted = "SELECT messages FROM host.partition_count";
    assert_eq!(value::<i64>(&client, counted).await, 300);
    let insert = format!(
        "INSERT INTO queue.q (id, payload) OVERRIDING SYSTEM VALUE VALUES ({id}, '-1'); COMMIT"
    );
    late.batch_execute(&insert).await.unwrap();
    assert_eq!(hand.work_off().await, [-1]);
    assert_eq!(
        value::<Option<String>>(&client, "SELECT why FROM host.q__count('message', 0)").await,
        None
    );
    assert_eq!(value::<i64>(&client, counted).await, 301);
    assert_eq!(hand.truncate(0).await, None);
    assert_eq!(value::<i64>(&client, "SELECT count(*) FROM host.partition_count").await, 0);
}

/// A host's role that row-level security hides messages from leases nothing, and says why.
#[tokio::test]
async fn row_level_security_is_refused_loudly_and_loses_nothing() {
    let (db, client, hand) = queue("").await;
    let member = db.as_member_of("host_serve").await;
    let host = SqlHost::new(&member, "q", hand.handler).await;
    hand.enqueue(1, 300).await;
    for table in ["queue.q", "host.q__lease", "host.q__promotion", "host.q__schedule"] {
        let on = format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY");
        for hide in [on, format!("CREATE POLICY nothing ON {table} USING (false)")] {
            client.batch_execute(&hide).await.unwrap();
            let asked = match table {
                "queue.q" | "host.q__lease" => host.try_lease(10, 1 << 40).await.map(|_| ()),
                _ => host.query("SELECT host.{q}__promote(10)", &[]).await.map(|_| ()),
            };
            assert_eq!(sqlstate(asked), "42501", "{hide}");
            let found = db.host(&["doctor"]).await.stdout;
            assert!(found.contains("row-level security is on for "), "{found}");
        }
        let off = format!(
            "DROP POLICY nothing ON {table}; ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"
        );
        client.batch_execute(&off).await.unwrap();
    }
    assert_eq!(host.work_off().await, (1..=300).collect::<Vec<_>>());
    client.batch_execute("ALTER TABLE host.q__schedule ENABLE ROW LEVEL SECURITY").await.unwrap();
    let serving = member.serve(&["--name", "host"]);
    serving.wait_for_log("ALTER ROLE … BYPASSRLS").await;
    // No function of a queue can be shown less than there is without an error.
    let others = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'host'::regnamespace AND starts_with(proname, 'q__')
        AND prorettype <> 'trigger'::regtype AND NOT coalesce(proconfig @> '{row_security=off}', false)";
    assert_eq!(value::<i64>(&client, others).await, 0);
}

/// Every way to write what the system sets, by the owner and superuser.
#[tokio::test]
async fn rows_that_claim_another_transaction_or_no_id_are_refused() {
    let (_db, client, hand) = queue("").await;
    hand.enqueue(1, 100).await;
    hand.work_off().await;
    client
        .batch_execute(
            "CREATE TEMP TABLE old AS SELECT * FROM queue.q;
             INSERT INTO host.q__schedule (due, slot, origin, enqueued_at, attempt, payload)
                 VALUES (now(), 0, 1, now(), 1, '1');
             CREATE TEMP TABLE scheduled AS SELECT * FROM host.q__schedule",
        )
        .await
        .unwrap();
    let row = client.query_one("SELECT id, txid FROM queue.q LIMIT 1", &[]).await.unwrap();
    let (id, txid): (i64, i64) = (row.get(0), row.get(1));
    for role in ["origin", "replica"] {
        client.batch_execute(&format!("SET session_replication_role = {role}")).await.unwrap();
        for sql in [
            "INSERT INTO queue.q OVERRIDING SYSTEM VALUE SELECT * FROM old",
            "INSERT INTO host.q__message_0 OVERRIDING SYSTEM VALUE SELECT * FROM old",
            "INSERT INTO queue.q (txid, payload) VALUES (1, '1')",
            "INSERT INTO queue.q (id, payload) OVERRIDING SYSTEM VALUE VALUES (0, '1')",
            "INSERT INTO queue.q (id, payload) OVERRIDING SYSTEM VALUE VALUES (-7, '1')",
            "INSERT INTO host.q__schedule OVERRIDING SYSTEM VALUE SELECT * FROM scheduled",
        ] {
            assert_eq!(sqlstate(client.execute(sql, &[]).await), "23514", "{role}: {sql}");
        }
        let sink = client.copy_in::<_, Bytes>("COPY queue.q (id, txid, payload) FROM STDIN").await;
        let mut sink = std::pin::pin!(sink.unwrap());
        sink.send(format!("{id}\t{txid}\t1\n").into()).await.unwrap();
        let error = sink.finish().await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert!(error.message().contains(&format!("id {id} and txid {txid}")), "{error}");
        assert!(error.hint().unwrap().starts_with("copy only the columns payload"), "{error:?}");
        for sql in [
            "UPDATE queue.q SET txid = 1",
            "DELETE FROM queue.q",
            "TRUNCATE queue.q",
            "UPDATE host.q__message_0 SET txid = 1",
            "DELETE FROM host.q__message_0",
        ] {
            let error = client.execute(sql, &[]).await.unwrap_err();
            let error = error.as_db_error().unwrap().message();
            assert!(error.contains("messages are only ever inserted"), "{role}: {sql}: {error}");
        }
    }
    client.batch_execute("RESET session_replication_role").await.unwrap();
    // What a producer may give is copied as ever.
    let copy =
        "INSERT INTO queue.q (payload, headers, run_at) SELECT payload, headers, run_at FROM old";
    assert_eq!(client.execute(copy, &[]).await.unwrap(), 100);
    assert_eq!(hand.work_off().await.len(), 100);
    // A copy that is being loaded takes the rows as they were.
    client.batch_execute("UPDATE host.cluster SET system_identifier = 1").await.unwrap();
    let load = "INSERT INTO queue.q OVERRIDING SYSTEM VALUE SELECT * FROM old";
    assert_eq!(client.execute(load, &[]).await.unwrap(), 100);
}
