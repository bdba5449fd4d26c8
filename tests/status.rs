//! `host status`: for people, for machines, for psql.

use serde_json::{Value, json};

use crate::harness::sql_host::{ROTATES_ALWAYS, create_queue, deploy};
use crate::harness::{SqlHost, TestDb, plugin};

#[tokio::test]
async fn an_empty_database_says_what_to_do() {
    let db = TestDb::new().await;
    insta::assert_snapshot!(db.host(&["status"]).await.ok());
}

#[tokio::test]
async fn it_counts_what_waits_is_in_flight_settled_scheduled_and_dead() {
    let db = TestDb::new().await;
    for queue in ["emails", "outbox"] {
        db.host(&["queue", "create", queue]).await.ok();
    }
    let client = db.client().await;
    let insert = "INSERT INTO queue.emails (payload) SELECT '1' FROM generate_series(1, 10)";
    client.batch_execute(insert).await.unwrap();
    let status = async || -> Value {
        let text = db.host(&["status", "--json"]).await.ok();
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    assert_eq!(status().await["queues"][0]["waiting"], 10, "without a handler all of them wait");

    let echo = plugin("echo").display().to_string();
    db.host(&["deploy", "--queue", "emails", &echo, "--no-wait"]).await.ok();
    assert_eq!(status().await["queues"][0]["waiting"], 10);

    // As a host: lease 6 and settle 4 of them. One of these is retried, one is dead.
    let session: i32 = client
        .query_one("SELECT host.begin_session('machine', 7, '0.1.0')", &[])
        .await
        .unwrap()
        .get(0);
    let beat = "SELECT count(*) FROM host.beat($1, 1)";
    client.query_one(beat, &[&session]).await.unwrap();
    let lease = "SELECT lease_id FROM host.emails__lease((SELECT id FROM host.handler), $1, 1,
        '00000000-0000-0000-0000-000000000001', 6, 1000000)";
    let lease: i64 = client.query_one(lease, &[&session]).await.unwrap().get(0);
    let settle = r#"SELECT host.emails__settle($1, $2, '00000000-0000-0000-0000-000000000001', 0, '{[0,4)}',
        ARRAY[1], ARRAY[60000::bigint], ARRAY['{"error": "busy"}'::jsonb], NULL,
        ARRAY[2], ARRAY['rejected'], ARRAY['{"error": "no"}'::jsonb])"#;
    client.query_one(settle, &[&lease, &session]).await.unwrap();
    db.host(&["queue", "pause", "outbox"]).await.ok();

    let json = status().await;
    let mut emails = json["queues"][0].clone();
    assert!(emails["bytes"].take().as_u64().unwrap() > 100_000);
    assert_eq!(
        emails,
        json!({
            "name": "emails", "paused": false, "locked": false, "waiting": 4, "in_flight": 2, "scheduled": 1, "dead": 1,
            "settled_last_minute": 4, "bytes": null, "handlers": ["default v1"], "held_up_by": [],
            "lag": [{"handler": "default", "version": 1, "paused": false, "waiting": 4, "in_flight": 2, "limited": null, "refused": 0}],
        })
    );
    assert_eq!(json["queues"][1]["paused"], true);
    assert_eq!(json["handlers"][0]["version"], 1);
    assert_eq!(
        (&json["hosts"][0]["host"], &json["hosts"][0]["pid"]),
        (&json!("machine"), &json!(7))
    );
    assert_eq!(json["hosts"][0]["connected"], true);
    assert!(json["hosts"][0]["beat_age_ms"].as_u64().is_some());

    let text = db.host(&["status"]).await.ok();
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    insta::with_settings!({filters => vec![
        (r"\d+\.\d [KM]iB", "[size]"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "[time]"),
        (r"(\d+m?s ?)+ ago", "[age]"),
    ]}, {
        insta::assert_snapshot!(text);
    });
    // For psql.
    let row = client.query_one("SELECT waiting, in_flight FROM host.status() LIMIT 1", &[]).await;
    let row = row.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (4, 2));

    let text = db.host(&["queue", "drop", "emails"]).await.error(1);
    assert!(text.contains("4 waiting, 2 in flight, 1 scheduled, 1 dead"), "{text}");
}

async fn queue_of(db: &TestDb, name: &str) -> Value {
    let text = db.host(&["status", "--json"]).await.ok();
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let queues = json["queues"].as_array().expect("queues").clone();
    queues.into_iter().find(|queue| queue["name"] == name).expect("the queue")
}

#[tokio::test]
async fn what_is_due_later_does_not_wait_and_what_is_parked_is_not_done() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", "").await;
    let insert =
        "INSERT INTO queue.q (payload, run_at) SELECT '1', now() + interval '1 day' * (g % 2)
        FROM generate_series(1, 6) g";
    client.batch_execute(insert).await.unwrap();
    let numbers = async || {
        let q = queue_of(&db, "q").await;
        ["waiting", "in_flight", "scheduled", "settled_last_minute"]
            .map(|key| q[key].as_i64().unwrap())
    };
    assert_eq!(numbers().await, [3, 0, 3, 0], "without a handler");
    let handler = deploy(&client, "q", "default").await;
    let hand = SqlHost::new(&db, "q", handler).await;
    assert_eq!(numbers().await, [3, 0, 3, 0], "without a host");
    let lease = hand.must_lease(6).await;
    assert_eq!(numbers().await, [0, 6, 0, 0]);
    hand.settle(&lease, 0, "{[0,6)}", ", p_park_pos => '{0,2,4}'").await.unwrap();
    assert_eq!(numbers().await, [0, 0, 3, 3]);
    let text = db.host(&["message", "q", "1"]).await.ok();
    assert_eq!(text.matches("  settled").count(), 0, "{text}");
    assert_eq!(text.matches("not due yet: put on the schedule").count(), 1, "{text}");
    let text = db.host(&["message", "q", "2"]).await.ok();
    assert_eq!(text.matches("attempt 1  settled").count(), 1, "{text}");
}

#[tokio::test]
async fn a_queue_that_rotates_fast_counts_all_of_the_last_minute() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", ROTATES_ALWAYS).await;
    let handler = deploy(&client, "q", "default").await;
    let other = deploy(&client, "q", "other").await;
    let hand = SqlHost::new(&db, "q", handler).await;
    let beside = SqlHost::new(&db, "q", other).await;
    let settled = async || queue_of(&db, "q").await["settled_last_minute"].as_i64().unwrap();
    for turn in 1..=4 {
        let leaf =
            hand.value("SELECT (last_value / 100000000000 % 3)::int FROM queue.{q}_id_seq").await;
        hand.enqueue(1, 300).await;
        hand.work_off().await;
        beside.work_off().await;
        hand.next_generation().await;
        // The cursors have been carried into the next one.
        assert_eq!(hand.truncate(leaf).await, None);
        assert_eq!(settled().await, turn * 600);
    }
    // What is older is forgotten.
    client
        .batch_execute("UPDATE host.pace SET settled_at = settled_at - interval '2 minutes'")
        .await
        .unwrap();
    assert_eq!(settled().await, 0);
}
