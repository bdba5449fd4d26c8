//! `host doctor`: each finding is provoked, named, and gone when what it advises is done.

mod damage;
mod pooler;
mod rights;
mod still;

use host_embedded::Embedded;
use host_queue::constants::{COUNT_LOCK, CURSOR_LOCK, PROMOTION_LOCK, ROTATION_LOCK};
use serde_json::Value;

use crate::harness::server::{connect, scratch_dir};
use crate::harness::sql_host::{ROTATES_ALWAYS, backend, create_queue, deploy, value};
use crate::harness::watchdog::quit_with_us;
use crate::harness::{Deployment, Scene, SqlHost, TestDb, wait_until};

/// How a run ended, and what it found.
async fn doctor(db: &TestDb, args: &[&str]) -> (i32, Vec<Value>) {
    let finished = db.host(&[&["doctor", "--json"], args].concat()).await;
    let json: Value = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|e| panic!("{e}: {} {}", finished.stdout, finished.stderr));
    let Value::Array(findings) = json["findings"].clone() else { panic!("{json}") };
    assert_eq!(json["healthy"], findings.is_empty());
    (finished.code, findings)
}

/// The findings of a kind, where everything that lasts is to be found at once.
async fn found(db: &TestDb, kind: &str) -> Vec<Value> {
    let (_, mut findings) = doctor(db, &["--patience", "0s"]).await;
    findings.retain(|finding| finding["kind"] == kind);
    findings
}

/// The only finding of a kind; its remedy and its text are for people.
async fn one(db: &TestDb, kind: &str, severity: &str) -> Value {
    let mut findings = found(db, kind).await;
    assert_eq!(findings.len(), 1, "{kind}: {findings:?}");
    let finding = findings.remove(0);
    assert_eq!(finding["severity"], severity, "{finding}");
    assert!(finding["what"].as_str().unwrap().len() > 10, "{finding}");
    assert!(finding["remedy"].as_str().unwrap().len() > 5, "{finding}");
    finding
}

async fn none(db: &TestDb, kind: &str) {
    assert_eq!(found(db, kind).await, [Value::Null; 0], "{kind}");
}

/// A server of the test's own: the tests' common one has settings that hurt, and group roles that
/// others need.
#[tokio::test]
async fn a_healthy_database_and_a_server_that_is_full_or_has_no_group_roles() {
    let dir = scratch_dir();
    let server = Embedded::start_with(&dir, &[("max_connections", "20")]).await.expect("a server");
    quit_with_us(server.pid());
    let db = TestDb::elsewhere("postgres", server.url());
    db.host(&["migrate"]).await.ok();
    assert_eq!(db.host(&["doctor"]).await.ok(), "Nothing is wrong\n");

    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(db.client().await);
    }
    assert_eq!(one(&db, "connections", "warning").await["max"], 20);
    open.truncate(1);
    wait_until("the others are closed", async || found(&db, "connections").await.is_empty()).await;

    let client = &open[0];
    client.batch_execute("ALTER ROLE postgres SET synchronous_commit = off").await.unwrap();
    let (code, findings) = doctor(&db, &[]).await;
    assert_eq!((code, findings.len()), (5, 2), "{findings:?}");
    let setting = &findings[0];
    assert!(setting["what"].as_str().unwrap().contains("synchronous_commit is off"), "{setting}");
    client.batch_execute("ALTER ROLE postgres RESET ALL").await.unwrap();
    let drop = "DROP OWNED BY host_producer; DROP ROLE host_producer";
    client.batch_execute(drop).await.unwrap();
    one(&db, "missing_roles", "note").await;
    let text = db.host(&["doctor"]).await.ok();
    assert!(text.contains("note     there is no role host_producer\n         -> run "), "{text}");
    drop_all(open).await;
    assert!(server.stop_if_last().await.unwrap());
}

async fn drop_all<T>(these: Vec<T>) {
    drop(these);
    tokio::task::yield_now().await;
}

