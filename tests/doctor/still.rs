//! What `host doctor` says of what stands still: cron entries, refused messages, locked tables.

use super::{doctor, found, none, one};
use crate::harness::sql_host::{backend, create_queue, deploy, value};
use crate::harness::{Deployment, Scene, SqlHost, TestDb, wait_until};

#[tokio::test]
async fn messages_that_the_database_refuses_are_named_by_status_and_doctor() {
    let scene = Scene::new("p_delays_ms => '{3600000}'").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let (db, client) = (&scene.db, &scene.client);
    let handler: i32 = value(client, "SELECT id FROM host.handler").await;
    let hand = SqlHost::new(db, "work", handler).await;
    scene.run("INSERT INTO queue.work (payload) VALUES ('1'), ('2')").await;
    let held = hand.must_lease(2).await;
    let retry = ", p_retry_pos => '{0,1}', p_retry_delay_ms => '{0,0}', p_retry_entry => ARRAY['{}', '{}']::jsonb[]";
    assert!(hand.settle(&held, 0, "{[0,2)}", retry).await.unwrap());
    none(db, "refused").await;
    scene
        .run("ALTER TABLE queue.work ADD CONSTRAINT no_twos CHECK (payload <> '2') NOT VALID")
        .await;
    hand.value::<i32>("SELECT promoted FROM host.{q}__promote(10)").await;
    let refused = one(db, "refused", "warning").await;
    assert_eq!((&refused["messages"], &refused["handler"]), (&1.into(), &"default".into()));
    assert!(refused["why"].as_str().unwrap().contains("no_twos"), "{refused}");
    let status = db.host(&["status"]).await.ok();
    let line = "! work/default: 1 message refused by the database, see `host doctor`";
    assert!(status.contains(line), "{status}");
}

#[tokio::test]
async fn an_entry_that_cannot_fire_and_a_handler_that_is_paused_are_named() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", "").await;
    deploy(&client, "q", "default").await;
    db.host(&["cron", "add", "nightly", "@daily", "--queue", "q", "--payload", "1"]).await.ok();
    none(&db, "cron_fails").await;
    client
        .batch_execute("SELECT host.cron_failed(id, next_at, 'no room', 1000) FROM host.cron")
        .await
        .unwrap();
    let fails = one(&db, "cron_fails", "error").await;
    assert_eq!((&fails["cron"], &fails["error"]), (&"nightly".into(), &"no room".into()));
    db.host(&["cron", "pause", "nightly"]).await.ok();
    none(&db, "cron_fails").await;

    client.batch_execute("INSERT INTO queue.q (payload) VALUES ('1')").await.unwrap();
    one(&db, "lagging", "warning").await;
    db.host(&["handlers", "pause", "q/default"]).await.ok();
    let paused = one(&db, "paused_handler", "note").await;
    for kind in ["lagging", "no_host"] {
        none(&db, kind).await;
    }
    let remedy = paused["remedy"].as_str().unwrap();
    db.host(&remedy.split(' ').skip(1).collect::<Vec<_>>()).await.ok();
    none(&db, "paused_handler").await;
}

/// Whoever holds a whole table stops all, doctor included.
#[tokio::test]
async fn who_has_locked_a_table_is_named_and_doctor_ends() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", "").await;
    deploy(&client, "q", "default").await;
    for table in ["queue.q", "host.q__lease", "host.queue", "host.cron"] {
        let holder = db.client().await;
        holder.batch_execute(&format!("BEGIN; LOCK TABLE {table}")).await.unwrap();
        let held = one(&db, "held_tables", "error").await;
        assert_eq!(held["tables"], serde_json::json!([table]), "{held}");
        assert_eq!(held["by"]["pid"], backend(&holder).await, "{held}");
        let (code, _) = doctor(&db, &["--patience", "0s"]).await;
        assert_eq!(code, 6);
        drop(holder);
        wait_until("it is free", async || found(&db, "held_tables").await.is_empty()).await;
    }
}

/// A lock of one queue hides nothing about the others, also while it is only waited for.
#[tokio::test]
async fn a_locked_queue_hides_no_other() {
    let db = TestDb::new().await;
    let client = db.client().await;
    for queue in ["a", "b"] {
        create_queue(&client, queue, "").await;
        deploy(&client, queue, "default").await;
        let insert = format!("INSERT INTO queue.{queue} (payload) VALUES ('1')");
        client.batch_execute(&insert).await.unwrap();
    }
    let reader = db.client().await;
    reader.batch_execute("BEGIN; SELECT FROM queue.a").await.unwrap();
    let waiter = db.client().await;
    let locked = tokio::spawn(async move {
        waiter.batch_execute("BEGIN; LOCK TABLE queue.a").await.unwrap();
        waiter
    });
    // A lock that is young, and only waited for.
    let is_asked_for = "SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted";
    wait_until("the lock is asked for", async || {
        !client.query(is_asked_for, &[]).await.unwrap().is_empty()
    })
    .await;
    for _ in ["waited for", "held"] {
        let held = one(&db, "held_tables", "error").await;
        assert_eq!(held["tables"], serde_json::json!(["queue.a"]), "{held}");
        let (_, findings) = doctor(&db, &["--patience", "0s"]).await;
        assert!(
            findings.iter().any(|f| f["kind"] == "lagging" && f["queue"] == "b"),
            "{findings:?}"
        );
        let text = db.host(&["status"]).await.ok();
        assert!(text.contains("! a: its tables are locked, see `host doctor`"), "{text}");
        let json: serde_json::Value =
            serde_json::from_str(&db.host(&["status", "--json"]).await.ok()).unwrap();
        let waiting = json["queues"].as_array().unwrap().iter().map(|q| q["waiting"].clone());
        assert_eq!(waiting.collect::<Vec<_>>(), [serde_json::Value::Null, 1.into()]);
        reader.batch_execute("COMMIT").await.unwrap();
    }
    drop(locked.await.unwrap());

    // The list of queues itself.
    let holder = db.client().await;
    holder.batch_execute("BEGIN; LOCK TABLE host.queue").await.unwrap();
    let text = db.host(&["status"]).await.error(1);
    assert!(text.contains("in the way"), "{text}");
}

#[tokio::test]
async fn a_heartbeat_without_a_partition_is_named() {
    let db = TestDb::new().await;
    let client = db.client().await;
    none(&db, "no_heartbeat").await;
    let detach = "ALTER TABLE host.heartbeat DETACH PARTITION host.heartbeat_1";
    client.batch_execute(detach).await.unwrap();
    let detached = one(&db, "no_heartbeat", "error").await;
    client.batch_execute(detached["attach"][0].as_str().unwrap()).await.unwrap();
    none(&db, "no_heartbeat").await;
}
