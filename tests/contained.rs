//! What one message does is its own affair: every misbehaviour is named in the message's history,
//! and the messages beside it, in the same queue and in others, are none the worse.

use serde_json::{Value, json};

use crate::harness::{Deployment, Scene};

/// Beside each misbehaviour.
const GOOD: i64 = 200;

const NUMBERS: &str =
    "SELECT jsonb_build_object('do', 'enqueue', 'n', 1, 'queue', 'sink', 'text', i::text)
     FROM generate_series";

async fn enqueue(scene: &Scene, command: &Value) {
    let insert = "INSERT INTO queue.work (payload) VALUES ($1)";
    scene.client.execute(insert, &[command]).await.expect("enqueue");
}

/// The dead letter of a command.
async fn dead_letter(scene: &Scene, command: &Value) -> (String, String, Vec<Value>) {
    let select = "SELECT reason, error, history FROM host.work__dead_letter WHERE payload = $1";
    let row = scene.client.query_one(select, &[command]).await;
    let row = row.unwrap_or_else(|e| panic!("the dead letter of {command}: {e:?}"));
    let Value::Array(history) = row.get(2) else { panic!("no history of {command}") };
    (row.get(0), row.get(1), history)
}

#[tokio::test]
async fn every_misbehaviour_is_named_and_hurts_nobody_else() {
    let scene =
        Scene::new("p_max_attempts => 2, p_backoff_base_ms => 1, p_backoff_cap_ms => 10").await;
    scene.queue("good", "").await;
    let how = Deployment {
        memory_bytes: 8 << 20,
        timeout_ms: 3_000,
        cpu_ms: 50,
        log_bytes: 1_000,
        follow_ups: 10,
        ..Deployment::default()
    };
    scene.deploy("work", "misbehave", how).await;
    scene.deploy("good", "misbehave", Deployment::default()).await;
    let cases = [
        (
            json!({"do": "trap"}),
            "attempts used up",
            "trap: wasm `unreachable` instruction executed; panicked at ",
        ),
        (json!({"do": "exit"}), "attempts used up", "trap: the guest exited with status 1"),
        (json!({"do": "loop"}), "attempts used up", "limit: more than 50ms of CPU time"),
        (json!({"do": "log"}), "attempts used up", "limit: more than 50ms of CPU time"),
        (json!({"do": "allocate"}), "attempts used up", "limit: more than 8388608 bytes of memory"),
        (json!({"do": "stack"}), "attempts used up", "limit: stack overflow"),
        (
            json!({"do": "sleep", "ms": 3_600_000}),
            "attempts used up",
            "timeout: no verdict within 3s",
        ),
        (
            json!({"do": "enqueue", "queue": "sink", "text": "flood"}),
            "rejected",
            "after 10: Refusal::LimitExceeded(\"10 follow-up messages a call\")",
        ),
        (json!({"do": "dead", "text": "hopeless"}), "rejected", "hopeless"),
        (json!({"do": "retry", "text": "busy"}), "attempts used up", "busy"),
    ];
    let host = scene.serve("host", &[]);
    let session = scene.session("host").await;
    for (n, (command, ..)) in (0..).zip(&cases) {
        enqueue(&scene, command).await;
        let (from, to) = (n * GOOD + 1, (n + 1) * GOOD);
        for queue in ["work", "good"] {
            scene
                .run(&format!("INSERT INTO queue.{queue} (payload) {NUMBERS}({from}, {to}) i"))
                .await;
        }
    }
    enqueue(&scene, &json!({"do": "log", "n": 1_000, "text": "a flood that ends"})).await;
    scene.wait_done("work").await;
    scene.wait_done("good").await;

    for (command, reason, error) in &cases {
        let (why, text, history) = dead_letter(&scene, command).await;
        assert_eq!(why, *reason, "{command}");
        assert!(text.starts_with(error), "{command}: {text}");
        assert_eq!(history.len(), if *reason == "rejected" { 1 } else { 2 }, "{history:?}");
        for (entry, attempt) in history.iter().zip(1..) {
            assert_eq!(entry["attempt"], attempt, "{history:?}");
            assert_eq!(entry["error"], text.as_str(), "{history:?}");
        }
    }
    assert_eq!(
        scene.number("SELECT count(*) FROM host.work__dead_letter").await,
        cases.len() as i64
    );
    let twice =
        "SELECT count(*) FROM (SELECT FROM queue.sink GROUP BY payload HAVING count(*) = 2) x";
    assert_eq!(scene.number(twice).await, cases.len() as i64 * GOOD);
    assert_eq!(
        scene.number("SELECT count(*) FROM queue.sink").await,
        2 * cases.len() as i64 * GOOD
    );
    assert!(host.log().contains("log limit of 1000 bytes a call: the rest is dropped"));
    assert_eq!(scene.session("host").await, session);
    assert!(host.terminate().await.success());
}