#[tokio::test]
async fn a_schema_that_is_not_ours_and_a_database_from_elsewhere() {
    let (code, findings) = doctor(&TestDb::empty().await, &[]).await;
    assert_eq!((code, findings.len()), (6, 1), "{findings:?}");
    assert_eq!(findings[0]["kind"], "schema");

    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", "").await;
    deploy(&client, "q", "default").await;
    client.batch_execute("UPDATE host.cluster SET system_identifier = 1").await.unwrap();
    one(&db, "restored", "error").await;
    assert_eq!(doctor(&db, &[]).await.0, 6);
    db.host(&["migrate", "--restored"]).await.ok();
    none(&db, "restored").await;
}

#[tokio::test]
async fn a_clock_that_differs_settings_that_hurt_and_privileges_that_lack() {
    let db = TestDb::new().await;
    let client = db.client().await;
    none(&db, "clock_skew").await;
    let later = "CREATE OR REPLACE FUNCTION host.server_clock() RETURNS timestamptz
        LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp() - interval ''1 hour''';";
    client.batch_execute(later).await.unwrap();
    let skew = one(&db, "clock_skew", "warning").await;
    assert!(skew["what"].as_str().unwrap().contains("behind this machine's"), "{skew}");

    // The tests' server gives up durability.
    let hurt = found(&db, "setting").await;
    assert_eq!(hurt.len(), 2, "{hurt:?}");
    for (setting, value) in [("default_transaction_read_only", "on")] {
        let alter = format!("ALTER DATABASE {} SET {setting} = {value}", db.name);
        client.batch_execute(&alter).await.unwrap();
        let hurt = found(&db, "setting").await;
        assert_eq!(hurt.len(), 3, "{hurt:?}");
        assert_eq!((&hurt[0]["name"], &hurt[0]["severity"]), (&setting.into(), &"error".into()));
        let reset = format!("ALTER DATABASE {} RESET {setting}", db.name);
        client.batch_execute(&reset).await.unwrap();
    }
    let role = db.as_member_of("host_serve").await;
    let alter = format!("ALTER ROLE host_serve_{} SET synchronous_commit = off", db.name);
    client.batch_execute(&alter).await.unwrap();
    let hurt = found(&db, "setting").await;
    assert!(hurt.iter().any(|s| s["role"] == format!("host_serve_{}", role.name)), "{hurt:?}");
    client
        .batch_execute(&alter.replace("SET synchronous_commit = off", "RESET ALL"))
        .await
        .unwrap();

    none(&db, "missing_privileges").await;
    client.batch_execute("REVOKE SELECT ON host.queue FROM host_serve").await.unwrap();
    let lack = one(&db, "missing_privileges", "warning").await;
    assert_eq!(lack["statements"][0], "GRANT SELECT ON TABLE host.queue TO host_serve");
    db.host(&["migrate"]).await.ok();
    none(&db, "missing_privileges").await;
}

#[tokio::test]
async fn an_operator_can_ask_and_is_told_what_it_is_not_shown() {
    let scene = Scene::new("").await;
    scene.deploy("work", "echo", Deployment::default()).await;
    scene.run("INSERT INTO queue.work (payload) VALUES ('1')").await;
    let operator = scene.db.as_member_of("host_operator").await;
    one(&operator, "cannot_see", "note").await;
    one(&operator, "lagging", "warning").await;
    scene.run(&format!("GRANT pg_monitor TO host_operator_{}", scene.db.name)).await;
    none(&operator, "cannot_see").await;
}

#[tokio::test]
async fn hosts_that_are_not_there_silent_of_another_release_or_cannot_run_a_handler() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", "").await;
    client.batch_execute("INSERT INTO queue.q (payload) VALUES ('1')").await.unwrap();
    let waits = one(&db, "no_handler", "warning").await;
    assert_eq!((&waits["queue"], &waits["waiting"]), (&"q".into(), &1.into()));
    none(&db, "no_host").await;
    let handler = deploy(&client, "q", "default").await;
    none(&db, "no_handler").await;
    assert_eq!(one(&db, "no_host", "error").await["queues"][0], "q");

    let hand = SqlHost::new(&db, "q", handler).await;
    let silent = one(&db, "silent_host", "warning").await;
    assert_eq!((&silent["connected"], &silent["session"]), (&true.into(), &hand.session.into()));
    let beat = "SELECT count(*) FROM host.beat($1, 1)";
    hand.client.query_one(beat, &[&hand.session]).await.unwrap();
    none(&db, "silent_host").await;
    none(&db, "no_host").await;
    let other = one(&db, "host_version", "note").await;
    assert_eq!((&other["version"], &other["host"]), (&"none".into(), &"by hand/0".into()));

    hand.run(&format!(
        "SELECT host.report_loaded({}, ARRAY[{handler}], ARRAY[1], ARRAY['no such import'])",
        hand.session
    ))
    .await;
    let failed = one(&db, "handler_failed", "error").await;
    assert_eq!(failed["error"], "by hand/0: no such import");
    hand.end(false).await;
    none(&db, "handler_failed").await;
}

#[tokio::test]
async fn whatever_holds_up_a_queue_is_named() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", ROTATES_ALWAYS).await;
    let handler = deploy(&client, "q", "default").await;
    let hand = SqlHost::new(&db, "q", handler).await;
    hand.enqueue(1, 100).await;
    let lag = one(&db, "lagging", "warning").await;
    assert_eq!((&lag["handler"], &lag["waiting"]), (&"default".into(), &100.into()));
    let (_, patient) = doctor(&db, &[]).await;
    assert!(patient.iter().all(|f| f["kind"] != "lagging"), "not for a minute: {patient:?}");

    db.host(&["queue", "pause", "q"]).await.ok();
    one(&db, "paused", "note").await;
    none(&db, "lagging").await;
    db.host(&["queue", "resume", "q"]).await.ok();

    let held = hand.must_lease(100).await;
    none(&db, "lagging").await;
    none(&db, "open_lease").await;
    hand.next_generation().await;
    let open = one(&db, "open_lease", "warning").await;
    // A number of this size is not exact to all who read JSON.
    assert_eq!(
        (&open["lease"], &open["session"]),
        (&held.id.to_string().into(), &hand.session.into())
    );
    hand.ack(&held).await;
    none(&db, "open_lease").await;

    let reader = db.client().await;
    let pid = backend(&reader).await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM queue.q").await.unwrap();
    let locked = one(&db, "locked", "warning").await;
    assert_eq!((&locked["by"]["pid"], &locked["queue"]), (&pid.into(), &"q".into()));
    assert!(locked["what"].as_str().unwrap().contains("SELECT count(*) FROM queue.q"), "{locked}");
    assert!(hand.truncate(0).await.is_some(), "it is true");
    reader
        .batch_execute("COMMIT; BEGIN; SELECT FROM queue.q; PREPARE TRANSACTION 'forgotten'")
        .await
        .unwrap();
    let locked = one(&db, "locked", "warning").await;
    assert_eq!(locked["by"]["prepared"], "forgotten");
    assert!(
        locked["remedy"].as_str().unwrap().contains("ROLLBACK PREPARED 'forgotten'"),
        "{locked}"
    );
    reader.batch_execute("ROLLBACK PREPARED 'forgotten'").await.unwrap();
    none(&db, "locked").await;
    assert_eq!(hand.truncate(0).await, None);

    client.batch_execute("ALTER TABLE host.q__message_1 RESET (autovacuum_enabled)").await.unwrap();
    let autovacuum = one(&db, "autovacuum", "warning").await;
    assert_eq!(autovacuum["tables"][0], "q__message_1");
    client.batch_execute(autovacuum["remedy"].as_str().unwrap()).await.unwrap();
    none(&db, "autovacuum").await;
}

/// Anybody who may connect may take them.
#[tokio::test]
async fn a_lock_that_hosts_wait_for_is_named_with_what_stands_still() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", "").await;
    let handler = deploy(&client, "q", "default").await;
    none(&db, "locked").await;
    let queue = value::<i32>(&client, "SELECT id FROM host.queue").await;
    for (class, number, lock, severity, what) in [
        (CURSOR_LOCK, handler, "handler \"default\"", "error", "gets no messages"),
        (PROMOTION_LOCK, queue, "schedule", "error", "delayed messages and retries of q wait"),
        (ROTATION_LOCK, queue, "rotation", "warning", "rotation and deploys of q wait"),
        (COUNT_LOCK, queue, "rotation", "warning", "rotation and deploys of q wait"),
    ] {
        let holder = db.client().await;
        holder.batch_execute(&format!("SELECT pg_advisory_lock({class}, {number})")).await.unwrap();
        let locked = one(&db, "locked", severity).await;
        assert_eq!(locked["lock"], lock, "{locked}");
        assert_eq!(locked["by"]["pid"], backend(&holder).await, "{locked}");
        assert!(locked["what"].as_str().unwrap().contains(what), "{locked}");
        drop(holder);
        wait_until("the lock is free", async || found(&db, "locked").await.is_empty()).await;
    }
    let dump = connect(&format!("{}&application_name=pg_dump", db.url)).await;
    dump.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    assert_eq!(one(&db, "locked", "warning").await["lock"], "dump");
}

#[tokio::test]
async fn a_trigger_that_finds_nothing_where_hosts_insert_is_named() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", "").await;
    none(&db, "trigger").await;
    client
        .batch_execute(
            "CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER audit BEFORE INSERT ON queue.q FOR EACH ROW EXECUTE FUNCTION public.audit()",
        )
        .await
        .unwrap();
    let trigger = one(&db, "trigger", "warning").await;
    assert_eq!((&trigger["queue"], &trigger["function"]), (&"q".into(), &"public.audit()".into()));
    let remedy = trigger["remedy"].as_str().unwrap().replace("SCHEMA", "public");
    client.batch_execute(&remedy).await.unwrap();
    none(&db, "trigger").await;
}

#[tokio::test]
async fn a_snapshot_that_makes_generations_longer_is_named() {
    let db = TestDb::new().await;
    let client = db.client().await;
    none(&db, "slow_rotation").await;
    let reader = db.client().await;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    // What many TRUNCATEs leave.
    client.batch_execute("CREATE TABLE public.t ()").await.unwrap();
    let fill = "DO 'BEGIN FOR i IN 1..1100 LOOP
        EXECUTE format(''ALTER TABLE public.t SET (fillfactor = %s)'', 10 + i % 90); COMMIT; END LOOP; END'";
    client.batch_execute(fill).await.unwrap();
    // Statistics arrive when their writer is idle.
    drop(client);
    wait_until("it is found", async || !found(&db, "slow_rotation").await.is_empty()).await;
    let slow = one(&db, "slow_rotation", "warning").await;
    assert!(slow["dead_catalog_rows"].as_i64().unwrap() > 1_000, "{slow}");
    assert!(slow["oldest_snapshot"]["pid"].as_i64().is_some(), "{slow}");
    drop(reader);
}

/// Behind a pooler in transaction mode, a host would hold its lock for no longer than a
/// transaction.
#[tokio::test]
async fn a_pooler_in_transaction_mode_is_found() {
    let db = TestDb::new().await;
    let port = pooler::start(&db.url).await;
    let through = db.through(format!("postgres://postgres@127.0.0.1:{port}/{}", db.name));
    let (code, findings) = doctor(&through, &[]).await;
    assert_eq!((code, &findings[0]["kind"]), (6, &"pooled".into()), "{findings:?}");
    for command in ["serve", "migrate"] {
        let text = through.host(&[command]).await.error(1);
        assert!(
            text.contains("pooler in transaction mode") && text.contains("pool_mode"),
            "{text}"
        );
    }
    assert_eq!(value::<i32>(&connect(&db.url).await, "SELECT 1").await, 1);
}
