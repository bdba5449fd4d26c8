//! Unique keys: one message a key, for a time and until it is settled, whoever enqueues, retries,
//! dies or rotates.

use futures_util::SinkExt as _;
use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::harness::sql_host::{
    ROTATES_ALWAYS, backend, create_queue, deploy, sqlstate, value, wait_for_lock,
};
use crate::harness::{Deployment, Scene, SqlHost, TestDb};

/// A database with the queue `q`, whose keys are taken for so many milliseconds at least.
async fn queue(window_ms: i64) -> (TestDb, Client) {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", ROTATES_ALWAYS).await;
    set(&client, window_ms, "drop").await;
    (db, client)
}

async fn set(client: &Client, window_ms: i64, on_duplicate: &str) {
    let call = "SELECT host.set_unique('q', $1, $2)";
    client.execute(call, &[&window_ms, &on_duplicate]).await.unwrap();
}

const INSERT: &str = "INSERT INTO queue.q (payload, unique_key) VALUES ('1', $1)";

/// Whether a message with that key is enqueued.
async fn takes(client: &Client, key: &str) -> bool {
    client.execute(INSERT, &[&key]).await.unwrap() == 1
}

const HOUR_MS: i64 = 3_600_000;

#[tokio::test]
async fn a_key_is_taken_once_by_every_kind_of_insert() {
    let (_db, client) = queue(HOUR_MS).await;
    let insert = "INSERT INTO queue.q (payload, unique_key)";
    let several =
        format!("{insert} VALUES ('1', 'a'), ('2', 'b'), ('3', 'a'), ('4', NULL) RETURNING id");
    let ids: Vec<i64> =
        client.query(&several, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(ids, [1, 2, 4], "the duplicate in the same statement is left out");
    let select = format!(
        "{insert} SELECT '5', n::text FROM generate_series(1, 10) n, (VALUES (1), (2)) twice"
    );
    assert_eq!(client.execute(&select, &[]).await.unwrap(), 10);
    let sink = client
        .copy_in::<_, bytes::Bytes>("COPY queue.q (payload, unique_key) FROM STDIN")
        .await
        .unwrap();
    let mut sink = std::pin::pin!(sink);
    sink.send("6\tb\n7\tc\n8\tc\n9\t\\N\n".into()).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 2);
    assert_eq!(value::<i64>(&client, "SELECT count(*) FROM queue.q").await, 3 + 10 + 2);
    assert_eq!(value::<i64>(&client, "SELECT count(unique_key) FROM queue.q").await, 0);
    let holder = "SELECT message_id FROM host.q__unique WHERE key = 'b'";
    assert_eq!(value::<i64>(&client, holder).await, 2);
}

#[tokio::test]
async fn of_two_producers_with_one_key_the_second_waits_for_the_first() {
    let (db, first) = queue(HOUR_MS).await;
    let (second, watcher) = (db.client().await, db.client().await);
    let pid = backend(&second).await;
    for (end, enqueued) in [("ROLLBACK", true), ("COMMIT", false)] {
        first.batch_execute("BEGIN").await.unwrap();
        assert!(takes(&first, end).await);
        let ends = async {
            wait_for_lock(&watcher, pid).await;
            first.batch_execute(end).await.unwrap();
        };
        let (got, ()) = join(takes(&second, end), ends).await;
        assert_eq!(got, enqueued, "{end}");
    }
    assert_eq!(value::<i64>(&watcher, "SELECT count(*) FROM queue.q").await, 2);
}

#[tokio::test]
async fn of_many_producers_with_one_key_one_enqueues() {
    let (db, client) = queue(0).await;
    let hand = SqlHost::new(&db, "q", deploy(&client, "q", "default").await).await;
    let producers = join_all((0..12).map(|_| db.client())).await;
    for round in 0..10 {
        // Every other time it was taken before, and is free again.
        let key = format!("k{}", round / 2);
        let all = join_all(producers.iter().map(|client| takes(client, &key))).await;
        assert_eq!(all.iter().filter(|enqueued| **enqueued).count(), 1, "{key} in round {round}");
        assert_eq!(hand.work_off().await.len(), 1);
    }
}

