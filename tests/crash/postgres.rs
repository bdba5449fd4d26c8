//! Postgres goes, and comes back: hosts go on, and none is taken for dead.

use super::*;
use crate::harness::postgres::OwnServer;
use crate::harness::server::scratch_dir;

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
