//! Results and history: what came of a settled message can be read, once, for as long as its queue
//! keeps it, whoever is killed meanwhile.

use serde_json::{Value, json};

use crate::harness::process::Serve;
use crate::harness::sql_host::{ROTATES_ALWAYS, assert_only_inserted, deploy, value};
use crate::harness::{Deployment, Scene, SqlHost, TestDb, wait_until};

const AN_HOUR: &str = ", p_keep_ms => 3600000";

/// Payload, attempt, whether it was removed, and result, of all that the history has.
async fn history(hand: &SqlHost) -> Vec<String> {
    let sql = "SELECT payload::text || ' ' || attempt || CASE WHEN removed THEN ' removed' ELSE '' END
        || coalesce(' ' || convert_from(result, 'UTF8'), '') FROM host.q__history ORDER BY message_id, settled_at";
    hand.client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn story(scene: &Scene, id: &str) -> Value {
    let text = scene.db.host(&["message", "work", id, "--json"]).await.ok();
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test]
async fn a_result_is_read_for_as_long_as_its_message() {
    let scene = Scene::new("p_backoff_base_ms => 1").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let host = scene.serve("a", &[]);
    let commands = [
        json!({"do": "result", "text": "{\"size\": 7}"}),
        json!({"do": "result", "text": "in the end", "ms": 1}),
        json!("ack"),
        json!({"do": "result", "text": "\\x00"}),
    ];
    let mut results = Vec::new();
    for command in commands {
        let id = scene.db.host(&["enqueue", "work", &command.to_string()]).await.ok();
        scene.wait_done("work").await;
        results.push(story(&scene, id.trim()).await["handlers"][0]["result"].clone());
    }
    let expected = [json!("{\"size\": 7}"), json!("in the end"), Value::Null, json!("\\x5c783030")];
    assert_eq!(results, expected);
    let text = scene.db.host(&["message", "work", "1"]).await.ok();
    assert!(text.contains("\nResult       {\"size\": 7}\n"), "{text}");
    host.kill();
}

/// Hosts are killed while messages are tried, some twice, and leaves are truncated.
#[tokio::test]
async fn the_history_has_every_settled_message_once_whoever_is_killed() {
    const EACH: i64 = 600;
    let scene = Scene::new(
        "p_rotate_bytes => 8192, p_rotate_age_ms => 10, p_backoff_base_ms => 1, p_keep_ms => 3600000",
    )
    .await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let start = |n: u32| scene.serve(&format!("host-{n}"), &["--poll", "50ms"]);
    let mut hosts: Vec<Serve> = (0..2).map(start).collect();
    let kept = "SELECT count(*) FROM host.work__history";
    for n in 2..6 {
        let first = i64::from(n - 2) * EACH + 1;
        scene
            .run(&format!(
                "INSERT INTO queue.work (payload) SELECT jsonb_build_object('do', 'result', 'text', 'r' || i,
                     'ms', CASE WHEN i % 10 = 0 THEN 1 ELSE 0 END) FROM generate_series({first}, {first} + {EACH} - 1) i"
            ))
            .await;
        let before = scene.number(kept).await;
        wait_until("more is settled", async || {
            scene.number(kept).await >= (before + EACH / 3).min(first + EACH / 2)
        })
        .await;
        hosts.remove(0).kill();
        hosts.push(start(n));
    }
    scene.wait_done("work").await;
    let right = "SELECT count(DISTINCT message_id) FROM host.work__history
        WHERE convert_from(result, 'UTF8') = payload ->> 'text' AND NOT removed
            AND attempt = CASE WHEN payload ->> 'ms' = '1' THEN 2 ELSE 1 END";
    let found = (scene.number(kept).await, scene.number(right).await);
    assert_eq!(found, (4 * EACH, 4 * EACH));
    let seen = scene.db.host(&["peek", "work", "--settled", "-n", "5", "--json"]).await.ok();
    let seen: Value = serde_json::from_str(&seen).expect("JSON");
    assert_eq!(seen.as_array().unwrap().len(), 5);
    assert!(seen[0]["result"].as_str().unwrap().starts_with('r'), "{seen}");

    wait_until("the first and the tenth are truncated", async || {
        // So that the present leaf is full, whichever that is.
        let more = "INSERT INTO queue.work (payload) SELECT '\"ack\"' FROM generate_series(1, 100)";
        scene.run(more).await;
        scene.number("SELECT count(*) FROM queue.work WHERE id IN (1, 10) OR origin = 10").await
            == 0
    })
    .await;
    let first = story(&scene, "1").await;
    assert_eq!(first["handlers"][0]["state"], "settled");
    assert_eq!(first["handlers"][0]["result"], "r1");
    assert_eq!(first["payload"], r#"{"do": "result", "ms": 0, "text": "r1"}"#);
    let tenth = story(&scene, "10").await;
    let whats: Vec<_> = tenth["story"].as_array().unwrap().iter().map(|e| &e["what"]).collect();
    assert!(whats[0] == "enqueued" && whats.last().unwrap() == &"settled", "{whats:?}");
    assert!(whats.iter().any(|what| what.as_str().unwrap().starts_with("failed on host-")));

    hosts.into_iter().for_each(Serve::kill);
    let Scene { db, client } = scene;
    drop(client);
    assert_only_inserted(&db).await;
}

#[tokio::test]
async fn what_is_done_with_for_good_is_kept_and_nothing_else() {
    let (_db, client, hand) = SqlHost::with_queue(AN_HOUR).await;
    let other = deploy(&client, "q", "other").await;
    hand.enqueue(1, 6).await;
    hand.run("INSERT INTO queue.q (payload, run_at) VALUES ('7', now() + interval '1 h')").await;
    hand.run(&format!("INSERT INTO queue.q (payload, handler_id) VALUES ('8', {other})")).await;
    let held = hand.must_lease(10).await;
    let more = r#", p_retry_pos => '{1}', p_retry_delay_ms => '{3600000}', p_retry_entry => '{"{}"}',
        p_park_pos => '{6}', p_dead_pos => '{2}', p_dead_reason => '{rejected}',
        p_dead_entry => ARRAY['{"error": "no"}'::jsonb], p_removed => '{[3,4)}',
        p_result_pos => '{0,4}', p_results => ARRAY['one', 'five']::bytea[]"#;
    assert!(hand.settle(&held, 0, "{[0,8)}", more).await.unwrap());
    let expected = ["1 1 one", "4 1 removed", "5 1 five", "6 1"];
    assert_eq!(history(&hand).await, expected);
    // Its reply was lost, and it is said again.
    assert!(!hand.settle(&held, 0, "{[0,8)}", more).await.unwrap());
    assert_eq!(history(&hand).await, expected);
    // Another handler's work is its own, and what is purged is kept as removed.
    hand.value::<i32>(&format!("SELECT removed FROM host.q__purge({other}, 0, 10)")).await;
    let of_other =
        format!("SELECT count(*) FROM host.q__history WHERE handler_id = {other} AND removed");
    assert_eq!(hand.value::<i64>(&of_other).await, 7);
}

#[tokio::test]
async fn a_leaf_of_the_history_goes_when_all_in_it_is_old_enough() {
    let (_db, client, hand) = SqlHost::with_queue(AN_HOUR).await;
    // One for each leaf: settled 5, 15 … 115 minutes ago.
    hand.run(
        "INSERT INTO host.q__history (message_id, lease_id, enqueued_at, leased_at, settled_at, handler_id, session_id,
             slot, attempt, removed, handler, payload)
         SELECT n, 1, at, at, at, 1, 1, host.history_slot(at, 3600000), 1, false, 'default', to_jsonb(n)
         FROM generate_series(0, 11) n, LATERAL (SELECT now() - (n * 10 + 5) * interval '1 min' AS at) x",
    )
    .await;
    assert_eq!(hand.value::<i64>("SELECT count(DISTINCT slot) FROM host.q__history").await, 12);
    client.batch_execute("BEGIN; SELECT FROM host.q__history WHERE message_id = 11").await.unwrap();
    let truncate = "SELECT host.q__truncate_history()";
    assert_eq!(hand.value::<i32>(truncate).await, 0, "somebody reads it");
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(hand.value::<i32>(truncate).await, 6);
    assert_eq!(hand.value::<i32>(truncate).await, 0);
    let left = "SELECT array_agg(message_id ORDER BY message_id) FROM host.q__history";
    assert_eq!(hand.value::<Vec<i64>>(left).await, [0, 1, 2, 3, 4, 5]);
    // The time for which a queue keeps counts for what it has kept already.
    hand.run("SELECT host.set_keep('q', 1800000)").await;
    assert_eq!(hand.value::<i32>(truncate).await, 3);
    hand.run("SELECT host.set_keep('q', NULL)").await;
    assert_eq!(hand.value::<i32>(truncate).await, 3);
    assert_eq!(hand.value::<i64>("SELECT count(*) FROM host.q__history").await, 0);
}

