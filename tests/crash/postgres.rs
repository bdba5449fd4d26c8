//! Postgres goes, and comes back: hosts go on, and none is taken for dead.

use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::*;

#[tokio::test]
async fn a_crash_of_the_server_loses_nothing_and_no_host_is_held_for_dead() {
    let mut server = OwnServer::start(&scratch_dir(), &[]).await;
    let scene = server.migrated().await;
    scene.queue("work", "").await;
    scene.queue("sink", "p_payload_type => 'text'").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let hosts = [scene.serve("a", &[]), scene.serve("b", &[])];
    scene.wait_loaded("work", 1, 2).await;
    enqueue_numbers(&scene, 1, MESSAGES).await;
    wait_in_sink(&scene, MESSAGES / 5).await;

    server.crash().await;
    server.start_again().await;

    let scene = server.scene().await;
    each_came_once(&scene, MESSAGES).await;
    let ended = "SELECT count(*) FROM host.session WHERE ended_at IS NOT NULL";
    assert_eq!(scene.number(ended).await, 0);
    hosts.iter().for_each(stays);
    for host in hosts {
        assert!(host.terminate().await.success());
    }
}

/// As when the kernel is short of memory: then Postgres ends all the others and begins anew, and
/// the server is the same one. All locks are gone as after a restart.
#[tokio::test]
async fn a_crash_of_one_backend_is_nobodys_death() {
    let server = OwnServer::start(&scratch_dir(), &[]).await;
    let scene = server.migrated().await;
    scene.queue("work", "").await;
    scene.queue("sink", "p_payload_type => 'text'").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let mut hosts = Vec::new();
    for (session, name) in [(1, "a"), (2, "b")] {
        hosts.push(scene.serve(name, &[]));
        assert_eq!(scene.session(name).await, session);
    }
    scene.wait_loaded("work", 1, 2).await;
    let server_started = "SELECT DISTINCT server_started FROM host.beat(0, 0)";
    let before = scene.texts(server_started).await;
    enqueue_numbers(&scene, 1, MESSAGES).await;
    wait_in_sink(&scene, MESSAGES / 5).await;
    let backend = "SELECT max(pid) FROM pg_stat_activity WHERE application_name = 'host session 1'";
    let pid = Pid::from_raw(scene.number(backend).await as i32);
    // Frozen for longer than it takes to recover, so that they have neither locks nor beats.
    hosts[1].signal(Signal::SIGSTOP);
    kill(pid, Signal::SIGKILL).unwrap();
    wait_until("Postgres is back", async || {
        scene.client.is_closed()
            && tokio_postgres::connect(server.url(), tokio_postgres::NoTls).await.is_ok()
    })
    .await;

    let scene = server.scene().await;
    assert_ne!(
        scene.texts(server_started).await,
        before,
        "hosts can tell that it is not as it was"
    );
    let beats = "SELECT max(beat) FROM host.heartbeat WHERE session_id = 1";
    let long_enough = scene.number(beats).await + 16;
    wait_until("the other has beaten for long enough to bury it", async || {
        scene.number(beats).await >= long_enough
    })
    .await;
    hosts[1].signal(Signal::SIGCONT);
    each_came_once(&scene, MESSAGES).await;
    let ended = "SELECT count(*) FROM host.session WHERE ended_at IS NOT NULL";
    assert_eq!(scene.number(ended).await, 0);
    hosts.iter().for_each(stays);
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