#[tokio::test]
async fn a_key_is_taken_until_its_message_is_settled_however_it_comes_to_that() {
    let (db, client) = queue(0).await;
    let hand = SqlHost::new(&db, "q", deploy(&client, "q", "default").await).await;
    let entry = r#"ARRAY['{"error": "no"}']::jsonb[]"#;
    let retry = format!(", ARRAY[0], ARRAY[0::bigint], {entry}");
    for (end, arguments) in [
        ("acked", String::new()),
        (
            "dead",
            format!(
                ", p_dead_pos => ARRAY[0], p_dead_reason => ARRAY['rejected'], p_dead_entry => {entry}"
            ),
        ),
        ("removed", ", p_removed => '{[0,1)}'".to_owned()),
    ] {
        assert!(takes(&client, end).await, "{end}");
        assert!(!takes(&client, end).await, "{end}: while it waits");
        let held = hand.must_lease(10).await;
        assert!(!takes(&client, end).await, "{end}: in flight");
        assert!(hand.settle(&held, 0, "{[0,1)}", &retry).await.unwrap());
        assert!(!takes(&client, end).await, "{end}: on the schedule");
        assert_eq!(hand.value::<i32>("SELECT promoted FROM host.{q}__promote(10)").await, 1);
        assert!(!takes(&client, end).await, "{end}: back on the queue");
        let held = hand.must_lease(10).await;
        assert!(hand.settle(&held, 0, "{[0,1)}", &arguments).await.unwrap());
        assert!(takes(&client, end).await, "{end}");
        hand.work_off().await;
    }
    // Retried by an operator, the dead letter runs beside the message that has its key now.
    assert!(takes(&client, "dead").await);
    assert_eq!(hand.value::<i64>("SELECT host.{q}__dead_retry(NULL, NULL)").await, 1);
    assert_eq!(hand.work_off().await.len(), 2);
}

#[tokio::test]
async fn what_is_not_due_yet_or_goes_down_with_its_hosts_keeps_its_key() {
    let (db, client) = queue(0).await;
    let hand = SqlHost::new(&db, "q", deploy(&client, "q", "default").await).await;
    let insert = "INSERT INTO queue.q (payload, unique_key, run_at) VALUES ('1', 'later', now() + interval '1 h')";
    client.execute(insert, &[]).await.unwrap();
    let held = hand.must_lease(10).await;
    assert!(hand.settle(&held, 0, "{[0,1)}", ", p_park_pos => ARRAY[0]").await.unwrap());
    assert!(!takes(&client, "later").await);

    assert!(takes(&client, "poison").await);
    let mut lease = hand.must_lease(10).await.id;
    let mut host = SqlHost::new(&db, "q", hand.handler).await;
    hand.end(true).await;
    // It is given up on when it has taken too many hosts with it.
    while let Some(held) = host.take_over(lease, 10).await.unwrap() {
        assert!(!takes(&client, "poison").await);
        let next = SqlHost::new(&db, "q", host.handler).await;
        host.end(true).await;
        (lease, host) = (held.id, next);
    }
    assert_eq!(value::<i64>(&client, "SELECT count(*) FROM host.q__dead_letter").await, 1);
    assert!(takes(&client, "poison").await);
}

#[tokio::test]
async fn a_window_outlasts_the_settlement_and_the_generation() {
    let (db, client) = queue(HOUR_MS).await;
    let hand = SqlHost::new(&db, "q", deploy(&client, "q", "default").await).await;
    assert!(takes(&client, "k").await);
    client
        .execute("INSERT INTO queue.q (payload) SELECT '1' FROM generate_series(1, 500)", &[])
        .await
        .unwrap();
    hand.work_off().await;
    hand.next_generation().await;
    assert_eq!(hand.truncate(0).await, None);
    assert_eq!(value::<i64>(&client, "SELECT count(*) FROM queue.q").await, 0);
    assert_eq!(forgotten(&client, 100).await, 0);
    assert!(!takes(&client, "k").await);
    client
        .execute("UPDATE host.q__unique SET taken_at = taken_at - interval '1 h'", &[])
        .await
        .unwrap();
    assert!(takes(&client, "k").await);
    assert!(!takes(&client, "k").await, "a new window");
}

async fn forgotten(client: &Client, n: i32) -> i32 {
    client.query_one("SELECT host.q__forget_keys($1)", &[&n]).await.unwrap().get(0)
}

#[tokio::test]
async fn only_free_keys_are_forgotten_a_portion_at_a_time() {
    let (db, client) = queue(HOUR_MS).await;
    let hand = SqlHost::new(&db, "q", deploy(&client, "q", "default").await).await;
    for key in ["a", "b", "c"] {
        assert!(takes(&client, key).await);
    }
    hand.work_off().await;
    client
        .execute("UPDATE host.q__unique SET taken_at = taken_at - interval '1 h'", &[])
        .await
        .unwrap();
    assert!(takes(&client, "young").await);
    hand.work_off().await;
    assert!(takes(&client, "waits").await);
    let age = "UPDATE host.q__unique SET taken_at = taken_at - interval '1 h' WHERE key = 'waits'";
    client.execute(age, &[]).await.unwrap();
    assert_eq!(forgotten(&client, 2).await, 2);
    assert_eq!(forgotten(&client, 2).await, 1);
    assert_eq!(forgotten(&client, 2).await, 0);
    let left = "SELECT string_agg(key, ' ' ORDER BY key) FROM host.q__unique";
    assert_eq!(value::<String>(&client, left).await, "waits young");
    assert!(!takes(&client, "waits").await && takes(&client, "a").await);
}

