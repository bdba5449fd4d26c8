//! Cancelling and purging: what an operator removes is not run, is accounted for, and comes once.

use serde_json::Value;

use crate::harness::process::{Serve, host_command};
use crate::harness::{Deployment, Scene, wait_until};

/// Puts the number of the message on `sink`.
const NUMBERS: &str = "INSERT INTO queue.work (payload)
    SELECT jsonb_build_object('do', 'enqueue', 'n', 1, 'queue', 'sink', 'text', i::text) FROM generate_series";

const IN_SINK: &str = "SELECT count(*) FROM queue.sink";
const REMOVED: &str = "SELECT coalesce(sum(host.positions(removed)), 0) FROM host.work__settlement";

async fn scene(how: Deployment) -> Scene {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", how).await;
    scene
}

impl Scene {
    /// Enqueues one command and says its id.
    async fn enqueue_one(&self, command: &str) -> String {
        self.db.host(&["enqueue", "work", command]).await.ok().trim().to_owned()
    }

    async fn cancel(&self, id: &str) -> String {
        self.db.host(&["cancel", "work", id]).await.ok()
    }

    async fn story(&self, id: &str) -> Value {
        let text = self.db.host(&["message", "work", id, "--json"]).await.ok();
        serde_json::from_str(&text).expect("JSON")
    }

    /// Nothing that was cancelled is left to be met.
    async fn wait_met(&self) {
        self.wait_number("SELECT count(*) FROM host.cancellation", 0).await;
    }
}

fn whats(story: &Value) -> Vec<&str> {
    let events = story["story"].as_array().expect("events");
    events.iter().map(|e| e["what"].as_str().expect("text")).collect()
}

#[tokio::test]
async fn a_message_that_waits_is_removed_when_its_turn_comes() {
    let scene = scene(Deployment::default()).await;
    scene.db.host(&["queue", "pause", "work"]).await.ok();
    scene.run(&format!("{NUMBERS}(1, 3) i")).await;
    let text = scene.db.host(&["cancel", "work", "2", "--dry-run"]).await.ok();
    assert_eq!(text, "work/default: waiting\n");
    assert_eq!(scene.number("SELECT count(*) FROM host.cancellation").await, 0);
    assert_eq!(scene.cancel("2").await, "work/default: waiting, cancelled\n");

    let _host = scene.serve("host", &[]);
    scene.db.host(&["queue", "resume", "work"]).await.ok();
    scene.wait_done("work").await;
    assert_eq!(scene.texts("SELECT payload FROM queue.sink ORDER BY 1").await, ["1", "3"]);
    assert_eq!(scene.number(REMOVED).await, 1);
    scene.wait_met().await;

    let story = scene.story("2").await;
    assert_eq!(story["handlers"][0]["state"], "removed");
    let whats = whats(&story);
    assert_eq!((whats[0], whats[2]), ("enqueued", "removed by an operator"), "{whats:?}");
    assert!(whats[1].starts_with("lease ") && whats[1].contains(" by host/"), "{whats:?}");
    let text = scene.db.host(&["cancel", "work", "2"]).await.error(1);
    assert_eq!(text, "message 2 has no run left to cancel");
    let text = scene.db.host(&["cancel", "work", "1"]).await;
    assert!(text.stdout.starts_with("work/default: settled 20"), "{text:?}");
    let text = scene.db.host(&["cancel", "work", "99"]).await.error(2);
    assert!(text.starts_with("queue work has no message 99: "), "{text}");
}

#[tokio::test]
async fn a_guest_that_runs_is_interrupted_and_what_waits_behind_it_goes_on() {
    let how = Deployment { concurrency: 1, cpu_ms: 3_600_000, ..Deployment::default() };
    let scene = scene(how).await;
    let _host = scene.serve("host", &[]);
    let session = scene.session("host").await;
    // One that waits in the host, and one that computes.
    for command in [r#"{"do": "sleep", "ms": 3600000}"#, r#"{"do": "loop"}"#] {
        let id = scene.enqueue_one(command).await;
        scene.wait_held("work", session).await;
        let text = scene.cancel(&id).await;
        assert!(text.starts_with("work/default: removed by an operator 20"), "{text}");
        let before = scene.number(IN_SINK).await;
        scene.run(&format!("{NUMBERS}(1, 1) i")).await;
        scene.wait_number(IN_SINK, before + 1).await;
    }
    scene.wait_done("work").await;
    scene.wait_met().await;
    assert_eq!(scene.number(REMOVED).await, 2);
}

