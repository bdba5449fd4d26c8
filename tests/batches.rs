//! Batch handlers on a real host: neighbours of a poison message are not hurt by it, and what a
//! call did in the database is there once, whatever happens.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::process::Serve;
use crate::harness::sql_host::assert_only_inserted;
use crate::harness::{Scene, plugin, wait_until};

/// Deploys `misbehave-batch`, which reports to the queue `sink` what each call has acked.
async fn deploy(scene: &Scene, more: &[&str]) {
    let component = plugin("misbehave-batch").display().to_string();
    let args = ["deploy", "--queue", "work", &component, "--no-wait", "--config", "to=sink"];
    scene.db.host(&[&args, more].concat()).await.ok();
}

async fn enqueue(scene: &Scene, commands: impl IntoIterator<Item = Value>) {
    let commands: Vec<String> = commands.into_iter().map(|command| command.to_string()).collect();
    let insert = "INSERT INTO queue.work (payload) SELECT unnest($1::text[])::jsonb";
    scene.client.execute(insert, &[&commands]).await.unwrap();
}

/// How often each number has been reported, and the sizes of the calls.
async fn reported(scene: &Scene) -> (BTreeMap<u64, u32>, Vec<usize>) {
    let mut times = BTreeMap::new();
    let mut sizes = Vec::new();
    for report in scene.texts("SELECT payload FROM queue.sink ORDER BY id").await {
        let numbers: Vec<u64> = report.split(',').map(|n| n.parse().expect("a number")).collect();
        sizes.push(numbers.len());
        for n in numbers {
            *times.entry(n).or_default() += 1;
        }
    }
    (times, sizes)
}

async fn assert_each_once(scene: &Scene, numbers: impl IntoIterator<Item = u64>) -> Vec<usize> {
    let (times, sizes) = reported(scene).await;
    assert_eq!(times, numbers.into_iter().map(|n| (n, 1)).collect(), "calls of {sizes:?}");
    sizes
}

fn numbers(range: std::ops::Range<u64>) -> impl Iterator<Item = Value> {
    range.map(|n| json!({ "n": n }))
}

#[tokio::test]
async fn many_messages_take_few_calls() {
    let scene = Scene::new("").await;
    deploy(&scene, &["--batch-size", "50"]).await;
    enqueue(&scene, numbers(0..1_000)).await;
    let host = scene.serve("a", &[]);
    scene.wait_done("work").await;
    let sizes = assert_each_once(&scene, 0..1_000).await;
    assert!(sizes.iter().all(|size| *size <= 50) && sizes.contains(&50), "{sizes:?}");
    assert!(sizes.len() < 100, "{sizes:?}");
    host.kill();
}

/// One that traps, one that hangs and one for which a verdict is missing: each is found, and pays
/// alone.
#[tokio::test]
async fn a_poison_message_is_found_and_its_neighbours_are_not_charged() {
    for (command, error) in [
        ("trap", "trap: wasm `unreachable` instruction executed; panicked at "),
        ("sleep", "timeout: no verdict within 1s"),
        ("short", "the handler gave 0 verdicts for 1 message"),
    ] {
        let scene = Scene::new("p_max_attempts => 2, p_backoff_base_ms => 1").await;
        deploy(&scene, &["--timeout", "1s"]).await;
        let poison = json!({"n": 7, "do": command, "ms": 3_600_000});
        enqueue(&scene, numbers(0..7).chain([poison]).chain(numbers(8..20))).await;
        let host = scene.serve("a", &[]);
        scene.wait_done("work").await;
        assert_each_once(&scene, (0..20).filter(|n| *n != 7)).await;
        let dead = "SELECT payload ->> 'n' || ' ' || attempt FROM host.work__dead_letter";
        assert_eq!(scene.texts(dead).await, ["7 2"], "{command}");
        let errors =
            "SELECT e ->> 'error' FROM host.work__dead_letter, jsonb_array_elements(history) e";
        let errors = scene.texts(errors).await;
        assert!(errors.len() == 2 && errors.iter().all(|e| e.starts_with(error)), "{errors:?}");
        // Nobody else was put off for it.
        let retries = "SELECT count(*) FROM host.work__schedule WHERE payload ->> 'n' <> '7'";
        assert_eq!(scene.number(retries).await, 0, "{command}");
        host.kill();
    }
}

