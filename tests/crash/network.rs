//! Connections that do not end as they should.

use super::*;
use crate::harness::process::host_command;
use crate::harness::proxy::{Cut, Proxy};

/// A host that reaches Postgres through a proxy.
fn serve_through(proxy: &Proxy, name: &str) -> Serve {
    let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled");
    let mut command = host_command(&["serve", "--name", name, "--cache", cache]);
    command.env("DATABASE_URL", format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port));
    Serve::spawn(command)
}

/// Postgres has closed them, and the host was not told: what it asks is never answered. It has to
/// find other connections, also for ending a session that is dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_whose_connections_are_half_open_finds_others_and_takes_over() {
    let server = OwnServer::start(&scratch_dir(), &[]).await;
    let scene = server.migrated().await;
    scene.queue("work", "").await;
    scene.queue("sink", "p_payload_type => 'text'").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let proxy = Proxy::to(&server.socket()).await;
    let other = scene.serve("other", &[]);
    let session = scene.session("other").await;
    scene.wait_loaded("work", 1, 1).await;
    let slow = r#"{"do": "enqueue", "ms": 3600000, "n": 1, "queue": "sink", "text": "slow"}"#;
    scene.run(&format!("INSERT INTO queue.work (payload) VALUES ('{slow}')")).await;
    scene.wait_held("work", session).await;
    let half_open = serve_through(&proxy, "half-open");
    scene.wait_loaded("work", 1, 2).await;
    enqueue_numbers(&scene, 1, 1_000).await;
    wait_in_sink(&scene, 1_000).await;

    proxy.cut(Cut::OnlyServer);
    other.kill();
    let lost = format!("SELECT count(*) FROM host.session WHERE id = {session} AND lost");
    scene.wait_number(&lost, 1).await;
    let session = scene.session("half-open").await;
    scene.wait_held("work", session).await;
    enqueue_numbers(&scene, 1_001, 2_000).await;
    wait_in_sink(&scene, 2_000).await;
    assert!(!half_open.log().contains("cannot end a dead session"), "{}", half_open.log());
}
