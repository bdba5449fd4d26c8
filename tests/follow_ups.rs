//! What a handler enqueues: with a key, a priority and a unique key, as a producer's INSERT would
//! have it.

use serde_json::{Value, json};

use crate::harness::sql_host::{backend, create_queue, deploy, value, wait_for_lock};
use crate::harness::{Deployment, Scene, SqlHost, TestDb, wait_until};

/// The queue `work`, whose handler does what it is told, and the queue `sink`, which takes text.
async fn scene(work: &str, sink: &str) -> Scene {
    let scene = Scene::of(TestDb::new().await).await;
    scene.queue("work", work).await;
    scene.queue("sink", &format!("p_payload_type => 'text'{sink}")).await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    scene
}

async fn enqueue(scene: &Scene, command: Value) {
    let insert = "INSERT INTO queue.work (payload) VALUES ($1)";
    scene.client.execute(insert, &[&command]).await.unwrap();
}

/// Follow-ups with a key reach `sink` in the order of the messages that enqueued them, while these
/// fail and hosts die. With the rights that hosts have.
#[tokio::test(flavor = "multi_thread")]
async fn keys_go_on_in_order_from_one_queue_to_the_next() {
    const KEYS: u32 = 12;
    const NUMBERS: u32 = 40;
    let work = "p_ordered_lanes => 8, p_delays_ms => '{10}', p_max_attempts => 20";
    let scene = scene(work, ", p_ordered_lanes => 4").await;
    let serving = Scene::of(scene.db.as_member_of("host_serve").await).await;
    let first = serving.serve("first", &[]);
    for number in 0..NUMBERS {
        for key in 0..KEYS {
            let failures = u32::from((number * 31 + key * 17) % 7 == 0);
            let (key, text) = (key.to_string(), number.to_string());
            let payload = json!(
                { "do": "watch", "n": failures, "text": text, "queue": "sink", "key": key }
            );
            let insert = "INSERT INTO queue.work (payload, key) VALUES ($1, $2)";
            scene.client.execute(insert, &[&payload, &key]).await.unwrap();
        }
    }
    let _second = serving.serve("second", &[]);
    let some = "SELECT count(*) FROM queue.sink";
    wait_until("some are done", async || scene.number(some).await > 50).await;
    first.kill();
    scene.wait_done("work").await;
    for key in 0..KEYS {
        let done = format!(
            "SELECT split_part(payload, ' ', 1) FROM queue.sink WHERE key = '{key}' ORDER BY id"
        );
        let numbers: Vec<String> = (0..NUMBERS).map(|n| n.to_string()).collect();
        assert_eq!(scene.texts(&done).await, numbers, "key {key}");
    }
}