#[tokio::test]
async fn verdicts_of_one_call_go_their_own_ways() {
    let scene = Scene::new("p_max_attempts => 2").await;
    deploy(&scene, &[]).await;
    let commands = ["", "dead", "retry", "", "dead"];
    let command = |(n, command): (usize, &&str)| json!({"n": n, "do": command, "ms": 1});
    enqueue(&scene, commands.iter().enumerate().map(command)).await;
    let host = scene.serve("a", &[]);
    scene.wait_done("work").await;
    assert_each_once(&scene, [0, 3]).await;
    let dead = "SELECT payload ->> 'n' || ' ' || reason FROM host.work__dead_letter ORDER BY 1";
    assert_eq!(scene.texts(dead).await, ["1 rejected", "2 attempts used up", "4 rejected"]);
    host.kill();
}

/// Postgres refuses some of the reports: the calls that made them are tried again whole, others are
/// settled.
#[tokio::test]
async fn acks_stand_and_fall_with_their_calls_follow_ups() {
    let scene =
        Scene::new("p_max_attempts => 1000, p_backoff_base_ms => 50, p_backoff_cap_ms => 50").await;
    scene
        .run("ALTER TABLE queue.sink ADD CONSTRAINT no_13 CHECK (payload !~ '(^|,)13(,|$)') NOT VALID")
        .await;
    deploy(&scene, &["--batch-size", "10"]).await;
    enqueue(&scene, (0..40).map(|n| json!({"n": n, "result": "done"}))).await;
    let host = scene.serve("a", &[]);
    let refused = "SELECT count(*) FROM host.work__schedule
        WHERE history @@ '$[*].error starts with \"follow-up refused\"'";
    wait_until("the call with 13 is tried again", async || scene.number(refused).await > 1).await;
    // Both of one moment: messages that were in a call with 13 go on.
    scene.run("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    let (times, _) = reported(&scene).await;
    assert!(!times.contains_key(&13) && times.values().all(|n| *n == 1), "{times:?}");
    let results = "SELECT coalesce(sum(cardinality(results)), 0) FROM host.work__settlement";
    assert_eq!(scene.number(results).await, times.len() as i64, "results of what was not acked");
    scene.run("COMMIT").await;
    scene.run("ALTER TABLE queue.sink DROP CONSTRAINT no_13").await;
    scene.wait_done("work").await;
    assert_each_once(&scene, 0..40).await;
    assert_eq!(scene.number(results).await, 40);
    host.kill();
}

/// A queue that keeps order: a message a call, and what is tried again comes before what follows
/// it.
#[tokio::test]
async fn in_a_queue_that_keeps_order_a_call_has_one_message() {
    let scene = Scene::new("p_ordered_lanes => 2, p_delays_ms => '{10}'").await;
    deploy(&scene, &[]).await;
    for n in 0..12 {
        let command = json!({"n": n, "do": if n % 5 == 2 { "retry" } else { "" }, "fails": 2});
        let insert = "INSERT INTO queue.work (payload, key) VALUES ($1, 'k')";
        scene.client.execute(insert, &[&command]).await.unwrap();
    }
    let host = scene.serve("a", &[]);
    scene.wait_done("work").await;
    let reports = scene.texts("SELECT payload FROM queue.sink ORDER BY id").await;
    assert_eq!(reports, (0..12).map(|n| n.to_string()).collect::<Vec<_>>());
    let tried = "SELECT count(*) FROM host.work__lease WHERE due IS NOT NULL";
    assert_eq!(scene.number(tried).await, 4, "two of them, twice each");
    host.kill();
}

/// What has expired is no message of any call.
#[tokio::test]
async fn an_expired_message_is_left_out_of_its_neighbours_call() {
    let scene = Scene::new("").await;
    deploy(&scene, &[]).await;
    enqueue(&scene, numbers(0..3)).await;
    scene
        .run("INSERT INTO queue.work (payload, expires_at) VALUES ('{\"n\": 3, \"do\": \"trap\"}', now())")
        .await;
    enqueue(&scene, numbers(4..6)).await;
    let host = scene.serve("a", &[]);
    scene.wait_done("work").await;
    assert_eq!(assert_each_once(&scene, [0, 1, 2, 4, 5]).await, [5]);
    let dead = "SELECT payload ->> 'n' || ' ' || reason FROM host.work__dead_letter";
    assert_eq!(scene.texts(dead).await, ["3 expired"]);
    host.kill();
}

/// Hosts are killed in the middle of their calls.
#[tokio::test]
async fn the_reports_of_killed_hosts_are_there_once() {
    let scene = Scene::new("p_max_attempts => 1000").await;
    deploy(&scene, &["--batch-size", "20", "--concurrency", "4"]).await;
    let slow = |n| json!({"n": n, "do": if n % 20 == 0 { "sleep" } else { "" }, "ms": 20});
    enqueue(&scene, (0..2_000).map(slow)).await;
    let start = |n: u32| scene.serve(&format!("host-{n}"), &["--poll", "50ms"]);
    let mut hosts: Vec<Serve> = (0..2).map(start).collect();
    for n in 2..6 {
        let before = scene.number("SELECT count(*) FROM queue.sink").await;
        wait_until("more is done", async || {
            scene.number("SELECT count(*) FROM queue.sink").await > before + 5
        })
        .await;
        hosts.remove(0).kill();
        hosts.push(start(n));
    }
    scene.wait_done("work").await;
    assert_each_once(&scene, 0..2_000).await;
    hosts.into_iter().for_each(Serve::kill);
    let Scene { db, client } = scene;
    drop(client);
    assert_only_inserted(&db).await;
}

/// A message that is removed while its call runs takes nobody along.
#[tokio::test]
async fn a_message_is_cancelled_in_the_middle_of_its_call() {
    let scene = Scene::new("").await;
    deploy(&scene, &["--timeout", "1h"]).await;
    let hang = json!({"n": 3, "do": "sleep", "ms": 3_600_000});
    enqueue(&scene, numbers(0..3).chain([hang]).chain(numbers(4..10))).await;
    let host = scene.serve("a", &["--log-level", "debug"]);
    let session = scene.session("a").await;
    scene.wait_held("work", session).await;
    let id = scene.texts("SELECT id FROM queue.work WHERE payload ->> 'n' = '3'").await.remove(0);
    scene.db.host(&["cancel", "work", &id]).await.ok();
    scene.wait_done("work").await;
    assert_each_once(&scene, (0..10).filter(|n| *n != 3)).await;
    host.kill();
}

#[tokio::test]
async fn the_batch_size_is_a_setting_of_batch_handlers() {
    let scene = Scene::new("").await;
    let size = async || -> Value {
        let all = scene.db.host(&["handlers", "--json"]).await.ok();
        let all: Value = serde_json::from_str(&all).expect("JSON");
        let versions = all.as_array().unwrap().clone();
        versions.into_iter().find(|v| v["in_force"] == true).unwrap()["batch_size"].clone()
    };
    deploy(&scene, &[]).await;
    assert_eq!(size().await, json!(100));
    deploy(&scene, &["--batch-size", "7"]).await;
    deploy(&scene, &["--timeout", "5s"]).await;
    assert_eq!(size().await, json!(7));
    let echo = plugin("echo").display().to_string();
    let deploy_echo = ["deploy", "--queue", "work", &echo, "--no-wait"];
    let error = scene.db.host(&[&deploy_echo[..], &["--batch-size", "7"]].concat()).await.error(2);
    assert!(error.contains("this one takes one message a call"), "{error}");
    scene.db.host(&deploy_echo).await.ok();
    assert_eq!(size().await, Value::Null);
    let component = plugin("misbehave-batch").display().to_string();
    let much = ["deploy", "--queue", "work", &component, "--batch-size", "1001"];
    let error = scene.db.host(&much).await.error(2);
    assert_eq!(error, "batch-size 1001 is out of range: use 1 to 1000");
}

/// A message that comes alone need not wait for company.
#[tokio::test]
async fn a_lonely_message_is_handled_at_once() {
    let scene = Scene::new("").await;
    deploy(&scene, &[]).await;
    let host = scene.serve("a", &[]);
    scene.wait_loaded("work", 1, 1).await;
    for n in 0..3 {
        enqueue(&scene, [json!({ "n": n })]).await;
        scene.wait_done("work").await;
    }
    assert_eq!(assert_each_once(&scene, 0..3).await, [1, 1, 1]);
    assert!(host.terminate().await.success());
}
