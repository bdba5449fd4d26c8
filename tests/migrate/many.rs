//! Migrating more queues than a server has locks for.

use tokio_postgres::Client;

use super::old::{migrate_as_then, version_13};
use crate::harness::postgres::OwnServer;
use crate::harness::server::{connect, scratch_dir};
use crate::harness::sql_host::value;
use crate::harness::{Deployment, Scene, SqlHost};

/// A third of the locks that Postgres has room for by default.
const ROOM: [(&str, &str); 2] = [("max_connections", "100"), ("max_locks_per_transaction", "21")];
/// In one transaction, these have more tables than there is room for, as 300 have by default.
const QUEUES: usize = 100;

/// Makes queues without any message, on several connections.
async fn make_queues(url: &str) {
    let made = (0..4).map(async |part| {
        let client = connect(url).await;
        client
            .batch_execute("SET check_function_bodies = off; SET synchronous_commit = off")
            .await
            .unwrap();
        for n in (part..QUEUES).step_by(4) {
            client.batch_execute(&format!("SELECT host.create_queue('n{n}')")).await.unwrap();
        }
    });
    futures_util::future::join_all(made).await;
}

/// A message that says its name on the queue `sink` when it is handled, once.
fn says(name: &str) -> String {
    format!(r#"{{"do": "enqueue", "n": 1, "queue": "sink", "text": "{name}"}}"#)
}

async fn insert(client: &Client, queue: &str, columns: &str, values: &str) {
    let sql = format!("INSERT INTO queue.{queue} (payload{columns}) VALUES {values}");
    client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_queues_than_locks_are_upgraded_with_what_is_in_them() {
    let server = OwnServer::start(&scratch_dir(), &ROOM).await;
    migrate_as_then(&connect(server.url()).await, &version_13()).await;
    make_queues(server.url()).await;
    let scene = server.scene().await;
    let client = &scene.client;
    for (queue, settings) in [
        ("plain", ""),
        ("ordered", "p_ordered_lanes => 4"),
        ("kept", "p_keep_ms => 3600000"),
        ("keys", ""),
        ("sink", "p_payload_type => 'text'"),
    ] {
        scene.queue(queue, settings).await;
    }
    scene.run("SELECT host.set_unique('keys', 3600000, 'drop')").await;
    for queue in ["plain", "ordered", "kept", "keys"] {
        scene.deploy(queue, "misbehave", Deployment::default()).await;
    }
    let handler = async |queue: &str| {
        let sql = format!(
            "SELECT h.id FROM host.handler h JOIN host.queue q ON q.id = h.queue_id WHERE q.name = '{queue}'"
        );
        value::<i32>(client, &sql).await
    };
    let mut wanted = Vec::new();
    let mut say = |name: &str| {
        wanted.push(name.to_owned());
        says(name)
    };
    // Waiting, due later, on the schedule, given up on.
    insert(client, "plain", "", &format!("('{}'), ('{}')", says("dead"), say("parked"))).await;
    let hand = SqlHost::new(&scene.db, "plain", handler("plain").await).await;
    let held = hand.must_lease(10).await;
    let fates = ", p_dead_pos => '{0}', p_dead_reason => '{tired}', p_dead_entry => ARRAY['{\"error\": \"no\"}'::jsonb],
        p_retry_pos => '{1}', p_retry_delay_ms => '{5000}', p_retry_entry => ARRAY['{\"error\": \"no\"}'::jsonb]";
    assert!(hand.settle(&held, 0, "{[0,2)}", fates).await.unwrap());
    insert(client, "plain", ", run_at", &format!("('{}', now() + interval '5 s')", say("later")))
        .await;
    insert(client, "plain", "", &format!("('{}')", say("waiting"))).await;
    // Settled and kept, in flight and kept.
    insert(client, "kept", "", &format!("('{}')", says("settled"))).await;
    let keeper = SqlHost::new(&scene.db, "kept", handler("kept").await).await;
    keeper.ack(&keeper.must_lease(1).await).await;
    insert(client, "kept", "", &format!("('{}')", say("in flight"))).await;
    keeper.must_lease(1).await;
    // In flight, with a key that is taken.
    insert(client, "keys", ", unique_key", &format!("('{}', 'k')", say("key"))).await;
    let taker = SqlHost::new(&scene.db, "keys", handler("keys").await).await;
    taker.must_lease(1).await;
    for n in 0..8 {
        let value =
            format!("('{}', 'a'), ('{}', 'b')", say(&format!("a{n}")), say(&format!("b{n}")));
        insert(client, "ordered", ", key", &value).await;
    }

    let text = scene.db.host(&["migrate"]).await.ok();
    assert!(text.starts_with("Migrated from version 13 to "), "{text}");
    let text = scene.db.host(&["migrate"]).await.ok();
    assert!(text.starts_with("Nothing to do"), "{text}");
    assert_eq!(scene.number("SELECT count(*) FROM host.migration_queues()").await, 0);
    let damage = "SELECT count(*) FROM (SELECT count(DISTINCT md5) FROM (
            SELECT queue, md5(string_agg(line, ',' ORDER BY line)) AS md5 FROM host.shape()
            WHERE queue ~ '^n[0-9]+$' GROUP BY queue) s HAVING count(DISTINCT md5) <> 1) x";
    assert_eq!(scene.number(damage).await, 0, "all are alike");
    assert_eq!(scene.number("SELECT count(*) FROM host.changed_functions()").await, 0);

    // Their sessions end as those of hosts that are replaced do.
    for hand in [&hand, &keeper, &taker] {
        hand.end(false).await;
    }
    insert(client, "keys", ", unique_key", &format!("('{}', 'k')", says("duplicate"))).await;
    let host = scene.serve("new", &[]);
    scene.wait_number("SELECT count(*) FROM queue.sink", wanted.len() as i64).await;
    for queue in ["plain", "ordered", "kept", "keys"] {
        scene.wait_done(queue).await;
    }
    wanted.sort();
    let mut said = scene.texts("SELECT payload FROM queue.sink").await;
    for key in ["a", "b"] {
        let order: Vec<_> =
            said.iter().filter(|text| text.len() == 2 && text.starts_with(key)).collect();
        assert!(order.is_sorted(), "{said:?}");
    }
    said.sort();
    assert_eq!(said, wanted);
    assert_eq!(scene.texts("SELECT reason FROM host.plain__dead_letter").await, ["tired"]);
    assert_eq!(scene.number("SELECT count(*) FROM host.kept__history").await, 2);
    assert!(host.terminate().await.success());

    for args in [
        &["queue", "list"][..],
        &["status"],
        &["handlers"],
        &["cron", "list"],
        &["queue", "create", "another"],
        &["queue", "drop", "another"],
    ] {
        scene.db.host(args).await.ok();
    }
    // What a restore into a cluster without the group roles leaves.
    scene.run("DROP OWNED BY host_producer, host_operator, host_serve").await;
    let text = scene.db.host(&["migrate"]).await.ok();
    assert!(text.contains("corrected what roles may do"), "{text}");
    assert_eq!(scene.number("SELECT count(*) FROM host.missing_privileges()").await, 0);
    assert_eq!(scene.number("SELECT count(*) FROM host.excess_privileges()").await, 0);
}

