//! Failing work is loud: in the log, in `host doctor` and in `host status`.

use host_core::health::failures::error_kind;
use serde_json::{Value, json};

use crate::harness::process::Serve;
use crate::harness::{Deployment, Scene, wait_until};

/// A scene whose handler does as messages say.
async fn scene(work: &str) -> Scene {
    let scene = Scene::new(work).await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    scene
}

/// Enqueues messages that fail in this way, each with a number of its own in its error.
async fn fail(scene: &Scene, how: &str, text: &str, n: i32) {
    let insert = "INSERT INTO queue.work (payload)
        SELECT jsonb_build_object('do', $1::text, 'text', $2::text || n) FROM generate_series(1, $3::int) n";
    scene.client.execute(insert, &[&how, &text, &n]).await.unwrap();
}

/// The lines of a host's log that say this.
fn lines(host: &Serve, what: &str) -> Vec<String> {
    host.log().lines().filter(|line| line.contains(what)).map(str::to_owned).collect()
}

async fn doctor(scene: &Scene, kind: &str) -> Option<Value> {
    let run = scene.db.host(&["doctor", "--json"]).await;
    let found: Value = serde_json::from_str(&run.stdout).expect("JSON");
    found["findings"].as_array().unwrap().iter().find(|f| f["kind"] == kind).cloned()
}

#[tokio::test]
async fn a_kind_of_failure_is_one_line_however_often_it_comes() {
    let scene = scene("p_backoff_base_ms => 3600000").await;
    let host = scene.serve("a", &[]);
    fail(&scene, "dead", "no order ", 40).await;
    scene.wait_number("SELECT count(*) FROM host.work__dead_letter", 40).await;
    fail(&scene, "retry", "HTTP 503 after ", 40).await;
    let scheduled = "SELECT count(*) FROM host.work__schedule";
    scene.wait_number(scheduled, 40).await;
    fail(&scene, "retry", "no such user ", 1).await;
    scene.wait_number(scheduled, 41).await;

    let dead = lines(&host, "a message became a dead letter");
    assert_eq!(dead.len(), 1, "{dead:?}");
    for part in
        [" WARN ", "queue=\"work\"", "handler=\"default\"", "version=1", " id=", "no order "]
    {
        assert!(dead[0].contains(part), "{part}: {}", dead[0]);
    }
    assert!(dead[0].contains("reason=\"rejected\""), "{}", dead[0]);
    let failed = lines(&host, "a message failed; it is tried again");
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(failed[0].contains("HTTP 503") && failed[1].contains("no such user"), "{failed:?}");
}

#[tokio::test]
async fn what_expires_is_named_as_well() {
    let scene = scene("").await;
    scene.run("INSERT INTO queue.work (payload, expires_at) VALUES ('1', now())").await;
    let host = scene.serve("a", &[]);
    scene.wait_number("SELECT count(*) FROM host.work__dead_letter", 1).await;
    host.wait_for_log("its deadline passed before it could run").await;
    assert_eq!(doctor(&scene, "mostly_fails").await, None, "it was not run");
}

#[tokio::test]
async fn doctor_and_status_name_a_handler_that_mostly_fails() {
    let scene = scene("p_backoff_base_ms => 3600000").await;
    let _host = scene.serve("a", &[]);
    fail(&scene, "ack", "", 3).await;
    fail(&scene, "retry", "HTTP 503 after ", 7).await;
    wait_until("doctor has it", async || {
        doctor(&scene, "mostly_fails").await.is_some_and(|f| f["failed"] == 7 && f["calls"] == 10)
    })
    .await;
    let found = doctor(&scene, "mostly_fails").await.unwrap();
    assert_eq!(
        (&found["queue"], &found["handler"], &found["version"], &found["severity"]),
        (&json!("work"), &json!("default"), &json!(1), &json!("warning"))
    );
    let what = found["what"].as_str().unwrap();
    assert!(what.contains("7 of 10 messages in the last 5 minutes"), "{what}");
    assert!(what.contains("HTTP 503 after "), "{what}");
    let status = scene.db.host(&["status"]).await.ok();
    let line = "! work/default v1: 7 of 10 messages failed in the last 5 minutes: HTTP 503 after ";
    assert!(status.contains(line), "{status}");

    // Another version is another thing.
    scene.deploy("work", "misbehave", Deployment { concurrency: 1, ..Deployment::default() }).await;
    assert_eq!(doctor(&scene, "mostly_fails").await, None);
}

#[tokio::test]
async fn doctor_names_fresh_dead_letters_and_their_commonest_error() {
    let scene = scene("").await;
    assert_eq!(doctor(&scene, "fresh_dead").await, None);
    scene
        .run(
            "INSERT INTO host.work__dead_letter
                (message_id, enqueued_at, died_at, handler_id, attempt, reason, error, payload)
             SELECT n, now(), CASE WHEN n > 20 THEN now() - interval '2 hours' ELSE now() END, h.id, 1, 'rejected',
                CASE n % 3 WHEN 0 THEN 'no such user' ELSE 'HTTP 503 after ' || n END, '1'
             FROM generate_series(1, 30) n, host.handler h ORDER BY n DESC",
        )
        .await;
    let found = doctor(&scene, "fresh_dead").await.unwrap();
    assert_eq!((&found["queue"], &found["letters"]), (&json!("work"), &json!(20)));
    assert_eq!(found["severity"], "warning");
    let what = found["what"].as_str().unwrap();
    assert!(what.contains("queue work has 20 new dead letters since 20"), "{what}");
    assert!(what.contains("most with: HTTP 503 after 1"), "{what}");
    scene.db.host(&["dead", "purge", "work", "--all", "--yes"]).await.ok();
    assert_eq!(doctor(&scene, "fresh_dead").await, None);
}

/// The host groups errors for its log, the database for its lists: in the same way.
#[tokio::test]
async fn an_error_has_one_kind_in_rust_and_in_sql() {
    let scene = Scene::new("").await;
    let uuid = "550e8400-e29b-41d4-a716-446655440000";
    for error in [
        "HTTP 503 after 12.5 s",
        "order17 is gone",
        &format!("x{uuid}y {uuid}, {uuid}-1"),
        "charge ch_3MqLiJLkdIwHu7ix0 declined abc12345 1234567890 abcdefghij",
        "not an e-mail address: \"no body\" and \"\" and \" alone",
        "mailbox bob@example.com, @ a@ @b a@b@c is full",
        "Überlänge 5 日本1語 é12345678é",
        "",
        &"é".repeat(900),
    ] {
        let row = scene.client.query_one("SELECT host.error_kind($1)", &[&error]).await.unwrap();
        assert_eq!(error_kind(error), row.get::<_, String>(0), "{error}");
    }
}
