//! Hosts that are killed, frozen, stopped and cut off in the middle of their work: every message is
//! handled, and what a handler enqueues comes once for each message that was acked.

use nix::sys::signal::Signal;

use crate::harness::postgres::OwnServer;
use crate::harness::process::Serve;
use crate::harness::server::scratch_dir;
use crate::harness::{Deployment, Scene, wait_until};

mod network;
mod postgres;

/// Enough that a host is in the middle of it when the test looks.
const MESSAGES: i64 = 6_000;

const IN_SINK: &str = "SELECT count(*) FROM queue.sink";

/// Messages whose handler enqueues the number of the message on `sink`.
async fn enqueue_numbers(scene: &Scene, from: i64, to: i64) {
    let sql = format!(
        "INSERT INTO queue.work (payload) SELECT jsonb_build_object(
             'do', 'enqueue', 'n', 1, 'queue', 'sink', 'text', i::text)
         FROM generate_series({from}, {to}) i"
    );
    scene.run(&sql).await;
}

/// Waits until all is done, and checks that each of `count` numbers came once.
async fn each_came_once(scene: &Scene, count: i64) {
    scene.wait_done("work").await;
    let twice = "SELECT payload FROM queue.sink GROUP BY payload HAVING count(*) > 1";
    assert_eq!(scene.texts(twice).await, Vec::<String>::new(), "more than once");
    assert_eq!(scene.number(IN_SINK).await, count, "not all came");
    assert_eq!(scene.number("SELECT count(*) FROM host.work__dead_letter").await, 0);
}

async fn wait_in_sink(scene: &Scene, at_least: i64) {
    wait_until(&format!("{at_least} messages are done"), async || {
        scene.number(IN_SINK).await >= at_least
    })
    .await;
}

#[tokio::test]
async fn what_a_killed_host_had_begun_runs_elsewhere_and_happens_once() {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let mut hosts = vec![scene.serve("first", &[]), scene.serve("second", &[])];
    enqueue_numbers(&scene, 1, MESSAGES).await;
    for at in [MESSAGES / 5, MESSAGES / 2] {
        hosts.push(scene.serve("next", &[]));
        wait_in_sink(&scene, at).await;
        hosts.remove(0).kill();
    }
    each_came_once(&scene, MESSAGES).await;
    let lost = "SELECT count(*) FROM host.session WHERE lost";
    scene.wait_number(lost, 2).await;
}

#[tokio::test]
async fn a_frozen_host_wakes_to_find_that_its_messages_are_others() {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let frozen = scene.serve("frozen", &[]);
    let session = scene.session("frozen").await;
    // While it sleeps its message is not settled, and its verdict comes when the host wakes.
    enqueue_numbers(&scene, 1, 1_000).await;
    scene
        .run(
            r#"INSERT INTO queue.work (payload) VALUES
               ('{"do": "enqueue", "ms": 5000, "n": 1, "queue": "sink", "text": "late"}')"#,
        )
        .await;
    wait_in_sink(&scene, 1).await;
    scene.wait_held("work", session).await;
    frozen.signal(Signal::SIGSTOP);

    let other = scene.serve("other", &[]);
    each_came_once(&scene, 1_001).await;
    let ended = format!("SELECT count(*) FROM host.session WHERE id = {session} AND lost");
    scene.wait_number(&ended, 1).await;

    frozen.signal(Signal::SIGCONT);
    frozen.wait_for_log("the session was lost; beginning another").await;
    assert!(scene.session("frozen").await > session);
    assert!(other.terminate().await.success());
    enqueue_numbers(&scene, 1_001, 2_000).await;
    each_came_once(&scene, 2_001).await;
}

