//! Pausing: a paused queue keeps its messages and its place, and costs the others nothing.

use crate::harness::{Deployment, Scene, wait_until};

const NUMBERS: &str =
    "SELECT jsonb_build_object('do', 'enqueue', 'n', 1, 'queue', 'sink', 'text', i::text)
     FROM generate_series";

#[tokio::test]
async fn a_paused_queue_keeps_its_place_and_goes_on_from_there() {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let host = scene.serve("host", &[]);
    scene.run(&format!("INSERT INTO queue.work (payload) {NUMBERS}(1, 10000) i")).await;
    wait_until("some are done", async || {
        scene.number("SELECT count(*) FROM queue.sink").await > 1_000
    })
    .await;
    scene.pause("work", true).await;
    // What is leased is finished; then the last lease stays the last.
    let last = "SELECT max(id) FROM host.work__lease";
    let mut before = 0;
    wait_until("the host has heard of it, and finished what it had", async || {
        let (now, in_flight) = (scene.number(last).await, scene.in_flight("work").await);
        let rests = in_flight == 0 && now == before && host.log().contains("queue paused");
        before = now;
        rests
    })
    .await;
    let done = scene.number("SELECT count(*) FROM queue.sink").await;
    assert!(done < 10_000, "it was too fast for this test");
    scene.run(&format!("INSERT INTO queue.work (payload) {NUMBERS}(10001, 10100) i")).await;

    // It is the queue that is paused, not the host.
    assert!(host.terminate().await.success());
    let _next = scene.serve("next", &[]);
    scene.wait_loaded("work", 1, 1).await;
    assert_eq!(scene.number(last).await, before);
    scene.pause("work", false).await;
    scene.wait_done("work").await;
    let once =
        "SELECT count(*) FROM (SELECT FROM queue.sink GROUP BY payload HAVING count(*) = 1) x";
    assert_eq!(scene.number(once).await, 10_100);
    assert_eq!(scene.number("SELECT count(*) FROM queue.sink").await, 10_100);
}

/// Work is compared, not time: what hosts read of the paused queue while they work off another.
#[tokio::test]
async fn a_paused_queue_with_a_million_messages_is_not_looked_at() {
    let scene = Scene::new("").await;
    scene.queue("backed_up", "p_rotate_bytes => 1000000000").await;
    scene.deploy("backed_up", "misbehave", Deployment::default()).await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    scene.pause("backed_up", true).await;
    scene.run(&format!("INSERT INTO queue.backed_up (payload) {NUMBERS}(1, 1000000) i")).await;

    // What was read so far is the million's own doing.
    let read = "SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_user_tables
         WHERE relname LIKE 'backed\\_up\\_\\_message%'";
    scene.run("SELECT pg_stat_force_next_flush()").await;
    let before = scene.number(read).await;
    let _hosts = [scene.serve("a", &[]), scene.serve("b", &[])];
    scene.wait_loaded("work", 1, 2).await;
    scene.run(&format!("INSERT INTO queue.work (payload) {NUMBERS}(1, 10000) i")).await;
    scene.wait_done("work").await;
    assert_eq!(scene.number("SELECT count(*) FROM queue.sink").await, 10_000);
    assert_eq!(
        scene.number("SELECT count(*) FROM host.backed_up__lease WHERE row_count > 0").await,
        0
    );
    // A look a second by each host's rotation, of a row each.
    let reads = scene.number(read).await - before;
    assert!(reads < 1_000, "{reads} rows of the paused queue were read");

    scene.pause("backed_up", false).await;
    wait_until("the queue goes on", async || {
        scene.number("SELECT count(*) FROM queue.sink").await > 10_500
    })
    .await;
}
