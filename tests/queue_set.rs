//! Changing a queue that exists: hosts, producers and messages follow, and what cannot change says
//! why.

use serde_json::{Value, json};

use crate::harness::process::Finished;
use crate::harness::sql_host::{deploy, value};
use crate::harness::{Deployment, Scene, TestDb, wait_until};
use crate::queues::refused;

async fn set(db: &TestDb, args: &str) -> Finished {
    let args: Vec<&str> = ["queue", "set", "work"].into_iter().chain(args.split(' ')).collect();
    db.host(&args).await
}

async fn shown(db: &TestDb) -> Value {
    let text = db.host(&["queue", "show", "work", "--json"]).await.ok();
    serde_json::from_str::<Value>(&text).expect("JSON")["settings"].clone()
}

#[tokio::test]
async fn every_setting_changes_at_once_or_none_does() {
    let db = TestDb::new().await;
    db.host(&["queue", "create", "work"]).await.ok();
    let before = shown(&db).await;
    let said = set(
        &db,
        "--max-attempts 3 --delays 1s,1m --max-bytes 2MiB --rotate-size 8MiB --rotate-age 5m --keep 1d \
         --unique 1h --on-duplicate refuse --rate 10/1s --fleet-concurrency 4 --no-wake-up",
    )
    .await
    .ok();
    assert_eq!(
        said,
        "Changed queue work:
  max-bytes          1.0 MiB -> 2.0 MiB
  max-attempts       10 -> 3
  backoff            1s to 1h -> 1s, 1m
  rotate-size        64.0 MiB -> 8.0 MiB
  rotate-age         1m -> 5m
  keep               off -> 1day
  wake-up            on -> off
  unique             off -> 1h
  on-duplicate       off -> refuse
  fleet-concurrency  off -> 4
  rate               off -> 10/1s, burst 10\n"
    );
    let after = shown(&db).await;
    let kept = ["name", "payload_type", "order", "paused"];
    for (name, value) in after.as_object().unwrap() {
        assert_eq!(before[name] == *value, kept.contains(&name.as_str()), "{name}: {value}");
    }
    assert_eq!(set(&db, "--max-attempts 3").await.ok(), "Queue work: nothing to change\n");
    set(&db, "--max-attempts 9 --backoff 2h --backoff-cap 1h").await.error(2);
    // Neither by Postgres: the attempts go with the rest.
    let client = db.client().await;
    client.batch_execute("INSERT INTO queue.work (payload) VALUES ('1')").await.unwrap();
    let error = set(&db, "--max-attempts 9 --max-bytes 1KiB").await.error(1);
    assert!(error.contains("while it has messages: 1 waiting"), "{error}");
    assert_eq!(shown(&db).await, after);

    let said = set(&db, "--backoff-cap 2h").await.ok();
    assert_eq!(said, "Changed queue work:\n  backoff  1s, 1m -> 1s to 2h\n");
    let doctor = db.host(&["doctor"]).await.stdout;
    assert!(!doctor.contains("has changed"), "{doctor}");
}

#[tokio::test]
async fn the_largest_payload_grows_at_any_time_and_shrinks_when_empty() {
    for (kind, small, large) in [
        ("jsonb", "to_jsonb(repeat('a', 90))", "to_jsonb(repeat('a', 900))"),
        ("json", "to_json(repeat('a', 90))", "to_json(repeat('a', 900))"),
        ("text", "repeat('a', 90)", "repeat('a', 900)"),
        ("bytea", "repeat('a', 90)::bytea", "repeat('a', 900)::bytea"),
    ] {
        let db = TestDb::new().await;
        let client = db.client().await;
        db.host(&["queue", "create", "work", "--payload", kind, "--max-bytes", "100B"]).await.ok();
        deploy(&client, "work", "default").await;
        let insert = |payload| format!("INSERT INTO queue.work (payload) VALUES ({payload})");
        client.batch_execute(&insert(small)).await.unwrap();
        let (code, message, _) = refused(&client, &insert(large)).await;
        assert_eq!(code, "23514", "{kind}");
        assert!(message.contains("payload_is_at_most_100_bytes"), "{message}");
        set(&db, "--max-bytes 1000B").await.ok();
        client.batch_execute(&insert(large)).await.unwrap();
        let error = set(&db, "--max-bytes 100B").await.error(1);
        assert!(error.contains("cannot shrink from 1000 to 100 bytes"), "{error}");
        assert!(error.contains("lower the limit when the queue is empty"), "{error}");
        db.host(&["queue", "purge", "work", "--yes"]).await.ok();
        set(&db, "--max-bytes 100B").await.ok();
        refused(&client, &insert(large)).await;
        client.batch_execute(&insert(small)).await.unwrap();
        let doctor = db.host(&["doctor"]).await.stdout;
        assert!(!doctor.contains("has changed"), "{doctor}");
    }
}

#[tokio::test]
async fn a_running_host_follows_new_attempts_and_delays() {
    let scene = Scene::new("p_delays_ms => '{3600000}'").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let _host = scene.serve("host", &["--poll", "50ms"]);
    scene.wait_loaded("work", 1, 1).await;
    set(&scene.db, "--max-attempts 2 --delays 0s").await.ok();
    let dead = "SELECT count(*) FROM host.work__dead_letter WHERE attempt = 2";
    wait_until("a message dies of two attempts", async || {
        // The first ones may still meet the policy before.
        scene.run(r#"INSERT INTO queue.work (payload) VALUES ('{"do": "retry"}')"#).await;
        scene.number(dead).await > 0
    })
    .await;
}

#[tokio::test]
async fn what_cannot_change_says_what_to_do_instead() {
    let db = TestDb::new().await;
    db.host(&["queue", "create", "work"]).await.ok();
    for flag in ["--payload text", "--priorities", "--ordered", "--ordered=4", "--per-key"] {
        let error = set(&db, flag).await.error(2);
        let name = flag.split([' ', '=']).next().unwrap();
        assert!(
            error.starts_with(&format!("{name} cannot change once queue work exists")),
            "{error}"
        );
        assert!(error.contains(&format!("Create another queue with {name}")), "{error}");
    }
    let client = db.client().await;
    let both = "SELECT host.set_queue('work', p_backoff_base_ms => 1, p_delays_ms => '{1}')";
    let (code, message, hint) = refused(&client, both).await;
    assert_eq!(code, "22023", "{message}");
    assert!(hint.contains("p_delays_ms"), "{hint}");
    let (code, ..) = refused(&client, "SELECT host.set_queue('nothing')").await;
    assert_eq!(code, "HQ004");
    assert_eq!(value::<i32>(&client, "SELECT max_attempts FROM host.queue").await, 10);
    assert_eq!(shown(&db).await["delays_ms"], json!(null));
}
