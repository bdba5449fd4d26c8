//! The isolation that a role or a database has by default: commands and hosts do not mind it, and a
//! function that looks under a lock refuses a transaction that cannot see what was committed while
//! it waited.

use crate::harness::sql_host::{
    ROTATES_ALWAYS, backend, create_queue, deploy, value, wait_for_lock,
};
use crate::harness::{Deployment, Scene, SqlHost, TestDb, wait_until};

const OTHERS: [&str; 2] = ["repeatable read", "serializable"];

#[tokio::test]
async fn what_looks_under_a_lock_refuses_an_older_snapshot() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", &format!("{ROTATES_ALWAYS}, p_keep_ms => 1")).await;
    let hand = SqlHost::new(&db, "q", deploy(&client, "q", "default").await).await;
    hand.enqueue(1, 300).await;
    hand.next_generation().await;
    hand.work_off().await;
    let handler = hand.handler;
    for isolation in OTHERS {
        for call in [
            "host.drop_queue('q')".to_owned(),
            "host.q__truncate(0)".into(),
            "host.q__truncate_schedule()".into(),
            "host.q__truncate_history()".into(),
            "host.q__advance()".into(),
            "host.q__rebase()".into(),
            "host.q__deliver_missed()".into(),
            format!("host.q__purge({handler}, 0, 10)"),
            format!("host.remove_handler({handler})"),
            format!("host.begin_from_now({handler})"),
            "host.deploy('q', 'new', '', '{}', 'message', 1, 1, 1, 1, 1, 1, 1)".into(),
        ] {
            let sql = format!("BEGIN ISOLATION LEVEL {isolation}; SELECT {call}");
            let error = client.batch_execute(&sql).await.expect_err(&sql);
            client.batch_execute("ROLLBACK").await.unwrap();
            let error = error.as_db_error().unwrap();
            assert_eq!(error.code().code(), "25000", "{sql}: {error}");
            let said = error.message();
            let wanted = format!(
                "needs a READ COMMITTED transaction; this one is {}",
                isolation.to_uppercase()
            );
            assert!(said.ends_with(&wanted), "{sql}: {said}");
            assert!(error.hint().unwrap().contains("READ COMMITTED"), "{sql}");
        }
    }
    assert_eq!(hand.truncate(0).await, None);
}

#[tokio::test]
async fn a_message_that_commits_while_a_drop_waits_is_never_dropped() {
    for isolation in OTHERS {
        let db = TestDb::new().await;
        let client = db.client().await;
        create_queue(&client, "q", "").await;
        let alter =
            format!("ALTER DATABASE {} SET default_transaction_isolation = '{isolation}'", db.name);
        client.batch_execute(&alter).await.unwrap();
        client.batch_execute("BEGIN; INSERT INTO queue.q (payload) VALUES ('1')").await.unwrap();
        let drop = async { db.host(&["queue", "drop", "q"]).await.error(1) };
        let commit = async {
            let watcher = db.client().await;
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                AND datname = current_database() AND query LIKE '%drop_queue%'";
            wait_until("the drop waits for the producer", async || {
                value::<i64>(&watcher, waits).await == 1
            })
            .await;
            client.batch_execute("COMMIT").await.unwrap();
        };
        let (error, ()) = tokio::join!(drop, commit);
        assert!(error.contains("has messages left: 1 waiting"), "{isolation}: {error}");
        assert_eq!(value::<i64>(&client, "SELECT count(*) FROM queue.q").await, 1);
    }
}

/// The work of an operator, and the main job.
#[tokio::test]
async fn commands_and_hosts_work_whatever_the_default_is() {
    for isolation in OTHERS {
        let scene = Scene::new("").await;
        scene.deploy("work", "echo", Deployment::default()).await;
        let alter = format!(
            "ALTER DATABASE {} SET default_transaction_isolation = '{isolation}'",
            scene.db.name
        );
        scene.run(&alter).await;
        let host = scene.serve("host", &[]);
        scene.run("INSERT INTO queue.work (payload) SELECT '1' FROM generate_series(1, 100)").await;
        scene.wait_done("work").await;
        assert!(host.terminate().await.success());
        scene.db.host(&["enqueue", "work", "1"]).await.ok();
        scene.db.host(&["queue", "purge", "work", "--yes"]).await.ok();
        let found = scene.db.host(&["doctor", "--json"]).await.stdout;
        assert!(!found.contains("isolation"), "{found}");
        scene.db.host(&["queue", "drop", "work"]).await.ok();
    }
}

/// What a handler that begins from now on passes by is told by one snapshot: its cursor's.
#[tokio::test]
async fn a_handler_from_now_on_lets_go_of_no_key_of_a_message_of_its_own() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", "").await;
    client.batch_execute("SELECT host.set_unique('q', 0)").await.unwrap();
    let enqueue =
        |key: &str| format!("INSERT INTO queue.q (payload, unique_key) VALUES ('1', '{key}')");
    client.batch_execute(&enqueue("before")).await.unwrap();
    // The cursor's snapshot is there, and its row waits.
    client
        .batch_execute(
            "CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END'",
        )
        .await
        .unwrap();
    let deployer = db.client().await;
    deployer.batch_execute("BEGIN").await.unwrap();
    let handler = deploy(&deployer, "q", "default").await;
    deployer
        .batch_execute(
            "CREATE TRIGGER wait BEFORE INSERT ON host.q__lease_0 FOR EACH ROW EXECUTE FUNCTION public.wait()",
        )
        .await
        .unwrap();
    client.batch_execute("SELECT pg_advisory_lock(7)").await.unwrap();
    let pid = backend(&deployer).await;
    let begin = async {
        let call = format!("SELECT host.begin_from_now({handler}); COMMIT");
        deployer.batch_execute(&call).await.unwrap();
    };
    let meanwhile = async {
        wait_for_lock(&client, pid).await;
        client.batch_execute(&enqueue("between")).await.unwrap();
        client.batch_execute("SELECT pg_advisory_unlock(7)").await.unwrap();
    };
    tokio::join!(begin, meanwhile);
    let free = "SELECT string_agg(key, ',') FROM host.q__unique WHERE settled_by <> '{}'";
    assert_eq!(value::<String>(&client, free).await, "before");
    let hand = SqlHost::new(&db, "q", handler).await;
    assert_eq!(hand.lease(10).await.expect("the one between").count, 1);
}