#[tokio::test]
async fn a_queue_keeps_what_is_settled_from_when_it_is_told_to_until_it_is_told_not_to() {
    let (_db, client, hand) = SqlHost::with_queue(ROTATES_ALWAYS).await;
    let settle = async |n: i64| {
        hand.enqueue(n, n).await;
        hand.work_off().await;
    };
    settle(1).await;
    for keep in ["3600000", "7200000"] {
        hand.run(&format!("SELECT host.set_keep('q', {keep})")).await;
    }
    settle(2).await;
    hand.run("SELECT host.set_keep('q', NULL)").await;
    settle(3).await;
    hand.run("SELECT host.set_keep('q', 3600000)").await;
    settle(4).await;
    assert_eq!(history(&hand).await, ["2 1", "4 1"]);
    // Nothing that is kept has the id of a message to come.
    hand.run(
        "INSERT INTO host.q__history (message_id, lease_id, enqueued_at, leased_at, settled_at, handler_id, session_id,
             slot, attempt, removed, handler, payload)
         SELECT message_id + 7 * 100000000000, lease_id, enqueued_at, leased_at, settled_at, handler_id, session_id,
             slot, attempt, removed, handler, '5' FROM host.q__history WHERE payload = '4'",
    )
    .await;
    let most: i64 = value(&client, "SELECT max(message_id) FROM host.q__history").await;
    client.batch_execute("SELECT host.q__rebase()").await.unwrap();
    let next: i64 = value(&client, "SELECT nextval('queue.q_id_seq')").await;
    assert!(next > most, "{next} and {most}");
    assert_eq!(history(&hand).await, ["2 1", "4 1", "5 1"]);
    hand.run("SELECT host.drop_queue('q', true)").await;
    let tables = "SELECT count(*) FROM pg_class WHERE relname LIKE 'q\\_\\_%'";
    assert_eq!(value::<i64>(&client, tables).await, 0);
}