#[tokio::test]
async fn a_host_that_is_told_to_stop_finishes_what_it_has_begun() {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let host = scene.serve("host", &["--poll", "1h"]);
    let session = scene.session("host").await;
    scene
        .run(
            r#"INSERT INTO queue.work (payload) VALUES
               ('{"do": "enqueue", "ms": 2000, "n": 1, "queue": "sink", "text": "begun"}')"#,
        )
        .await;
    scene.wait_held("work", session).await;
    // Then no look is under way that could find what comes after the signal.
    scene.wait_number("SELECT last_value FROM host.work__asleep", 1).await;
    host.signal(Signal::SIGTERM);
    host.wait_for_log("draining").await;
    enqueue_numbers(&scene, 1, 10).await;
    assert!(host.wait().await.success());
    assert_eq!(scene.texts("SELECT payload FROM queue.sink").await, ["begun"]);
    assert_eq!(scene.in_flight("work").await, 0);
    let stopped = "SELECT count(*) FROM host.session WHERE ended_at IS NOT NULL AND NOT lost";
    assert_eq!(scene.number(stopped).await, 1);

    let _next = scene.serve("next", &[]);
    each_came_once(&scene, 11).await;
}

#[tokio::test]
async fn a_host_that_is_told_twice_stops_at_once_and_its_messages_run_elsewhere() {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let host = scene.serve("host", &[]);
    let session = scene.session("host").await;
    scene
        .run(r#"INSERT INTO queue.work (payload) VALUES ('{"do": "sleep", "ms": 3600000}')"#)
        .await;
    scene.wait_held("work", session).await;
    // The next version acks; what is in flight stays with the one before.
    let version = scene.deploy("work", "echo", Deployment::default()).await;
    scene.wait_loaded("work", version, 1).await;
    host.signal(Signal::SIGTERM);
    host.wait_for_log("draining").await;
    assert_eq!(scene.in_flight("work").await, 1);
    host.signal(Signal::SIGTERM);
    assert!(host.wait().await.success());
    // It has said so: nobody needs to wait for signs of life.
    let stopped = "SELECT count(*) FROM host.session WHERE ended_at IS NOT NULL AND NOT lost";
    assert_eq!(scene.number(stopped).await, 1);

    let _next = scene.serve("next", &[]);
    each_came_once(&scene, 0).await;
}

#[tokio::test]
async fn a_message_that_kills_its_hosts_is_poison_and_its_neighbours_survive() {
    let scene = Scene::new("").await;
    // One sandbox: what is leased with the poison waits behind it, and is in flight too.
    let how = Deployment { concurrency: 1, ..Deployment::default() };
    scene.deploy("work", "misbehave", how).await;
    let mut host = scene.serve("host 0", &[]);
    let mut session = scene.session("host 0").await;
    scene
        .run(
            r#"INSERT INTO queue.work (payload)
               SELECT '{"do": "sleep", "ms": 3600000}' UNION ALL
               SELECT jsonb_build_object('do', 'enqueue', 'n', 1, 'queue', 'sink', 'text', i::text)
               FROM generate_series(1, 50) i"#,
        )
        .await;
    scene.wait_held("work", session).await;
    for n in 1..=host_queue::lease::DEATHS_MAX {
        let name = format!("host {n}");
        let next = scene.serve(&name, &[]);
        let next_session = scene.session(&name).await;
        scene.wait_loaded("work", 1, 2).await;
        host.kill();
        scene
            .wait_number(
                &format!("SELECT count(*) FROM host.session WHERE id = {session} AND lost"),
                1,
            )
            .await;
        if n < host_queue::lease::DEATHS_MAX {
            scene.wait_held("work", next_session).await;
        }
        (host, session) = (next, next_session);
    }
    let dead =
        "SELECT reason || ': ' || error || ', ' || (payload ->> 'do') FROM host.work__dead_letter";
    scene.wait_number("SELECT count(*) FROM host.work__dead_letter", 1).await;
    assert_eq!(scene.texts(dead).await, ["poison: 5 hosts died with it in flight, sleep"]);
    scene.wait_number(IN_SINK, 50).await;
    scene.wait_done("work").await;
    stays(&host);
}

/// It is alive, and nobody holds it for dead.
fn stays(host: &Serve) {
    assert!(!host.log().contains("the session is over"), "{}", host.log());
}
