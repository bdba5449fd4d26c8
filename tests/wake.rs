//! Waking: a host that sleeps is told of new messages by whoever enqueues them; one that is awake
//! costs producers no NOTIFY. Where nobody may notify, polling does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{StreamExt as _, stream};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::harness::{Deployment, Scene, wait_until};

/// So seldom that a host which relies on it fails the test.
const NEVER: &[&str] = &["--poll", "1h"];

const DONE: &str = "SELECT coalesce(sum(host.positions(settled)), 0) FROM host.work__settlement";
const ASLEEP: &str = "SELECT last_value FROM host.work__asleep";

async fn wait_asleep(scene: &Scene) {
    scene.wait_number(ASLEEP, 1).await;
}

/// Counts what producers tell sleeping hosts.
async fn count_notifications(scene: &Scene) -> Arc<AtomicUsize> {
    let (client, mut connection) = tokio_postgres::connect(&scene.db.url, NoTls).await.unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            if matches!(message, AsyncMessage::Notification(_)) {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    client.batch_execute("LISTEN host_wake").await.unwrap();
    // Dropped, it would close the connection.
    tokio::spawn(async move {
        let _client = client;
        std::future::pending::<()>().await;
    });
    count
}

#[tokio::test]
async fn a_sleeping_host_is_woken_by_insert_and_by_copy() {
    let scene = Scene::new("").await;
    scene.deploy("work", "echo", Deployment::default()).await;
    let _host = scene.serve("host", NEVER);
    wait_asleep(&scene).await;
    scene.run("INSERT INTO queue.work (payload) VALUES ('1')").await;
    scene.wait_number(DONE, 1).await;
    wait_asleep(&scene).await;
    scene.run("INSERT INTO queue.work (payload) SELECT '1' FROM generate_series(1, 10)").await;
    scene.wait_number(DONE, 11).await;
    wait_asleep(&scene).await;
    let copy = r"\copy queue.work (payload) FROM PROGRAM 'seq 100'";
    scene.db.program("psql", &["-c", copy]).await;
    scene.wait_number(DONE, 111).await;
    wait_asleep(&scene).await;
    // A follow-up is an INSERT too; so is a retry that has become due.
    scene
        .run("INSERT INTO queue.work (payload, run_at) VALUES ('1', now() + interval '1 s')")
        .await;
    wait_until("it is done when it is due", async || {
        // The position that parked it counts as settled as well.
        scene.number(DONE).await == 113
    })
    .await;
}

#[tokio::test]
async fn a_host_with_its_hands_full_does_not_keep_another_from_being_woken() {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", Deployment { concurrency: 1, ..Deployment::default() }).await;
    let _hosts = [scene.serve("a", NEVER), scene.serve("b", NEVER)];
    scene.wait_loaded("work", 1, 2).await;
    wait_asleep(&scene).await;
    let [a, b] = [scene.session("a").await, scene.session("b").await];
    // One has its hands full for ever; that must not keep the other from hearing.
    scene
        .run(r#"INSERT INTO queue.work (payload) VALUES ('{"do": "sleep", "ms": 3600000}')"#)
        .await;
    wait_until("one has it", async || {
        scene.held_by("work", a).await + scene.held_by("work", b).await == 1
    })
    .await;
    for n in 1..=5 {
        scene.run(r#"INSERT INTO queue.work (payload) VALUES ('{"do": "ack"}')"#).await;
        scene.wait_number(DONE, n).await;
    }
}

#[tokio::test]
async fn a_host_that_is_awake_costs_producers_no_notify() {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", Deployment { concurrency: 1, ..Deployment::default() }).await;
    let _host = scene.serve("host", NEVER);
    wait_asleep(&scene).await;
    let count = count_notifications(&scene).await;
    scene
        .run(r#"INSERT INTO queue.work (payload) VALUES ('{"do": "sleep", "ms": 3600000}')"#)
        .await;
    let session = scene.session("host").await;
    scene.wait_held("work", session).await;
    scene.wait_number(ASLEEP, 0).await;
    let told = count.load(Ordering::SeqCst);
    for _ in 0..200 {
        scene.run(r#"INSERT INTO queue.work (payload) VALUES ('{"do": "ack"}')"#).await;
    }
    // The last word comes after all that were sent before it.
    scene.run("NOTIFY host_wake, 'nobody'").await;
    wait_until("the last word is heard", async || count.load(Ordering::SeqCst) > told).await;
    assert_eq!(count.load(Ordering::SeqCst), told + 1);
}

#[tokio::test]
async fn a_promotion_of_nothing_wakes_nobody() {
    let scene = Scene::new("").await;
    scene.run("SELECT setval('host.work__asleep', 1)").await;
    let count = count_notifications(&scene).await;
    scene.run("SELECT host.work__promote(100)").await;
    // In the schedule, and not due.
    scene
        .run(
            "INSERT INTO host.work__schedule (due, slot, origin, enqueued_at, attempt, payload)
             SELECT now() + interval '1 h', host.slot(now() + interval '1 h', now()), 1, now(), 1, '1'",
        )
        .await;
    scene.run("SELECT host.work__promote(100)").await;
    scene.run("NOTIFY host_wake, 'nobody'").await;
    wait_until("the last word is heard", async || count.load(Ordering::SeqCst) > 0).await;
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_paused_queue_costs_producers_no_notify() {
    let scene = Scene::new("").await;
    scene.deploy("work", "echo", Deployment::default()).await;
    let _host = scene.serve("host", NEVER);
    wait_asleep(&scene).await;
    scene.run("UPDATE host.queue SET paused = true").await;
    scene.wait_number(ASLEEP, 0).await;
    scene.run("INSERT INTO queue.work (payload) VALUES ('1')").await;
    scene.run("UPDATE host.queue SET paused = false").await;
    scene.wait_number(DONE, 1).await;
}

#[tokio::test]
async fn without_wake_up_polling_does_and_producers_can_prepare_transactions() {
    let scene = Scene::new("p_wake_up => false").await;
    scene.deploy("work", "echo", Deployment::default()).await;
    let host = scene.serve("host", &["--poll", "50ms"]);
    scene.wait_loaded("work", 1, 1).await;
    scene.run("INSERT INTO queue.work (payload) VALUES ('1')").await;
    scene.wait_number(DONE, 1).await;
    assert_eq!(scene.number(ASLEEP).await, 0);

    scene
        .run("BEGIN; INSERT INTO queue.work (payload) VALUES ('2'); PREPARE TRANSACTION 'a'")
        .await;
    scene
        .run("BEGIN; INSERT INTO queue.work (payload) VALUES ('3'); PREPARE TRANSACTION 'b'")
        .await;
    scene.run("INSERT INTO queue.work (payload) VALUES ('4')").await;
    scene.wait_number(DONE, 2).await;
    scene.run("COMMIT PREPARED 'a'").await;
    scene.wait_number(DONE, 3).await;
    scene.run("ROLLBACK PREPARED 'b'").await;
    assert!(host.terminate().await.success());
    scene.wait_done("work").await;
    assert_eq!(scene.number(DONE).await, 3);
}

#[tokio::test]
async fn a_queue_is_set_to_poll_and_back() {
    let scene = Scene::new("").await;
    scene.deploy("work", "echo", Deployment::default()).await;
    let polling = scene.serve("polling", &["--poll", "50ms"]);
    wait_asleep(&scene).await;
    let prepare =
        "BEGIN; INSERT INTO queue.work (payload) VALUES ('1'); PREPARE TRANSACTION 'set to poll'";
    let error = scene.client.batch_execute(prepare).await.expect_err("it has notified");
    assert_eq!(error.code().map(SqlState::code), Some("0A000"));
    scene.run("ROLLBACK").await;

    let set = async |flag| scene.db.host(&["queue", "set", "work", flag]).await;
    let producer = scene.db.client().await;
    producer.batch_execute("BEGIN; INSERT INTO queue.work (payload) VALUES ('1')").await.unwrap();
    set("--no-wake-up").await.error(1);
    producer.batch_execute("COMMIT").await.unwrap();
    assert_eq!(scene.number("SELECT count(*) FROM host.queue WHERE NOT wake_up").await, 0);
    assert_eq!(set("--no-wake-up").await.ok(), "Changed queue work:\n  wake-up  on -> off\n");
    scene.run(prepare).await;
    scene.run("COMMIT PREPARED 'set to poll'").await;
    scene.wait_number(DONE, 2).await;
    assert!(polling.terminate().await.success());

    assert_eq!(set("--wake-up").await.ok(), "Changed queue work:\n  wake-up  off -> on\n");
    let _sleeping = scene.serve("sleeping", NEVER);
    wait_asleep(&scene).await;
    scene.run("INSERT INTO queue.work (payload) VALUES ('3')").await;
    scene.wait_number(DONE, 3).await;
}

/// NOTIFY costs producers something, and nobody would hear it.
#[tokio::test]
async fn when_the_last_host_has_stopped_producers_notify_nobody() {
    let scene = Scene::new("").await;
    scene.deploy("work", "echo", Deployment::default()).await;
    for n in 0..120 {
        scene.queue(&format!("q{n}"), "").await;
        scene.run(&format!("SELECT setval('host.q{n}__asleep', 1)")).await;
    }
    let [a, b] = [scene.serve("a", NEVER), scene.serve("b", NEVER)];
    scene.wait_loaded("work", 1, 2).await;
    wait_asleep(&scene).await;
    assert!(a.terminate().await.success());
    assert_eq!(scene.number(ASLEEP).await, 1, "the other sleeps");
    scene.run("INSERT INTO queue.work (payload) VALUES ('1')").await;
    scene.wait_number(DONE, 1).await;
    wait_asleep(&scene).await;
    assert!(b.terminate().await.success());
    assert_eq!(scene.number(ASLEEP).await, 0);
    let others = "SELECT sum(pg_sequence_last_value(format('host.%s__asleep', name)::regclass)) FROM host.queue";
    assert_eq!(scene.number(others).await, 0, "however many queues there are");
}

/// A host that was killed cannot say that it does not sleep any more.
#[tokio::test]
async fn a_host_that_begins_busy_clears_what_a_killed_one_has_left() {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", Deployment { concurrency: 1, ..Deployment::default() }).await;
    let killed = scene.serve("killed", NEVER);
    wait_asleep(&scene).await;
    killed.kill();
    // A look of it may still be on its way.
    let connections = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'host session %'";
    scene.wait_number(connections, 0).await;
    let message = r#"INSERT INTO queue.work (payload) VALUES ('{"do": "sleep", "ms": 3600000}')"#;
    scene.run(message).await;
    let _host = scene.serve("host", NEVER);
    scene.wait_number(ASLEEP, 0).await;
}