#[tokio::test]
async fn a_message_on_the_schedule_is_removed_when_it_is_due() {
    let scene = scene(Deployment::default()).await;
    let _host = scene.serve("host", &[]);
    scene
        .run(
            "INSERT INTO queue.work (payload, run_at) SELECT payload, now() + interval '3 s' FROM (SELECT
                 jsonb_build_object('do', 'enqueue', 'n', 1, 'queue', 'sink', 'text', i::text) AS payload
                 FROM generate_series(1, 2) i) x"
        )
        .await;
    scene.wait_number("SELECT scheduled FROM host.work__stored(10)", 2).await;
    let text = scene.cancel("1").await;
    assert!(
        text.starts_with("work/default: scheduled for 20") && text.ends_with(", cancelled\n"),
        "{text}"
    );
    scene.wait_done("work").await;
    assert_eq!(scene.texts("SELECT payload FROM queue.sink").await, ["2"]);
    assert_eq!(scene.number(REMOVED).await, 1);
    scene.wait_met().await;
}

#[tokio::test]
async fn what_a_killed_host_had_in_hand_is_removed_by_who_takes_over() {
    let scene = scene(Deployment::default()).await;
    let first = scene.serve("first", &[]);
    let session = scene.session("first").await;
    let id = scene.enqueue_one(r#"{"do": "sleep", "ms": 3600000}"#).await;
    scene.wait_held("work", session).await;
    first.kill();
    let text = scene.db.host(&["cancel", "work", &id, "--wait", "0s"]).await.ok();
    assert!(text.starts_with("work/default: in flight on first/"), "{text}");
    let _second = scene.serve("second", &[]);
    scene.wait_done("work").await;
    assert_eq!(scene.number(REMOVED).await, 1);
    let story = scene.story(&id).await;
    let whats = whats(&story);
    assert!(
        whats.contains(&"taken over") && whats.contains(&"removed by an operator"),
        "{whats:?}"
    );
    scene.wait_met().await;
}

/// Whatever of the two comes first to a message: it is run, or it is removed.
#[tokio::test]
async fn a_purge_that_is_killed_amid_running_hosts_loses_nothing_and_repeats_nothing() {
    const COUNT: i64 = 60_000;
    let scene = scene(Deployment::default()).await;
    scene.db.host(&["queue", "pause", "work"]).await.ok();
    scene.run(&format!("{NUMBERS}(1, {COUNT}) i")).await;
    scene.run(&format!("{NUMBERS}(1, 5) i; UPDATE host.queue SET paused = paused")).await;
    let text = scene.db.host(&["queue", "purge", "work", "--dry-run"]).await.ok();
    assert_eq!(text, "work/default: 60005 would be removed\n");
    let text = scene.db.host(&["queue", "purge", "work"]).await.error(2);
    assert!(text.contains("confirm with --yes"), "{text}");

    let _hosts = [scene.serve("a", &[]), scene.serve("b", &[])];
    scene.wait_loaded("work", 1, 2).await;
    scene.db.host(&["queue", "resume", "work"]).await.ok();
    wait_until("hosts work", async || scene.number(IN_SINK).await > 0).await;
    let mut purge = host_command(&["queue", "purge", "work", "--yes"]);
    purge.env("DATABASE_URL", &scene.db.url);
    let purge = Serve::spawn(purge);
    wait_until("the purge works", async || scene.number(REMOVED).await > 0).await;
    purge.kill();
    scene.wait_done("work").await;
    let (removed, ran) = (scene.number(REMOVED).await, scene.number(IN_SINK).await);
    assert_eq!(removed + ran, COUNT + 5, "{removed} removed, {ran} run");
    assert!(removed > 0 && ran > 0, "{removed} removed, {ran} run");
}

#[tokio::test]
async fn a_purge_leaves_what_is_not_due_and_tells_the_handlers_apart() {
    let scene = scene(Deployment::default()).await;
    let plugin = crate::harness::plugin("misbehave").display().to_string();
    let audit = ["deploy", "--queue", "work", "--name", "audit", &plugin, "--no-wait"];
    scene.db.host(&audit).await.ok();
    scene.run(&format!("{NUMBERS}(1, 10) i")).await;
    scene
        .run("INSERT INTO queue.work (payload, run_at) SELECT '{}', now() + interval '1 h' FROM generate_series(1, 2)")
        .await;
    let text = scene.db.host(&["queue", "purge", "work", "--handler", "audit", "--yes"]).await.ok();
    assert_eq!(text, "work/audit: 10 messages removed; 2 not due yet, now on the schedule\n");
    let text =
        scene.db.host(&["queue", "purge", "work", "--handler", "adit", "--yes"]).await.error(2);
    assert!(text.contains("did you mean \"audit\"?"), "{text}");
    let story = scene.story("1").await;
    let states: Vec<_> = story["handlers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| h["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["removed", "waiting"]);
    let _host = scene.serve("host", &[]);
    scene.wait_number(IN_SINK, 10).await;
    scene.wait_number("SELECT scheduled FROM host.work__stored(10)", 4).await;
    let text = scene.db.host(&["queue", "purge", "sink", "--yes"]).await.error(1);
    assert!(text.starts_with("queue sink has no handler"), "{text}");
}

#[tokio::test]
async fn peeking_takes_nothing_and_shows_what_comes_next() {
    let scene = scene(Deployment::default()).await;
    assert_eq!(scene.db.host(&["peek", "work"]).await.ok(), "No message waits\n");
    scene.run(&format!("{NUMBERS}(1, 3) i")).await;
    for _ in 0..2 {
        let text = scene.db.host(&["peek", "work", "-n", "2", "--json"]).await.ok();
        let next: Value = serde_json::from_str(&text).unwrap();
        let ids: Vec<_> =
            next.as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["1", "2"]);
        assert!(next[0]["payload"].as_str().unwrap().contains(r#""text": "1""#), "{next}");
    }
    let text = scene.db.host(&["peek", "work"]).await.ok();
    assert!(text.starts_with("MESSAGE  ENQUEUED") && text.lines().count() == 4, "{text}");
    // Without a handler, what there is.
    scene.run("INSERT INTO queue.sink (payload) VALUES ('x')").await;
    let text = scene.db.host(&["peek", "sink", "--json"]).await.ok();
    assert!(text.contains(r#""payload":"x""#), "{text}");

    let _host = scene.serve("host", &[]);
    scene.wait_done("work").await;
    assert_eq!(scene.db.host(&["peek", "work"]).await.ok(), "No message waits\n");
    let text = scene.db.host(&["message", "work", "1"]).await.ok();
    assert!(text.contains("\ndefault      settled 20") && text.contains(" by host/"), "{text}");
}

#[tokio::test]
async fn what_is_scheduled_is_shown_with_when_and_why() {
    let scene = scene(Deployment::default()).await;
    let peek = async |args: &[&str]| scene.db.host(&[&["peek", "work"], args].concat()).await.ok();
    assert_eq!(peek(&["--scheduled"]).await, "No message is scheduled\n");
    let retries = r#"{"do": "retry", "ms": 3600000, "text": "busy"}"#;
    scene.run(&format!("INSERT INTO queue.work (payload) VALUES ('{retries}')")).await;
    scene
        .run("INSERT INTO queue.work (payload, run_at) VALUES ('\"ack\"', now() + interval '2 h')")
        .await;
    // Is promoted, and done.
    scene
        .run("INSERT INTO queue.work (payload, run_at) VALUES ('\"ack\"', now() + interval '1 s')")
        .await;
    let _host = scene.serve("host", &[]);
    scene.wait_number("SELECT count(*) FROM host.work__schedule", 3).await;
    scene.wait_number("SELECT scheduled FROM host.work__stored(10)", 2).await;

    let text = peek(&[]).await;
    assert!(text.starts_with("No message waits; the next is due at 2"), "{text}");
    assert!(text.contains("`host peek work --scheduled`"), "{text}");
    let next: Value = serde_json::from_str(&peek(&["--scheduled", "--json"]).await).unwrap();
    let of =
        |name: &str| next.as_array().unwrap().iter().map(|m| m[name].clone()).collect::<Value>();
    assert_eq!(of("id"), serde_json::json!(["1", "2"]));
    assert_eq!(of("handler"), serde_json::json!(["default", "default"]));
    assert_eq!(of("attempt"), serde_json::json!([2, 1]));
    assert_eq!(of("error"), serde_json::json!(["busy", null]));
    let text = peek(&["--scheduled", "-n", "1"]).await;
    assert!(text.starts_with("MESSAGE  DUE") && text.contains("  busy  "), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
    let error = scene.db.host(&["peek", "work", "--scheduled", "--settled"]).await.error(2);
    assert!(error.contains("cannot be used with"), "{error}");
}

/// On a queue that keeps order, a retry holds its lane instead.
#[tokio::test]
async fn lanes_that_a_retry_holds_are_named() {
    let scene = Scene::new("p_ordered_lanes => 2").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let peek = async |args: &[&str]| scene.db.host(&[&["peek", "work"], args].concat()).await.ok();
    assert_eq!(peek(&[]).await, "No message waits\n");
    let retries = r#"{"do": "retry", "ms": 3600000, "text": "busy"}"#;
    scene.run(&format!("INSERT INTO queue.work (payload, key) VALUES ('{retries}', 'a')")).await;
    let _host = scene.serve("host", &[]);
    for flags in [&[][..], &["--scheduled"]] {
        wait_until("the lane is held", async || {
            peek(flags).await.contains("! work/default: 1 lane held until 2")
        })
        .await;
    }
    assert_eq!(peek(&["--scheduled", "--json"]).await, "[]\n");
}
