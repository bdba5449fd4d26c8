//! Too much to do, too few connections, and settings and locks of a database administrator: hosts
//! go on with what can be done, and name the rest in the log once.

use std::collections::HashMap;

use tokio_postgres::{Client, NoTls};

use crate::harness::postgres::OwnServer;
use crate::harness::process::Serve;
use crate::harness::server::scratch_dir;
use crate::harness::sql_host::value;
use crate::harness::{Deployment, Scene, wait_until};

const MIB: u64 = 1 << 20;

/// The most memory that a host has had since the last time, in bytes.
fn peak_since(host: &Serve) -> u64 {
    let dir = format!("/proc/{}", host.pid());
    let status = std::fs::read_to_string(format!("{dir}/status")).expect("its status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    std::fs::write(format!("{dir}/clear_refs"), "5").expect("forget the peak");
    peak.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Fails if a host has said something again and again. Numbers do not make it something else.
#[track_caller]
fn assert_said_once(host: &Serve, at_most: usize) {
    let mut said: HashMap<String, usize> = HashMap::new();
    for line in host.log().lines().filter(|line| line.contains("WARN") || line.contains("ERROR")) {
        let words = line.split_once(' ').map_or(line, |(_, rest)| rest);
        *said.entry(words.replace(|c: char| c.is_ascii_digit(), "")).or_default() += 1;
    }
    let often: Vec<_> = said.iter().filter(|(_, times)| **times > at_most).collect();
    assert!(often.is_empty(), "{often:#?}");
}

/// Messages that put `text` on `sink` `n` times, after `ms`.
async fn enqueue(scene: &Scene, queue: &str, messages: i64, ms: i64, n: i64, text: &str) {
    scene
        .run(&format!(
            "INSERT INTO queue.{queue} (payload) SELECT jsonb_build_object(
                 'do', 'enqueue', 'ms', {ms}, 'n', {n}, 'queue', 'sink', 'text', {text})
             FROM generate_series(1, {messages}) i"
        ))
        .await;
}

async fn waiting(scene: &Scene, queue: &str) -> i64 {
    scene.number(&format!("SELECT waiting + in_flight FROM host.queue_status('{queue}')")).await
}

/// A connection that holds the exclusive lock of a queue's table until it is dropped.
async fn lock(scene: &Scene, queue: &str) -> Client {
    let client = scene.db.client().await;
    client.batch_execute(&format!("BEGIN; LOCK TABLE queue.{queue}")).await.expect("lock it");
    client
}

#[tokio::test]
async fn ten_times_more_than_can_be_handled_takes_neither_memory_nor_anothers_turn() {
    let scene = Scene::new("").await;
    scene.queue("good", "").await;
    let one = Deployment { concurrency: 1, ..Deployment::default() };
    scene.deploy("work", "misbehave", one).await;
    scene.deploy("good", "misbehave", Deployment::default()).await;
    let host = scene.serve("host", &["--connections", "4", "--payload-memory", "64MiB"]);
    scene.wait_loaded("work", 1, 1).await;
    scene.wait_loaded("good", 1, 1).await;
    enqueue(&scene, "good", 1_000, 0, 1, "'warm'").await;
    scene.wait_done("good").await;
    let before = peak_since(&host);

    // 400 MB that would take a minute and a half, and more is offered all the while.
    let work = "INSERT INTO queue.work (payload) SELECT jsonb_build_object(
            'do', 'sleep', 'ms', 5, 'text', repeat('x', 20000)) FROM generate_series(1, 1000)";
    for round in 1..=20 {
        scene.run(work).await;
        enqueue(&scene, "good", 100, 0, 1, "'good'").await;
        let good = "SELECT count(*) FROM queue.sink WHERE payload = 'good'";
        scene.wait_number(good, round * 100).await;
    }
    assert!(waiting(&scene, "work").await > 10_000, "it was not too much");
    let grown = peak_since(&host).saturating_sub(before);
    assert!(grown < 128 * MIB, "{} MiB more than before", grown / MIB);

    // Nothing collapses: given the means, it catches up.
    let many = Deployment { concurrency: 256, ..Deployment::default() };
    scene.deploy("work", "echo", many).await;
    scene.wait_done("work").await;
    assert_said_once(&host, 1);
}

