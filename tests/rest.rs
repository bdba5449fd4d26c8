//! Queues at rest: nobody looks at them, however many there are, and whatever comes to them is
//! found all the same. Here nothing notifies, so that only the watch over their marks can find it.

use crate::harness::{Deployment, Scene, wait_until};

const DONE: &str = "SELECT coalesce(sum(host.positions(settled)), 0) FROM host.work__settlement";
/// Calls of what looks at a single queue.
const LOOKS: &str = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_user_functions
    WHERE schemaname = 'host' AND funcname ~ '__(lease|lease_lanes|lease_of|promote|rotation|strays)$'";
/// Signs of life of a host, four a second.
const BEATS: &str = "SELECT count(*) FROM host.heartbeat";
/// Inserts as replication does: no trigger tells a host.
const UNHEARD: &str = "SET session_replication_role = replica";

/// A host with a queue, and others beside it.
async fn scene(options: &str, others: usize) -> Scene {
    let scene = Scene::new(options).await;
    let track = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET track_functions = ''pl''',
        current_database()); END $$";
    scene.run(track).await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    for n in 0..others {
        scene.queue(&format!("q{n}"), "").await;
        scene.deploy(&format!("q{n}"), "misbehave", Deployment::default()).await;
    }
    scene
}

/// Waits until a host looks at no single queue while it gives some signs of life.
async fn wait_at_rest(scene: &Scene) {
    let mut looks = -1;
    let mut until = 0;
    wait_until("no queue is looked at", async || {
        let now = scene.number(LOOKS).await;
        let beats = scene.number(BEATS).await;
        if now != looks {
            looks = now;
            until = beats + 12;
        }
        beats >= until
    })
    .await;
}

#[tokio::test]
async fn idle_queues_are_not_looked_at_and_messages_are_found() {
    let scene = scene("", 12).await;
    let _host = scene.serve("host", &[]);
    scene.wait_loaded("work", 1, 1).await;
    wait_at_rest(&scene).await;
    scene.run(UNHEARD).await;
    scene.run(r#"INSERT INTO queue.work (payload) VALUES ('{"do": "ack"}')"#).await;
    scene.wait_number(DONE, 1).await;
    wait_at_rest(&scene).await;
    // Due later: parked, promoted, done.
    let later = r#"INSERT INTO queue.work (payload, run_at) VALUES ('{"do": "ack"}', now() + interval '2 s')"#;
    scene.run(later).await;
    scene.wait_number(DONE, 3).await;
    wait_at_rest(&scene).await;
}

#[tokio::test]
async fn what_commits_long_after_its_insert_is_found() {
    let scene = scene("p_wake_up => false", 0).await;
    let _host = scene.serve("host", &[]);
    scene.wait_loaded("work", 1, 1).await;
    wait_at_rest(&scene).await;
    let insert = r#"INSERT INTO queue.work (payload) VALUES ('{"do": "ack"}')"#;
    let slow = scene.db.client().await;
    slow.batch_execute(&format!("BEGIN; {insert}")).await.unwrap();
    scene.run(&format!("BEGIN; {insert}; PREPARE TRANSACTION 'slower'")).await;
    // Another comes and goes: that one is over says nothing of the rest.
    scene.run(insert).await;
    scene.wait_number(DONE, 1).await;
    let before = scene.number(LOOKS).await;
    wait_until("the queue is looked at meanwhile", async || {
        scene.number(LOOKS).await > before + 20
    })
    .await;
    slow.batch_execute("COMMIT").await.unwrap();
    scene.wait_number(DONE, 2).await;
    scene.run("COMMIT PREPARED 'slower'").await;
    scene.wait_number(DONE, 3).await;
    wait_at_rest(&scene).await;
}

#[tokio::test]
async fn what_a_lost_host_has_left_is_found() {
    let scene = scene("", 0).await;
    let lost = scene.serve("lost", &[]);
    scene.wait_loaded("work", 1, 1).await;
    let id = scene.session("lost").await;
    scene
        .run(r#"INSERT INTO queue.work (payload) VALUES ('{"do": "sleep", "ms": 3600000}')"#)
        .await;
    scene.wait_held("work", id).await;
    let _host = scene.serve("host", &[]);
    scene.wait_loaded("work", 1, 2).await;
    let heir = scene.session("host").await;
    lost.kill();
    scene.wait_held("work", heir).await;
}

/// What a host does with a queue itself it knows without asking.
#[tokio::test]
async fn a_rotation_goes_on_until_nothing_is_left_to_truncate() {
    let scene = scene("p_rotate_bytes => 65536, p_rotate_age_ms => 10", 0).await;
    for poll in ["1h", "1s"] {
        let host = scene.serve("host", &["--poll", poll]);
        scene.wait_loaded("work", 1, 1).await;
        // With the other it may ask at a moment when a transaction is open, and not again.
        if poll == "1s" {
            wait_at_rest(&scene).await;
        }
        let many = r#"INSERT INTO queue.work (payload) SELECT '{"do": "ack"}' FROM generate_series(1, 3000)"#;
        scene.run(many).await;
        scene.wait_number("SELECT count(*) FROM queue.work", 0).await;
        assert!(host.terminate().await.success());
    }
}

/// A purge puts what is not due on the schedule, and gives out no id of a message.
#[tokio::test]
async fn what_a_purge_puts_on_the_schedule_is_found() {
    let scene = scene("", 0).await;
    let _host = scene.serve("host", &[]);
    scene.wait_loaded("work", 1, 1).await;
    let asleep = "SELECT last_value FROM host.work__asleep";
    scene.wait_number(asleep, 1).await;
    scene.db.host(&["queue", "pause", "work"]).await.ok();
    // The host has heard of it.
    scene.wait_number(asleep, 0).await;
    let later = r#"INSERT INTO queue.work (payload, run_at) VALUES ('{"do": "ack"}', now() + interval '20 s')"#;
    scene.run(later).await;
    wait_at_rest(&scene).await;
    let text = scene.db.host(&["queue", "purge", "work", "--yes"]).await.ok();
    assert!(text.contains("now on the schedule"), "{text}");
    scene.db.host(&["queue", "resume", "work"]).await.ok();
    scene.wait_number(DONE, 2).await;
}

#[tokio::test]
async fn a_queue_whose_mark_is_locked_holds_up_no_other() {
    let scene = scene("p_wake_up => false", 1).await;
    let _host = scene.serve("host", &[]);
    scene.wait_loaded("work", 1, 1).await;
    wait_at_rest(&scene).await;
    let locker = scene.db.client().await;
    locker.batch_execute("BEGIN; ALTER SEQUENCE queue.q0_id_seq CACHE 1").await.unwrap();
    scene.run(r#"INSERT INTO queue.work (payload) VALUES ('{"do": "ack"}')"#).await;
    scene.wait_number(DONE, 1).await;
    locker.batch_execute("ROLLBACK").await.unwrap();
}