#[tokio::test]
async fn priorities_are_those_that_the_handler_gives() {
    let scene = scene("", ", p_priorities => true").await;
    for priority in [json!("low"), json!(null), json!("normal"), json!("high")] {
        let text = priority.to_string();
        enqueue(
            &scene,
            json!({"do": "enqueue", "n": 1, "queue": "sink", "text": text, "priority": priority}),
        )
        .await;
    }
    let _host = scene.serve("host", &[]);
    scene.wait_done("work").await;
    let stored = "SELECT payload || ' ' || coalesce(priority::text, 'none') FROM queue.sink
        ORDER BY lane, payload";
    assert_eq!(
        scene.texts(stored).await,
        [r#""high" 1"#, r#""normal" 2"#, "null none", r#""low" 3"#]
    );
}

/// A message that puts one on `sink` with the unique key `k`.
fn unique(text: &str) -> Value {
    json!({"do": "enqueue", "n": 1, "queue": "sink", "text": text, "unique_key": "k"})
}

#[tokio::test]
async fn a_duplicate_is_left_out_and_its_sender_acked() {
    let scene = scene("", "").await;
    scene.run("SELECT host.set_unique('sink', 0)").await;
    let serving = Scene::of(scene.db.as_member_of("host_serve").await).await;
    let _host = serving.serve("host", &[]);
    for text in ["1", "2", "3"] {
        enqueue(&scene, unique(text)).await;
    }
    scene.wait_done("work").await;
    assert_eq!(scene.number("SELECT count(*) FROM queue.sink").await, 1);
    let lost = "SELECT count(*) FROM host.work__dead_letter";
    assert_eq!(scene.number(lost).await, 0);
    let message =
        async |args: &[&str]| scene.db.host(&[&["message", "sink", "1"], args].concat()).await.ok();
    assert!(message(&[]).await.contains("\nUnique key   k\n"));
    let shown: Value = serde_json::from_str(&message(&["--json"]).await).unwrap();
    assert_eq!(shown["unique_key"], "k");
    // Settled, its key is free again.
    let sink = deploy(&scene.client, "sink", "default").await;
    let hand = SqlHost::new(&scene.db, "sink", sink).await;
    hand.ack(&hand.must_lease(10).await).await;
    enqueue(&scene, unique("4")).await;
    scene.wait_done("work").await;
    let texts = scene.texts("SELECT payload FROM queue.sink ORDER BY id").await;
    assert_eq!((texts.len(), texts[1].as_str()), (2, "4"));
    let shown: Value = serde_json::from_str(&message(&["--json"]).await).unwrap();
    assert_eq!(shown["unique_key"], Value::Null, "another has it now");
}

/// Where duplicates are refused, the message that would have enqueued one is tried again, and given
/// up on in the end; its neighbours are none the worse for it.
#[tokio::test]
async fn a_duplicate_that_is_refused_is_a_failed_attempt() {
    let scene = scene("p_max_attempts => 2, p_backoff_base_ms => 1", "").await;
    scene.run("SELECT host.set_unique('sink', 0, 'refuse')").await;
    scene.run("INSERT INTO queue.sink (payload, unique_key) VALUES ('first', 'k')").await;
    enqueue(&scene, json!({"do": "enqueue", "n": 1, "queue": "sink", "text": "neighbour"})).await;
    enqueue(&scene, unique("second")).await;
    enqueue(&scene, json!("ack")).await;
    let _host = scene.serve("host", &[]);
    scene.wait_done("work").await;
    let texts = "SELECT payload FROM queue.sink ORDER BY id";
    assert_eq!(scene.texts(texts).await, ["first", "neighbour"]);
    let dead = "SELECT reason || ' ' || attempt || ': ' || error FROM host.work__dead_letter";
    let dead = scene.texts(dead).await;
    let why = "attempts used up 2: follow-up refused: unique_key \"k\" is taken by message 1 of \
               queue \"sink\" (";
    assert!(dead.len() == 1 && dead[0].starts_with(why), "{dead:?}");
}

#[tokio::test]
async fn a_duplicate_that_is_refused_comes_again_until_its_key_is_free() {
    let work = "p_max_attempts => 1000, p_backoff_base_ms => 1, p_backoff_cap_ms => 20";
    let scene = scene(work, "").await;
    scene.run("SELECT host.set_unique('sink', 0, 'refuse')").await;
    scene.run("INSERT INTO queue.sink (payload, unique_key) VALUES ('first', 'k')").await;
    enqueue(&scene, unique("second")).await;
    let _host = scene.serve("host", &[]);
    let tried = "SELECT count(*) FROM host.work__schedule WHERE attempt > 2";
    wait_until("it is tried again", async || scene.number(tried).await > 0).await;
    let sink = deploy(&scene.client, "sink", "default").await;
    let hand = SqlHost::new(&scene.db, "sink", sink).await;
    hand.ack(&hand.must_lease(10).await).await;
    scene.wait_done("work").await;
    let texts = scene.texts("SELECT payload FROM queue.sink ORDER BY id").await;
    assert_eq!(texts, ["first", "second"]);
}

/// A message may be its own successor: its key is free in the same transaction.
#[tokio::test]
async fn a_follow_up_may_have_the_unique_key_of_its_own_message() {
    let scene = scene("", "").await;
    scene.run("SELECT host.set_unique('work', 0, 'refuse')").await;
    let next =
        json!({"do": "enqueue", "n": 1, "queue": "sink", "text": "the second ran"}).to_string();
    let payload =
        json!({"do": "enqueue", "n": 1, "queue": "work", "text": next, "unique_key": "k"});
    let insert = "INSERT INTO queue.work (payload, unique_key) VALUES ($1, 'k')";
    scene.client.execute(insert, &[&payload]).await.unwrap();
    let _host = scene.serve("host", &[]);
    scene.wait_number("SELECT count(*) FROM queue.sink", 1).await;
    assert_eq!(scene.number("SELECT count(*) FROM queue.work").await, 2);
    assert_eq!(scene.number("SELECT count(*) FROM host.work__dead_letter").await, 0);
}

/// A settlement that has to wait for a key has not taken those that come after it.
#[tokio::test]
async fn unique_keys_are_taken_in_their_own_order() {
    let db = TestDb::new().await;
    let (first, second, third) = (db.client().await, db.client().await, db.client().await);
    create_queue(&first, "q", "").await;
    first.batch_execute("SELECT host.set_unique('q', 0)").await.unwrap();
    let insert =
        |key: &str| format!("INSERT INTO queue.q (payload, unique_key) VALUES ('1', '{key}')");
    first.batch_execute(&format!("BEGIN; {}", insert("a"))).await.unwrap();
    let pid = backend(&second).await;
    let settling = tokio::spawn(async move {
        let call =
            "SELECT host.enqueue_follow_ups('{q,q,q}', '{2,3,4}', '{NULL,NULL,NULL}', '{0,0,0}',
            p_unique_key => '{b,a,NULL}')";
        second.batch_execute(call).await.unwrap();
    });
    wait_for_lock(&third, pid).await;
    third.batch_execute(&format!("SET lock_timeout = '10s'; {}", insert("b"))).await.unwrap();
    first.batch_execute("COMMIT").await.unwrap();
    settling.await.unwrap();
    let stored = "SELECT string_agg(payload::text, ' ' ORDER BY id) FROM queue.q";
    assert_eq!(value::<String>(&third, stored).await, "1 1 4");
}