#[tokio::test]
async fn every_handler_that_was_there_has_to_settle_it_and_one_that_goes_is_not_waited_for() {
    let (db, client) = queue(0).await;
    assert!(takes(&client, "first").await);
    let a = SqlHost::new(&db, "q", deploy(&client, "q", "a").await).await;
    let b = SqlHost::new(&db, "q", deploy(&client, "q", "b").await).await;
    assert!(takes(&client, "k").await);
    a.work_off().await;
    assert!(takes(&client, "first").await, "enqueued before there was any handler");
    assert!(!takes(&client, "k").await);
    let late = SqlHost::new(&db, "q", deploy(&client, "q", "late").await).await;
    b.work_off().await;
    assert!(takes(&client, "k").await, "the late one has it before it and does not keep the key");

    a.work_off().await;
    b.work_off().await;
    assert!(!takes(&client, "k").await);
    client.execute("SELECT host.remove_handler($1)", &[&late.handler]).await.unwrap();
    assert!(takes(&client, "k").await);

    // The last one goes with what it had.
    for hand in [a, b] {
        client.execute("SELECT host.remove_handler($1)", &[&hand.handler]).await.unwrap();
    }
    assert!(takes(&client, "k").await);
    assert!(!takes(&client, "k").await, "without a handler it waits");
    // One that begins with what comes will never settle what is there.
    client.batch_execute("BEGIN").await.unwrap();
    let now = deploy(&client, "q", "now").await;
    client.execute("SELECT host.begin_from_now($1)", &[&now]).await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    assert!(takes(&client, "k").await);
    assert!(!takes(&client, "k").await);
}

#[tokio::test]
async fn a_snapshot_from_before_a_key_was_taken_is_a_serialization_failure() {
    let (db, client) = queue(HOUR_MS).await;
    let other = db.client().await;
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        other.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT 1")).await.unwrap();
        assert!(takes(&client, level).await);
        assert_eq!(sqlstate(other.execute(INSERT, &[&level]).await), "40001");
        other.batch_execute("ROLLBACK").await.unwrap();
        other.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}")).await.unwrap();
        assert!(!takes(&other, level).await, "a newer snapshot has it");
        assert!(takes(&other, "mine").await && !takes(&other, "mine").await);
        other.batch_execute("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn duplicates_are_refused_if_the_queue_says_so_and_any_key_where_it_takes_none() {
    let (_db, client) = queue(HOUR_MS).await;
    set(&client, HOUR_MS, "refuse").await;
    assert!(takes(&client, "k").await);
    let error = client.execute(INSERT, &[&"k"]).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!((error.code().code(), error.constraint()), ("23505", Some("unique_key")));
    assert_eq!(error.message(), "unique_key \"k\" is taken by message 1 of queue \"q\"");
    assert!(error.hint().unwrap().contains("host queue set q --on-duplicate drop"));
    for key in [String::new(), "x".repeat(513)] {
        assert_eq!(sqlstate(client.execute(INSERT, &[&key]).await), "23514");
    }
    assert!(takes(&client, &"x".repeat(512)).await);

    let triggers = "SELECT count(*) FROM pg_trigger WHERE tgname = 'take_key' AND tgrelid = 'queue.q'::regclass";
    assert_eq!(value::<i64>(&client, triggers).await, 1);
    client.execute("SELECT host.set_unique('q', NULL)", &[]).await.unwrap();
    assert_eq!(value::<i64>(&client, triggers).await, 0, "nothing is left to slow others down");
    let error = client.execute(INSERT, &[&"k"]).await.unwrap_err();
    let constraint = error.as_db_error().unwrap().constraint();
    assert_eq!(constraint, Some("unique_key_is_for_queues_that_are_set_to_take_it"));
    set(&client, HOUR_MS, "drop").await;
    assert!(takes(&client, "k").await, "all keys were forgotten");
}

