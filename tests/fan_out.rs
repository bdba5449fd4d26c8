//! Several handlers on one queue: each has all messages, its own place, its own dead letters and
//! its own pause; and what keeps a leaf is named.

use serde_json::Value;

use crate::harness::{Deployment, Scene, plugin, wait_until};

const IN_SINK: &str = "SELECT count(*) FROM queue.sink";

/// A queue that rotates as often as it can, with the handler `default`.
async fn scene() -> Scene {
    let scene =
        Scene::new("p_rotate_bytes => 8192, p_rotate_age_ms => 10, p_max_attempts => 2").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    scene
}

impl Scene {
    async fn ok(&self, args: &[&str]) -> String {
        self.db.host(args).await.ok()
    }

    /// Deploys a handler of that name beside the first.
    async fn deploy_as(&self, name: &str, more: &[&str]) -> String {
        let misbehave = plugin("misbehave").display().to_string();
        let args = ["deploy", "--queue", "work", "--name", name, &misbehave, "--no-wait"];
        self.ok(&[&args[..], more].concat()).await
    }

    async fn enqueue_numbers(&self, from: i64, to: i64) {
        let sql = format!(
            "INSERT INTO queue.work (payload)
             SELECT jsonb_build_object('do', 'enqueue', 'n', 1, 'queue', 'sink', 'text', i::text)
             FROM generate_series({from}, {to}) i"
        );
        self.run(&sql).await;
    }

    /// What the handler has before it and in flight, as `host status` says.
    async fn lag(&self, handler: &str) -> Value {
        let status: Value = serde_json::from_str(&self.ok(&["status", "--json"]).await).unwrap();
        let queues = status["queues"].as_array().unwrap();
        let work = queues.iter().find(|q| q["name"] == "work").expect("the queue");
        let mut lag = work["lag"].as_array().unwrap().iter();
        lag.find(|l| l["handler"] == handler).expect("the handler").clone()
    }

    async fn wait_caught_up(&self, handler: &str) {
        wait_until(&format!("{handler} has caught up"), async || {
            let lag = self.lag(handler).await;
            lag["waiting"] == 0 && lag["in_flight"] == 0
        })
        .await;
    }
}

#[tokio::test]
async fn a_handler_begins_with_what_is_kept_or_with_what_comes() {
    let scene = scene().await;
    scene.enqueue_numbers(1, 10).await;
    scene.deploy_as("oldest", &[]).await;
    scene.deploy_as("now", &["--from", "now"]).await;
    scene.enqueue_numbers(11, 12).await;
    let _host = scene.serve("host", &[]);
    for handler in ["default", "oldest", "now"] {
        scene.wait_caught_up(handler).await;
    }
    let times =
        "SELECT payload || 'x' || count(*) FROM queue.sink GROUP BY payload ORDER BY payload::int";
    let mut wanted: Vec<_> = (1..=10).map(|n| format!("{n}x2")).collect();
    wanted.extend(["11x3".to_owned(), "12x3".to_owned()]);
    assert_eq!(scene.texts(times).await, wanted);

    let misbehave = plugin("misbehave").display().to_string();
    let again = ["deploy", "--queue", "work", "--name", "now", &misbehave, "--from", "oldest"];
    let text = scene.db.host(&again).await.error(2);
    assert_eq!(text, "handler work/now exists already; --from works only for a new handler");
}

/// A transaction that is open when the handler begins commits after that, so it is not passed over.
#[tokio::test]
async fn a_handler_that_begins_now_gets_what_commits_later() {
    let scene = scene().await;
    let mut producer = scene.db.client().await;
    let transaction = producer.transaction().await.unwrap();
    let insert = r#"INSERT INTO queue.work (payload) VALUES ('{"do": "ack"}')"#;
    transaction.batch_execute(insert).await.unwrap();
    scene.deploy_as("now", &["--from", "now"]).await;
    assert_eq!(scene.lag("now").await["waiting"], 0);
    transaction.commit().await.unwrap();
    assert_eq!(scene.lag("now").await["waiting"], 1);
}