#[tokio::test]
async fn how_long_a_queue_keeps_is_a_setting() {
    let db = TestDb::new().await;
    let host = async |args: &str| db.host(&args.split(' ').collect::<Vec<_>>()).await;
    let error = host("queue create q --keep 30s").await.error(2);
    assert_eq!(error, "keep 30s is out of range: use 1m to 3650days");
    host("queue create q --keep 7d").await.ok();
    let text = host("queue show q").await.ok();
    assert!(text.contains("\nKeeps        settled messages for 7days\n"), "{text}");
    let list: Value = serde_json::from_str(&host("queue list --json").await.ok()).unwrap();
    assert_eq!(list[0]["keep_ms"], 604_800_000);
    assert_eq!(host("peek q --settled").await.ok(), "No message is kept\n");
    assert_eq!(
        host("queue set q --keep off").await.ok(),
        "Changed queue q:\n  keep  7days -> off\n"
    );
    let error = host("peek q --settled").await.error(2);
    assert!(error.contains("`host queue set q --keep 7d`"), "{error}");
    let error = host("queue set q --keep 99999d").await.error(2);
    assert!(error.contains("out of range"), "{error}");
    let error = host("queue set p --keep 7d").await.error(2);
    assert!(error.contains("no queue"), "{error}");
}