/// The policy would have it wait for an hour: that it does not is the handler's doing.
#[tokio::test]
async fn a_handler_says_when_to_try_again_and_its_attempts_are_kept_in_order() {
    let scene = Scene::new("p_max_attempts => 3, p_backoff_base_ms => 3600000").await;
    let version = scene.deploy("work", "misbehave", Deployment::default()).await;
    let command = json!({"do": "retry", "ms": 20, "text": "not yet"});
    enqueue(&scene, &command).await;
    let host = scene.serve("one", &[]);
    scene.wait_done("work").await;
    let (reason, error, history) = dead_letter(&scene, &command).await;
    assert_eq!((reason.as_str(), error.as_str()), ("attempts used up", "not yet"));
    assert_eq!(history.len(), 3, "{history:?}");
    let mut before = String::new();
    for (entry, attempt) in history.iter().zip(1..) {
        let at = entry["at"].as_str().expect("a time").to_owned();
        let started = entry["started"].as_str().expect("a time").to_owned();
        let expected = json!({
            "attempt": attempt, "started": started, "at": at, "host": "one", "version": version,
            "error": "not yet",
        });
        assert_eq!(*entry, expected);
        assert!(before < started && started <= at, "{history:?}");
        before = at;
    }
    assert!(host.terminate().await.success());
}

#[tokio::test]
async fn without_a_word_from_the_handler_the_policy_says_when() {
    let scene = Scene::new("p_backoff_base_ms => 3600000").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    enqueue(&scene, &json!({"do": "trap"})).await;
    let _host = scene.serve("one", &[]);
    scene.wait_number("SELECT count(*) FROM host.work__schedule", 1).await;
    let again =
        "SELECT attempt || ' ' || (due - now() BETWEEN interval '29 min' AND interval '1 h')
         FROM host.work__schedule";
    assert_eq!(scene.texts(again).await, ["2 true"]);
}

/// The host lets it pass, for it is JSON; jsonb cannot hold it.
#[tokio::test]
async fn a_follow_up_that_postgres_refuses_is_the_fault_of_its_message_alone() {
    let scene =
        Scene::new("p_max_attempts => 2, p_backoff_base_ms => 1, p_backoff_cap_ms => 10").await;
    scene.queue("strict", "").await;
    scene
        .run("ALTER TABLE queue.strict ADD CONSTRAINT no_odd_ones CHECK (payload <> '\"odd\"')")
        .await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let bad = json!({"do": "enqueue", "n": 1, "queue": "strict", "text": "\"odd\""});
    scene.run(&format!("INSERT INTO queue.work (payload) {NUMBERS}(1, 100) i")).await;
    enqueue(&scene, &bad).await;
    scene.run(&format!("INSERT INTO queue.work (payload) {NUMBERS}(101, 200) i")).await;
    let _host = scene.serve("one", &[]);
    scene.wait_done("work").await;
    let (reason, error, history) = dead_letter(&scene, &bad).await;
    assert_eq!(reason, "attempts used up");
    assert!(error.starts_with("follow-up refused: ") && error.contains("no_odd_ones"), "{error}");
    assert_eq!(history.len(), 2, "{history:?}");
    let once =
        "SELECT count(*) FROM (SELECT FROM queue.sink GROUP BY payload HAVING count(*) = 1) x";
    assert_eq!(scene.number(once).await, 200);
    assert_eq!(scene.number("SELECT count(*) FROM queue.strict").await, 0);
}