/// The room for locks that is left is less than one queue needs: the error names the setting, and
/// its value.
#[tokio::test]
async fn a_server_with_too_little_room_for_locks_is_told_how_much_it_needs() {
    let few = [
        ("max_locks_per_transaction", "10"),
        ("max_connections", "20"),
        ("max_wal_senders", "0"),
        ("max_worker_processes", "1"),
    ];
    let server = OwnServer::start(&scratch_dir(), &few).await;
    let scene: Scene = server.migrated().await;
    scene.queue("q", "").await;
    scene.run("UPDATE host.migration_functions SET sha256 = ''; ALTER TABLE queue.q DISABLE TRIGGER wake").await;
    // As many as there are, but for some.
    let mut hog = scene.db.client().await;
    let hog = hog.transaction().await.unwrap();
    let take = "DO $$ BEGIN FOR n IN 1..100000 LOOP PERFORM pg_advisory_lock(n); END LOOP;
        EXCEPTION WHEN out_of_memory THEN NULL; END $$;
        SELECT pg_advisory_unlock(n) FROM generate_series(1, 10) n";
    hog.batch_execute(take).await.unwrap();
    let text = scene.db.host(&["migrate"]).await.error(1);
    assert!(text.contains("set max_locks_per_transaction = "), "{text}");
    assert!(text.contains("(it is 10)"), "{text}");
}