#[tokio::test]
async fn follow_ups_that_cannot_be_settled_are_bounded_in_memory() {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let host = scene.serve("host", &["--payload-memory", "64MiB"]);
    scene.wait_loaded("work", 1, 1).await;
    // Fast ones, so that the next are leased all at once.
    scene
        .run("INSERT INTO queue.work (payload) SELECT '\"ack\"' FROM generate_series(1, 5000)")
        .await;
    scene.wait_done("work").await;
    let before = peak_since(&host);

    let locked = lock(&scene, "sink").await;
    // Nearly 4 MiB each.
    enqueue(&scene, "work", 80, 0, 150, "repeat('x', 26214)").await;
    host.wait_for_log("cannot settle; trying again").await;
    // Enough beats for all of them to run, were nothing in the way.
    let beats = "SELECT max(beat) FROM host.heartbeat";
    let enough = scene.number(beats).await + 30;
    wait_until("it has had its time", async || scene.number(beats).await >= enough).await;
    let grown = peak_since(&host).saturating_sub(before);
    // 64 that may wait, 16 calls that were under way then, their sandboxes, and what is being sent;
    // it would be 320.
    assert!(grown < 256 * MIB, "{} MiB more than before", grown / MIB);
    assert!(waiting(&scene, "work").await > 0);
    drop(locked);
    scene.wait_done("work").await;
    let in_sink = "SELECT count(*) FROM queue.sink WHERE payload LIKE 'x%'";
    assert_eq!(scene.number(in_sink).await, 80 * 150);
    assert_said_once(&host, 1);
}

#[tokio::test]
async fn a_queue_that_is_locked_costs_others_no_connection() {
    let scene = Scene::new("").await;
    for queue in ["a", "b", "c"] {
        scene.queue(queue, "").await;
        scene.deploy(queue, "misbehave", Deployment::default()).await;
    }
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let host = scene.serve("host", &["--connections", "4"]);
    for queue in ["a", "b", "c", "work"] {
        scene.wait_loaded(queue, 1, 1).await;
    }
    // Some of it is in hand when the lock is taken, and has to be settled behind it.
    enqueue(&scene, "work", 2_000, 5, 1, "'work'").await;
    let in_sink = |text| format!("SELECT count(*) FROM queue.sink WHERE payload = '{text}'");
    wait_until("it is in the midst of it", async || scene.number(&in_sink("work")).await > 100)
        .await;
    let locked = lock(&scene, "work").await;
    host.wait_for_log("cannot lease; trying again").await;
    for round in 1..=10 {
        for queue in ["a", "b", "c"] {
            enqueue(&scene, queue, 50, 0, 1, &format!("'{queue}'")).await;
        }
        for queue in ["a", "b", "c"] {
            scene.wait_number(&in_sink(queue), round * 50).await;
        }
    }
    drop(locked);
    scene.wait_done("work").await;
    assert_eq!(scene.number(&in_sink("work")).await, 2_000);
    // One line for each task of the queue: to lease, to settle, to rotate.
    assert_said_once(&host, 1);
}

#[tokio::test]
async fn what_an_administrator_sets_for_others_does_not_hold_for_hosts() {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    for setting in [
        "statement_timeout = '2ms'",
        "lock_timeout = '1ms'",
        "idle_in_transaction_session_timeout = '1ms'",
        "idle_session_timeout = '100ms'",
        "default_transaction_isolation = 'serializable'",
    ] {
        scene.run(&format!("ALTER DATABASE {} SET {setting}", scene.db.name)).await;
    }
    let host = scene.serve("host", &[]);
    let session = scene.session("host").await;
    enqueue(&scene, "work", 2_000, 0, 1, "repeat('x', 1000)").await;
    scene.wait_done("work").await;
    assert_eq!(scene.number("SELECT count(*) FROM queue.sink").await, 2_000);
    assert_eq!(scene.session("host").await, session);
    assert!(!host.log().contains("timeout"), "{}", host.log());
}

#[tokio::test]
async fn a_server_without_a_connection_to_spare_is_waited_for() {
    let server = OwnServer::start(&scratch_dir(), &[("max_connections", "20")]).await;
    let scene = server.migrated().await;
    scene.queue("work", "").await;
    scene.queue("sink", "p_payload_type => 'text'").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let host = scene.serve("host", &[]);
    scene.wait_loaded("work", 1, 1).await;

    enqueue(&scene, "work", 100, 0, 1, "'x'").await;
    // Others take every connection as soon as the host's are cut, until it has lost its session.
    let mut greedy = Vec::new();
    wait_until("the host has no session and gets none", async || {
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'host%'";
        value::<i64>(&scene.client, cut).await;
        while let Ok((client, connection)) = tokio_postgres::connect(server.url(), NoTls).await {
            tokio::spawn(connection);
            greedy.push(client);
        }
        host.log().contains("cannot begin a session; trying again")
    })
    .await;
    assert!(host.log().contains("too many clients"), "{}", host.log());
    drop(greedy);
    scene.wait_done("work").await;
    assert_eq!(scene.number("SELECT count(*) FROM queue.sink").await, 100);
    assert_said_once(&host, 1);
}
