//! The catalog: every change of it is seen by all hosts, and none waits for another's transaction.

use tokio_postgres::Client;

use crate::harness::sql_host::{create_queue, deploy, value};
use crate::harness::{Deployment, Scene, SqlHost, TestDb};

const VERSION: &str = "SELECT host.catalog_version()";

/// A connection that waits for nobody.
async fn impatient(db: &TestDb) -> Client {
    let client = db.client().await;
    client.batch_execute("SET lock_timeout = '100ms'").await.unwrap();
    client
}

/// Everything that changes the catalog of one queue, in a transaction that stays open, while the
/// same happens on another.
#[tokio::test]
async fn an_open_change_of_one_queue_holds_up_no_other() {
    let db = TestDb::new().await;
    let client = db.client().await;
    for queue in ["lunch", "other"] {
        create_queue(&client, queue, "").await;
        deploy(&client, queue, "default").await;
    }
    let hand = SqlHost::new(&db, "lunch", 1).await;
    hand.enqueue(1, 1).await;
    let secret = "INSERT INTO host.secret (name, value) VALUES ('a', 'b')";
    let changes = [
        "SELECT host.pause('{q}', true)",
        "SELECT host.pause_handler(h.id, true) FROM host.handler h JOIN host.queue q ON q.id = h.queue_id WHERE q.name = '{q}'",
        "SELECT host.deploy('{q}', 'default', repeat('0', 64), '{}', 'message', 1, 1 << 26, 1000, 1000, 1000, 10, 1000)",
        "SELECT host.deploy('{q}', 'second', repeat('0', 64), '{}', 'message', 1, 1 << 26, 1000, 1000, 1000, 10, 1000)",
        "SELECT host.set_keep('{q}', 60000)",
        "SELECT host.set_queue('{q}', p_max_attempts => 3)",
        "SELECT host.{q}__cancel(id) FROM queue.{q}",
        "SELECT host.create_queue('{q}2')",
        "SELECT host.end_session(host.begin_session('{q}', 0, ''), true)",
    ];
    let open = impatient(&db).await;
    let others = impatient(&db).await;
    for change in changes.into_iter().chain([secret]) {
        let before: i64 = value(&client, VERSION).await;
        open.batch_execute("BEGIN").await.unwrap();
        open.batch_execute(&change.replace("{q}", "lunch")).await.unwrap();
        for change in changes {
            // Back again, so that it can be made once more.
            let change = format!("BEGIN; {}; ROLLBACK", change.replace("{q}", "other"));
            others.batch_execute(&change).await.unwrap_or_else(|e| panic!("{change}: {e:?}"));
        }
        assert_eq!(value::<i64>(&client, VERSION).await, before, "nothing is committed");
        open.batch_execute("COMMIT").await.unwrap();
        assert!(value::<i64>(&client, VERSION).await > before, "{change}");
        open.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    }
}

/// In whatever order changes are committed, each raises the version; adding them up does not change
/// it, and waits for nobody.
#[tokio::test]
async fn the_version_counts_what_is_committed() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "a", "").await;
    create_queue(&client, "b", "").await;
    let before: i64 = value(&client, VERSION).await;
    let (first, second, adds) = (db.client().await, db.client().await, impatient(&db).await);
    first.batch_execute("BEGIN; SELECT host.pause('a', true)").await.unwrap();
    second.batch_execute("SELECT host.pause('b', true)").await.unwrap();
    assert_eq!(value::<i64>(&client, VERSION).await, before + 1);
    adds.batch_execute("SELECT host.count_catalog_changes()").await.unwrap();
    assert_eq!(value::<i64>(&client, VERSION).await, before + 1);
    first.batch_execute("COMMIT").await.unwrap();
    assert_eq!(value::<i64>(&client, VERSION).await, before + 2);
    second.batch_execute("BEGIN; SELECT host.count_catalog_changes()").await.unwrap();
    adds.batch_execute("SELECT host.count_catalog_changes(), host.pause('b', false)")
        .await
        .unwrap();
    assert_eq!(value::<i64>(&client, VERSION).await, before + 3);
    second.batch_execute("COMMIT").await.unwrap();
    adds.batch_execute("SELECT host.count_catalog_changes()").await.unwrap();
    assert_eq!(value::<i64>(&client, VERSION).await, before + 3);
    assert_eq!(value::<i64>(&client, "SELECT count(*) FROM host.catalog_change").await, 0);
}

/// Somebody began a change and went to lunch; then a host dies.
#[tokio::test]
async fn a_dead_hosts_messages_run_elsewhere_while_a_change_is_open() {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    scene.queue("lunch", "").await;
    let dies = scene.serve("dies", &[]);
    let session = scene.session("dies").await;
    let _lives = scene.serve("lives", &[]);
    scene.wait_loaded("work", 1, 2).await;
    let open = scene.db.client().await;
    open.batch_execute("BEGIN; SELECT host.pause('lunch', true)").await.unwrap();
    let messages = r#"INSERT INTO queue.work (payload)
        SELECT '{"do": "sleep", "ms": 300}' FROM generate_series(1, 10)"#;
    scene.run(messages).await;
    dies.kill();
    let buried = format!("SELECT count(*) FROM host.session WHERE id = {session} AND lost");
    scene.wait_number(&buried, 1).await;
    scene.wait_done("work").await;
    open.batch_execute("COMMIT").await.unwrap();
}

/// What changes nothing has no host read the catalog again.
#[tokio::test]
async fn a_statement_that_changes_nothing_is_no_change() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", "").await;
    deploy(&client, "q", "default").await;
    client
        .batch_execute(
            "INSERT INTO host.secret (name, value) VALUES ('a', 'b');
             SELECT host.cron_add('c', 'q', '@daily', 'UTC', 'one', '1', '{}', now(), false)",
        )
        .await
        .unwrap();
    let raised = async |change: &str| {
        let before: i64 = value(&client, VERSION).await;
        client.batch_execute(change).await.unwrap_or_else(|e| panic!("{change}: {e:?}"));
        value::<i64>(&client, VERSION).await > before
    };
    for (table, set) in [
        ("queue", "paused"),
        ("handler", "paused"),
        ("handler_version", "cpu_ms"),
        ("secret", "value"),
        ("cron", "paused"),
    ] {
        for nothing in [
            format!("UPDATE host.{table} SET {set} = {set}"),
            format!("UPDATE host.{table} SET {set} = {set} WHERE false"),
            format!("DELETE FROM host.{table} WHERE false"),
            format!("INSERT INTO host.{table} SELECT * FROM host.{table} WHERE false"),
        ] {
            // An identity of its own is not to be given, even to no row.
            let nothing = nothing.replace("SELECT *", "OVERRIDING SYSTEM VALUE SELECT *");
            assert!(!raised(&nothing).await, "{nothing}");
        }
        let other = match set {
            "paused" => "NOT paused",
            "cpu_ms" => "cpu_ms + 1",
            _ => "'other'",
        };
        assert!(raised(&format!("UPDATE host.{table} SET {set} = {other}")).await, "{table}");
    }
    assert!(raised("DELETE FROM host.cron").await);
}
