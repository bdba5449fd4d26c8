//! Retries and deadlines: what a queue's policy and a message's `expires_at` make of failures.

use serde_json::Value;

use crate::harness::{Deployment, Scene, TestDb};

const DEAD: &str = "SELECT count(*) FROM host.work__dead_letter";

async fn scene(work: &str) -> Scene {
    let scene = Scene::new(work).await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    scene
}

/// The reason, attempt and history of the only dead letter.
async fn dead_letter(scene: &Scene) -> (String, i16, Vec<Value>) {
    let row = scene
        .client
        .query_one("SELECT reason, attempt, history FROM host.work__dead_letter", &[])
        .await
        .unwrap();
    let Value::Array(history) = row.get(2) else { panic!("a history is a list") };
    (row.get(0), row.get(1), history)
}

#[tokio::test]
async fn a_message_past_its_deadline_is_given_up_on_and_not_run() {
    let scene = scene("").await;
    scene
        .run(
            r#"INSERT INTO queue.work (payload, expires_at) VALUES
               ('{"do": "enqueue", "n": 1, "queue": "sink", "text": "late"}', now() - interval '1 s'),
               ('{"do": "enqueue", "n": 1, "queue": "sink", "text": "in time"}', now() + interval '1 h')"#,
        )
        .await;
    let _host = scene.serve("host", &[]);
    scene.wait_done("work").await;
    assert_eq!(scene.texts("SELECT payload FROM queue.sink").await, ["in time"]);
    let (reason, attempt, history) = dead_letter(&scene).await;
    assert_eq!((reason.as_str(), attempt, history.len()), ("expired", 1, 1));
    assert_eq!(history[0]["host"], "host");
    assert_eq!(history[0]["error"], "its deadline passed before it could run");
    assert_eq!(history[0]["started"], Value::Null);
}

#[tokio::test]
async fn a_retry_that_would_come_after_the_deadline_ends_at_the_deadline() {
    let scene = scene("p_delays_ms => '{3600000}'").await;
    let _host = scene.serve("host", &[]);
    scene.wait_loaded("work", 1, 1).await;
    scene
        .run(
            r#"INSERT INTO queue.work (payload, expires_at)
               VALUES ('{"do": "retry", "text": "busy"}', now() + interval '2 s')"#,
        )
        .await;
    scene.wait_number(DEAD, 1).await;
    let (reason, attempt, history) = dead_letter(&scene).await;
    assert_eq!((reason.as_str(), attempt, history.len()), ("expired", 2, 2));
    assert_eq!((&history[0]["error"], &history[0]["version"]), (&"busy".into(), &1.into()));
    let [started, at] = ["started", "at"].map(|key| history[0][key].as_str().unwrap().to_owned());
    assert!(started <= at, "{started} {at}");
}

#[tokio::test]
async fn a_scheduled_message_keeps_its_deadline() {
    let scene = scene("").await;
    let _host = scene.serve("host", &[]);
    scene.wait_loaded("work", 1, 1).await;
    scene
        .run(
            r#"INSERT INTO queue.work (payload, run_at, expires_at) VALUES
               ('{"do": "ack"}', now() + interval '1 h', now() + interval '1 s')"#,
        )
        .await;
    scene.wait_number(DEAD, 1).await;
    assert_eq!(dead_letter(&scene).await.0, "expired");
    scene.wait_done("work").await;
}

#[tokio::test]
async fn delays_are_kept_to_one_after_the_other() {
    let scene = scene("p_delays_ms => '{86400000,172800000}', p_max_attempts => 3").await;
    let _host = scene.serve("host", &[]);
    scene
        .run(r#"INSERT INTO queue.work (payload) VALUES ('{"do": "retry", "text": "busy"}')"#)
        .await;
    let due = "SELECT round(extract(epoch FROM due - now()) / 86400) FROM host.work__schedule";
    let scheduled = "SELECT count(*) FROM host.work__schedule";
    scene.wait_number(scheduled, 1).await;
    assert_eq!(scene.number(due).await, 1);
    // A day later, as if: the same message, on its second attempt.
    scene
        .run(
            "INSERT INTO queue.work (origin, handler_id, attempt, payload)
             SELECT origin, handler_id, 2, payload FROM host.work__schedule",
        )
        .await;
    scene.wait_number(scheduled, 2).await;
    assert_eq!(scene.number(&format!("{due} ORDER BY id DESC LIMIT 1")).await, 2);
}

#[tokio::test]
async fn a_queues_delays_are_checked_kept_and_shown() {
    let db = TestDb::new().await;
    let create = ["queue", "create", "calls", "--delays"];
    db.host(&[&create[..], &["5s,1m,10m"]].concat()).await.ok();
    let shown = db.host(&["queue", "show", "calls", "--json"]).await.ok();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["settings"]["delays_ms"], serde_json::json!([5_000, 60_000, 600_000]));
    let text = db.host(&["queue", "show", "calls"]).await.ok();
    assert!(text.contains("10, 5s, 1m, 10m apart"), "{text}");
    let years = db.host(&["queue", "create", "other", "--delays", "5s,3years"]).await.error(2);
    assert!(years.contains("is out of range"), "{years}");
    let both = [&create[..], &["5s", "--backoff", "1s"]].concat();
    assert!(db.host(&both).await.error(2).contains("--backoff"));
}

#[tokio::test]
async fn a_deadline_is_a_producers_to_give() {
    let scene = Scene::new("").await;
    scene.db.host(&["enqueue", "work", "1", "--expires-in", "5m"]).await.ok();
    let given = "SELECT count(*) FROM queue.work WHERE expires_at = enqueued_at + interval '5 min'";
    assert_eq!(scene.number(given).await, 1);
}