#[tokio::test]
async fn the_commands_say_what_became_of_a_message() {
    let db = TestDb::new().await;
    let ok = async |args: &[&str]| db.host(args).await.ok();
    ok(&["queue", "create", "plain"]).await;
    let text = db.host(&["enqueue", "plain", "1", "--unique-key", "k"]).await.error(1);
    assert!(text.contains("host queue set plain --unique 1h"), "{text}");
    ok(&["queue", "create", "q", "--unique", "90m"]).await;
    let json: Value = serde_json::from_str(&ok(&["queue", "list", "--json"]).await).unwrap();
    assert_eq!(
        (&json[1]["unique_ms"], &json[1]["on_duplicate"]),
        (&json!(5_400_000), &json!("drop"))
    );
    assert_eq!((&json[0]["unique_ms"], &json[0]["on_duplicate"]), (&Value::Null, &Value::Null));

    let enqueue = ["enqueue", "q", "1", "--unique-key", "k"];
    assert_eq!(ok(&enqueue).await, "1\n");
    assert_eq!(ok(&enqueue).await, "Dropped: a duplicate of message 1\n");
    let with_json = [&enqueue[..], &["--json"]].concat();
    assert_eq!(ok(&with_json).await, "{\"duplicate_of\":\"1\",\"id\":null}\n");
    let said = ok(&["queue", "set", "q", "--on-duplicate", "refuse"]).await;
    let how = "taken for 1h 30m and until the message is settled, duplicates are refused";
    assert_eq!(said, "Changed queue q:\n  on-duplicate  drop -> refuse\n");
    assert!(ok(&["queue", "show", "q"]).await.contains(how));
    let text = db.host(&enqueue).await.error(1);
    assert!(text.starts_with("unique_key \"k\" is taken by message 1 of queue \"q\""), "{text}");
    ok(&["queue", "set", "q", "--unique", "off"]).await;
    db.host(&enqueue).await.error(1);
    for wrong in [
        &["enqueue", "q", "--file", "/dev/null", "--unique-key", "k"][..],
        &["queue", "set", "q"],
        &["queue", "set", "q", "--unique", "366days"],
        &["queue", "set", "q", "--on-duplicate", "drop"],
        &["queue", "set", "q", "--unique", "1h", "--on-duplicate", "keep"],
    ] {
        let code = if wrong[0] == "enqueue" { 1 } else { 2 };
        db.host(wrong).await.error(code);
    }
    ok(&["queue", "set", "q", "--unique", "0s"]).await;
    let text =
        db.host(&["enqueue", "q", "--file", "/dev/null", "--unique-key", "k"]).await.error(2);
    assert!(text.contains("one message"), "{text}");
}

#[tokio::test]
async fn a_producer_takes_keys_and_never_sees_the_register() {
    let (db, client) = queue(HOUR_MS).await;
    let producer = db.as_member_of("host_producer").await.client().await;
    assert!(takes(&producer, "k").await && !takes(&producer, "k").await);
    client.batch_execute("GRANT USAGE ON SCHEMA host TO host_producer").await.unwrap();
    for sql in [
        "SELECT key FROM host.q__unique",
        "INSERT INTO host.q__unique (key, message_id) VALUES ('mine', 1)",
        "UPDATE host.q__unique SET message_id = 0",
        "DELETE FROM host.q__unique",
        "SELECT host.q__release_keys(1, '{1}')",
        "SELECT host.q__forget_keys(1)",
        "SELECT host.q__take_key()",
        "SELECT host.set_unique('q', NULL)",
    ] {
        assert_eq!(sqlstate(producer.batch_execute(sql).await), "42501", "{sql}");
    }
}

/// With the rights that hosts have, which are not the owner's.
#[tokio::test]
async fn a_host_that_is_killed_leaves_the_key_with_the_retry_and_hosts_forget_it_in_the_end() {
    let scene = Scene::new("").await;
    scene.run("SELECT host.set_unique('work', 0)").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let serving = Scene::of(scene.db.as_member_of("host_serve").await).await;
    let insert = r#"INSERT INTO queue.work (payload, unique_key)
        VALUES ('{"do": "watch", "n": 1, "ms": 2000, "queue": "sink", "text": "done"}', 'k')"#;
    let enqueue = async || scene.client.execute(insert, &[]).await.unwrap();
    let first = serving.serve("first", &[]);
    assert_eq!(enqueue().await, 1);
    scene.wait_number("SELECT count(*) FROM host.work__schedule", 1).await;
    first.kill();
    assert_eq!(enqueue().await, 0, "the retry has it");
    let _second = serving.serve("second", &[]);
    scene.wait_done("work").await;
    assert_eq!(scene.number("SELECT count(*) FROM queue.sink").await, 1);
    scene.wait_number("SELECT count(*) FROM host.work__unique WHERE settled_by = '{}'", 0).await;
    assert_eq!(enqueue().await, 1);
    scene.wait_done("work").await;
    scene.wait_number("SELECT count(*) FROM host.work__unique", 0).await;
}