#[tokio::test]
async fn a_paused_handler_holds_up_only_the_leaves_and_is_named() {
    let scene = scene().await;
    scene.deploy_as("audit", &[]).await;
    assert_eq!(
        scene.ok(&["handlers", "pause", "work/audit"]).await,
        "Handler work/audit is paused\n"
    );
    let text = scene.ok(&["handlers", "pause", "work/audit"]).await;
    assert_eq!(text, "Handler work/audit is already paused\n");
    let host = scene.serve("host", &[]);
    scene.enqueue_numbers(1, 1_000).await;
    scene.wait_number(IN_SINK, 1_000).await;
    scene.wait_caught_up("default").await;
    assert_eq!(scene.lag("audit").await["waiting"], 1_000);
    let status = async || scene.ok(&["status"]).await;
    wait_until("it is named", async || {
        status().await.contains("handler \"audit\", which is paused, has messages in it to come")
    })
    .await;
    // However it is broken into lines.
    let text = status().await.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("audit v1 (paused, 1000 waiting), default v1"), "{text}");
    let text = scene.ok(&["handlers"]).await;
    assert!(text.contains("work/audit (paused)"), "{text}");

    scene.ok(&["handlers", "resume", "work/audit"]).await;
    scene.wait_number(IN_SINK, 2_000).await;
    wait_until("the leaves are free", async || !status().await.contains("rotation waits")).await;
    // It was not loaded anew for that.
    assert_eq!(host.log().matches("handler loaded").count(), 2, "{}", host.log());
}

