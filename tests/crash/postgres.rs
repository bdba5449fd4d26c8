//! Postgres goes, and comes back: hosts go on, and none is taken for dead.

use host::embedded::Embedded;
use host::queue::connect::Database;
use host::queue::migrate::{Migrations, migrate};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::*;
use crate::harness::TestDb;
use crate::harness::server::scratch_dir;
use crate::harness::watchdog::quit_with_us;

/// A server of the test's own, since it is going to crash. It keeps what it has said is durable: the
/// machine does not go with it.
async fn start(dir: &std::path::Path) -> Embedded {
    let embedded = Embedded::start_with(dir, &[("fsync", "off")]).await.expect("a server");
    quit_with_us(embedded.pid());
    embedded
}

#[tokio::test]
async fn a_crash_of_the_server_loses_nothing_and_no_host_is_held_for_dead() {
    let dir = scratch_dir();
    let server = start(&dir).await;
    let url = server.url().to_owned();
    let mut alone = Database::new(&url, 4).unwrap().connect_alone().await.unwrap();
    migrate(&mut alone.client, &Migrations::embedded().unwrap()).await.unwrap();
    let db = TestDb { name: "postgres".into(), url: url.clone() };
    let scene = Scene::of(db.clone()).await;
    scene.queue("work", "").await;
    scene.queue("sink", "p_payload_type => 'text'").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let hosts = [scene.serve("a", &[]), scene.serve("b", &[])];
    scene.wait_loaded("work", 1, 2).await;
    enqueue_numbers(&scene, 1, MESSAGES).await;
    wait_in_sink(&scene, MESSAGES / 5).await;

    // As `pg_ctl stop -m immediate` does: every backend is gone in an instant, and the log is replayed.
    kill(Pid::from_raw(server.pid()), Signal::SIGQUIT).unwrap();
    let gone = server.pid();
    drop(server);
    wait_until("the server is gone", async || {
        std::fs::read_link(format!("/proc/{gone}/exe")).is_err()
    })
    .await;
    let server = start(&dir).await;
    assert_eq!(server.url(), url, "hosts look for it where it was");

    let scene = Scene::of(db).await;
    each_came_once(&scene, MESSAGES).await;
    let ended = "SELECT count(*) FROM host.session WHERE ended_at IS NOT NULL";
    assert_eq!(scene.number(ended).await, 0);
    hosts.iter().for_each(stays);
    for host in hosts {
        assert!(host.terminate().await.success());
    }
    drop(scene);
    assert!(server.stop_if_last().await.unwrap());
}

#[tokio::test]
async fn hosts_whose_connections_are_cut_go_on() {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let hosts = [scene.serve("a", &[]), scene.serve("b", &[])];
    scene.wait_loaded("work", 1, 2).await;
    enqueue_numbers(&scene, 1, MESSAGES).await;
    for at in 1..=4 {
        wait_in_sink(&scene, MESSAGES * at / 5).await;
        scene
            .run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await;
    }
    each_came_once(&scene, MESSAGES).await;
    let sessions = "SELECT count(*) FROM host.session";
    assert_eq!(scene.number(sessions).await, 2);
    assert_eq!(
        scene.number("SELECT count(*) FROM host.session WHERE ended_at IS NOT NULL").await,
        0
    );
    hosts.iter().for_each(stays);
}