#[tokio::test]
async fn a_handler_that_is_removed_frees_what_it_held() {
    let scene = scene().await;
    scene.deploy_as("audit", &[]).await;
    let host = scene.serve("host", &[]);
    let session = scene.session("host").await;
    // In flight, scheduled and dead, for each of the two; and of what waits, for the paused one.
    for command in [r#"{"do": "dead", "text": "no"}"#, r#"{"do": "retry", "ms": 3600000}"#] {
        scene.ok(&["enqueue", "work", command]).await;
    }
    scene.wait_number("SELECT count(*) FROM host.work__dead_letter", 2).await;
    scene.wait_number("SELECT count(*) FROM host.work__schedule", 2).await;
    scene.ok(&["enqueue", "work", r#"{"do": "sleep", "ms": 3600000}"#]).await;
    scene
        .wait_number(
            "SELECT count(*) FROM host.work__lease l WHERE row_count > 0 AND NOT EXISTS
        (SELECT FROM host.work__settlement s WHERE s.lease_id = l.id AND s.rest = 0)",
            2,
        )
        .await;
    scene.wait_held("work", session).await;
    scene.ok(&["handlers", "pause", "work/audit"]).await;
    host.wait_for_log("handler paused").await;
    scene.enqueue_numbers(1, 1_000).await;
    scene.wait_number(IN_SINK, 1_000).await;

    wait_until("it keeps a leaf", async || {
        scene.ok(&["status"]).await.contains("handler \"audit\", which is paused,")
    })
    .await;

    let text = scene.ok(&["handlers", "remove", "work/audit", "--dry-run"]).await;
    assert_eq!(
        text,
        "Handler work/audit would be removed, with 1000 waiting and 1 in flight for it\n"
    );
    let text = scene.db.host(&["handlers", "remove", "work/audit"]).await.error(2);
    assert!(text.contains("confirm with --yes"), "{text}");
    let text = scene.ok(&["handlers", "remove", "work/audit", "--yes"]).await;
    assert_eq!(text, "Removed handler work/audit, with 1000 waiting and 1 in flight for it\n");
    let status: Value = serde_json::from_str(&scene.ok(&["status", "--json"]).await).unwrap();
    let work = status["queues"].as_array().unwrap().iter().find(|q| q["name"] == "work").unwrap();
    assert_eq!(work["handlers"].as_array().unwrap().len(), 1);

    // What the other has in flight holds the leaves still; when that is gone, nothing does.
    let sleeps = "SELECT max(id) FROM queue.work WHERE payload ->> 'do' = 'sleep'";
    let id = scene.number(sleeps).await.to_string();
    scene.ok(&["cancel", "work", &id]).await;
    scene.enqueue_numbers(1_001, 2_000).await;
    scene.wait_number(IN_SINK, 2_000).await;
    wait_until("the leaves are free", async || {
        !scene.ok(&["status"]).await.contains("rotation waits")
    })
    .await;
    // Its dead letter stays, and can be moved, but not retried: nobody would get it.
    let list = scene.ok(&["dead", "list", "work"]).await;
    assert!(list.contains("(removed)"), "{list}");
    let retried = scene.db.host(&["dead", "retry", "work", "--all"]).await;
    assert_eq!(retried.stdout, "1 dead letter retried\n");
    assert!(
        retried.stderr.contains("1 dead letter of handlers that were removed stayed"),
        "{retried:?}"
    );
    scene.wait_number("SELECT count(*) FROM host.work__dead_letter", 2).await;
    let where_removed = scene.ok(&["dead", "list", "work", "--json"]).await;
    let list: Value = serde_json::from_str(&where_removed).unwrap();
    let orphan = list.as_array().unwrap().iter().find(|l| l["handler"].is_null()).unwrap();
    let id = orphan["id"].to_string();
    assert_eq!(
        scene.ok(&["dead", "move", "work", &id, "--to", "sink"]).await,
        "1 dead letter moved to queue sink\n"
    );
    let moved =
        "SELECT count(*) FROM queue.sink WHERE payload LIKE '%\"dead\"%' AND history IS NOT NULL";
    assert_eq!(scene.number(moved).await, 1);
}

#[tokio::test]
async fn wrong_names_are_refused_with_the_nearest() {
    let scene = scene().await;
    scene.deploy_as("audit", &[]).await;
    for command in ["pause", "resume", "remove"] {
        let text = scene.db.host(&["handlers", command, "work/adit"]).await.error(2);
        assert_eq!(text, "no handler on queue work: \"adit\"; did you mean \"audit\"?");
        let text = scene.db.host(&["handlers", command, "wrk/audit"]).await.error(2);
        assert_eq!(text, "no queue \"wrk\"; did you mean \"work\"?");
    }
    let text = scene.db.host(&["peek", "work"]).await.error(2);
    assert!(text.contains("choose one with --handler: default, audit"), "{text}");
}

#[tokio::test]
async fn a_dead_handlers_open_leases_do_not_outlive_it() {
    // The story is told also when the message's partition is gone.
    let settings = "p_rotate_bytes => 8192, p_rotate_age_ms => 10, p_keep_ms => 3600000";
    let scene = Scene::new(settings).await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    scene.deploy_as("audit", &[]).await;
    let host = scene.serve("host", &[]);
    let session = scene.session("host").await;
    scene.ok(&["enqueue", "work", r#"{"do": "sleep", "ms": 3600000}"#]).await;
    scene
        .wait_number(
            "SELECT count(*) FROM host.work__lease l WHERE row_count > 0 AND NOT EXISTS
        (SELECT FROM host.work__settlement s WHERE s.lease_id = l.id AND s.rest = 0)",
            2,
        )
        .await;
    scene.wait_held("work", session).await;
    let id = scene.number("SELECT id FROM queue.work").await.to_string();
    host.kill();
    for handler in ["work/audit", "work/default"] {
        scene.ok(&["handlers", "remove", handler, "--yes"]).await;
    }
    // The last one: the messages are kept, for the next.
    scene.deploy("work", "echo", Deployment::default()).await;
    assert_eq!(scene.lag("default").await["waiting"], 1);
    let _next = scene.serve("next", &[]);
    scene.wait_caught_up("default").await;
    let story = scene.ok(&["message", "work", &id]).await;
    assert!(story.contains("default      settled 20"), "{story}");
}
