//! Each group role does its work with its own privileges alone, and is refused the rest. Functions
//! that run with the owner's rights cannot be led astray.

use host_embedded::Embedded;
use serde_json::json;
use tokio_postgres::Client;

use crate::harness::server::{connect, scratch_dir};
use crate::harness::sql_host::value;
use crate::harness::watchdog::quit_with_us;
use crate::harness::{Deployment, Scene, TestDb, plugin, wait_until};

/// A scene whose queue `work` rotates as often as it can.
async fn scene() -> Scene {
    Scene::new(
        "p_rotate_bytes => 8192, p_rotate_age_ms => 10, p_max_attempts => 2, p_backoff_base_ms => 1",
    )
    .await
}

/// SQLSTATE and message of a statement that must fail.
async fn refused(client: &Client, sql: &str) -> (String, String) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error}"));
    (error.code().code().to_owned(), error.message().to_owned())
}

/// For every statement: the role may not.
async fn all_denied(client: &Client, statements: &[&str]) {
    for sql in statements {
        let (code, message) = refused(client, sql).await;
        assert_eq!(code, "42501", "{sql}: {message}");
    }
}

#[tokio::test]
async fn a_producer_enqueues_on_every_queue_and_does_nothing_else() {
    let scene = scene().await;
    let producer = scene.db.as_member_of("host_producer").await.client().await;
    for queue in ["work", "sink"] {
        let insert = format!(
            "INSERT INTO queue.{queue} (payload, headers, run_at) VALUES ('1', '{{}}', now()) RETURNING id"
        );
        assert_eq!(value::<i64>(&producer, &insert).await, 1);
    }
    all_denied(
        &producer,
        &[
            "INSERT INTO queue.work (payload, txid) VALUES ('1', 1)",
            "INSERT INTO queue.work (payload, origin) VALUES ('1', 1)",
            "INSERT INTO queue.work (payload, attempt) VALUES ('1', 9)",
            "SELECT payload FROM queue.work",
            "UPDATE queue.work SET payload = '1'",
            "TRUNCATE queue.work",
            "DO 'BEGIN LOCK TABLE queue.work IN ACCESS EXCLUSIVE MODE; END'",
            "SELECT setval('queue.work_id_seq', 1)",
            "SELECT nextval('queue.work_id_seq')",
            "SELECT * FROM host.queue",
            "SELECT host.status()",
            "SELECT host.set_wake_up('work', false)",
            "SELECT host.work__wake()",
            "CREATE TABLE queue.mine ()",
        ],
    )
    .await;
}

/// What an operator has commands for, or no business with.
const NOT_AN_OPERATORS: &[&str] = &[
    "SELECT value FROM host.secret",
    "SELECT * FROM host.read_secrets('{key}')",
    "UPDATE host.secret SET name = value",
    "UPDATE host.secret SET value = 'mine' RETURNING value",
    "INSERT INTO queue.work (payload, txid) VALUES ('1', 1)",
    "INSERT INTO queue.work (id, payload) OVERRIDING SYSTEM VALUE VALUES (9, '1')",
    "TRUNCATE queue.work",
    "DROP TABLE queue.work",
    "CREATE TABLE queue.mine ()",
    "CREATE FUNCTION host.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "UPDATE host.queue SET max_attempts = 1",
    "INSERT INTO host.queue (name) VALUES ('mine')",
    "UPDATE host.cluster SET system_identifier = 1",
    "INSERT INTO host.work__lease (seq) VALUES (1)",
    "DELETE FROM host.work__settlement",
    "DELETE FROM host.session",
    "DELETE FROM host.component",
    "UPDATE host.handler_version SET sha256 = ''",
    "SELECT host.begin_session('me', 1, '')",
    "SELECT host.work__truncate(0)",
    "SELECT host.work__advance()",
    "INSERT INTO host.work__promotion (due) VALUES (now())",
    "SELECT host.apply_queue_functions('work')",
    "SELECT * FROM host.template",
];

#[tokio::test]
async fn an_operator_runs_every_command_and_has_no_other_way_to_change_anything() {
    let scene = scene().await;
    let shop = scene.db.as_member_of("host_producer").await;
    let operator = scene.db.as_member_of("host_operator").await;
    let echo = plugin("echo").display().to_string();
    let ok = async |args: &[&str]| operator.host(args).await.ok();

    ok(&["queue", "create", "emails"]).await;
    let role = format!("host_producer_{}", shop.name);
    ok(&["queue", "grant", "emails", &role]).await;
    ok(&["enqueue", "emails", "1", "--header", "a=b", "--delay", "1h"]).await;
    ok(&["enqueue", "emails", "--file", "/dev/null"]).await;
    ok(&["queue", "set", "emails", "--unique", "1h", "--rate", "10/1s"]).await;
    for _ in 0..2 {
        ok(&["enqueue", "emails", "1", "--unique-key", "k", "--delay", "1h"]).await;
    }
    for config in ["a=1", "a=2"] {
        ok(&["deploy", "--queue", "emails", &echo, "--no-wait", "--config", config]).await;
    }
    ok(&["rollback", "--queue", "emails", "--no-wait"]).await;
    ok(&["handlers", "set", "emails", "--no-wait", "--cpu", "1s", "--settings-of", "1"]).await;
    ok(&["handlers", "show", "emails"]).await;
    let handlers = ok(&["handlers"]).await;
    assert!(handlers.contains("host_operator_"), "the one who deployed it is named: {handlers}");
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "hunter22").unwrap();
    let set = ["secret", "set", "key", "--from-file", secret.path().to_str().unwrap()];
    ok(&set).await;
    ok(&set).await;
    ok(&["deploy", "--queue", "emails", &echo, "--no-wait", "--secret", "key"]).await;
    ok(&["secret", "list"]).await;
    ok(&["secret", "remove", "key", "--force"]).await;
    ok(&set).await;
    ok(&["queue", "list"]).await;
    ok(&["queue", "show", "emails"]).await;
    ok(&["status"]).await;
    ok(&["queue", "pause", "emails"]).await;
    ok(&["queue", "resume", "emails"]).await;
    scene
        .run(
            "INSERT INTO host.emails__dead_letter
                (message_id, enqueued_at, handler_id, attempt, reason, error, payload)
             SELECT n, now(), h.id, 1, 'rejected', 'no', '1'
             FROM generate_series(1, 2) n, host.handler h",
        )
        .await;
    ok(&["handlers", "pause", "emails"]).await;
    ok(&["handlers", "resume", "emails"]).await;
    ok(&["queue", "set", "emails", "--keep", "7d"]).await;
    ok(&["queue", "set", "emails", "--no-wake-up"]).await;
    ok(&["peek", "emails", "--settled"]).await;
    ok(&["peek", "emails"]).await;
    let id = ok(&["enqueue", "emails", "2"]).await;
    ok(&["message", "emails", id.trim()]).await;
    ok(&["cancel", "emails", id.trim()]).await;
    ok(&["queue", "purge", "emails", "--yes"]).await;
    ok(&["deploy", "--queue", "emails", "--name", "audit", "--from", "now", &echo, "--no-wait"])
        .await;
    ok(&["handlers", "remove", "emails/audit", "--yes"]).await;
    ok(&["queue", "create", "aside"]).await;
    ok(&["dead", "list", "emails", "--where", "attempt = 1"]).await;
    ok(&["dead", "show", "emails", "1"]).await;
    ok(&["dead", "retry", "emails", "1"]).await;
    ok(&["dead", "move", "emails", "2", "--to", "aside"]).await;
    ok(&["dead", "purge", "emails", "--all", "--yes"]).await;
    ok(&["cron", "add", "nightly", "@daily", "--queue", "work", "--payload", "{}"]).await;
    for command in ["list", "pause nightly", "resume nightly", "run nightly", "remove nightly"] {
        ok(&[&["cron"], &command.split(' ').collect::<Vec<_>>()[..]].concat()).await;
    }
    ok(&["queue", "drop", "emails", "--force"]).await;

    let client = operator.client().await;
    all_denied(&client, NOT_AN_OPERATORS).await;
    let text = operator.host(&["serve"]).await.error(1);
    assert!(text.contains("permission denied") && text.contains("host_serve"), "{text}");
    // It changes the schema only where a release has changed it, and there only the owner may.
    let text = operator.host(&["migrate"]).await.error(1);
    assert!(text.contains("owner of the schema"), "{text}");
}

/// Everything that a host does in its life: it loads, runs, retries, promotes, puts off,
/// dead-letters, enqueues, rotates, takes over, and ends.
#[tokio::test]
async fn a_host_serves_with_its_group_role_alone() {
    let scene = scene().await;
    let member = scene.db.as_member_of("host_serve").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let serving = Scene::of(member.clone()).await;
    let first = serving.serve("first", &["--poll", "50ms"]);
    let session = scene.session("first").await;
    scene
        .run(r#"INSERT INTO queue.work (payload) VALUES ('{"do": "sleep", "ms": 3600000}')"#)
        .await;
    scene.wait_held("work", session).await;
    first.kill();

    scene.run("SELECT host.set_keep('work', 3600000)").await;
    let host = serving.serve("second", &["--poll", "50ms"]);
    let sink = json!({"do": "enqueue", "n": 1, "queue": "sink", "text": "x"}).to_string();
    for command in [r#"{"do": "dead"}"#, r#"{"do": "retry", "ms": 1}"#, sink.as_str()] {
        let insert = "INSERT INTO queue.work (payload, run_at)
            SELECT $1::text::jsonb, now() + n * interval '1 ms' FROM generate_series(1, 200) n";
        scene.client.execute(insert, &[&command]).await.unwrap();
    }
    scene.wait_number("SELECT count(*) FROM host.work__dead_letter", 400).await;
    scene.wait_number("SELECT count(*) FROM queue.sink", 200).await;
    scene.wait_number("SELECT count(*) FROM host.work__history", 200).await;
    // The stray is held by the second, so the leaves cannot all go; but the next generation has
    // begun.
    wait_until("the queue has rotated", async || {
        scene.number("SELECT last_value / 100000000000 FROM queue.work_id_seq").await > 0
    })
    .await;
    let second = scene.session("second").await;
    scene.wait_held("work", second).await;
    host.kill();

    let log = host_log_after_an_orderly_end(&serving).await;
    assert!(!log.contains("permission denied"), "{log}");
    // What comes once in an hour or when a leaf's time is over.
    let client = member.client().await;
    client
        .batch_execute(
            "SELECT host.truncate_heartbeat(), host.work__truncate_schedule(),
                 host.work__truncate_history();
             SELECT * FROM host.read_secrets('{key}')",
        )
        .await
        .unwrap();

    all_denied(
        &client,
        &[
            "TRUNCATE host.work__message_0",
            "TRUNCATE host.heartbeat_0",
            "TRUNCATE host.work__history",
            "SELECT payload FROM host.work__history",
            "SELECT host.set_keep('work', NULL)",
            "DO 'BEGIN LOCK TABLE host.work__message_0 IN ACCESS EXCLUSIVE MODE; END'",
            "SELECT setval('queue.work_id_seq', 1)",
            "UPDATE host.work__lease SET row_count = 0",
            "DELETE FROM host.work__settlement",
            "DELETE FROM host.work__dead_letter",
            "SELECT * FROM host.work__dead_letter",
            "UPDATE host.queue SET paused = true",
            "SELECT host.set_secret('key', 'value')",
            "UPDATE host.handler SET version = 1",
            "INSERT INTO host.component VALUES ('', '')",
            "SELECT host.create_queue('mine')",
            "SELECT host.drop_queue('work', true)",
            "SELECT host.grant_producer('work', 'postgres')",
            "SELECT host.upload('', '')",
            "SELECT host.deploy('work', 'a', '', '{}', 'message', 1, 1, 1, 1, 1, 1, 1)",
            "SELECT host.work__dead_purge(NULL, NULL)",
            "UPDATE host.cluster SET system_identifier = 1",
            "DROP TABLE queue.work",
            "CREATE TABLE host.mine ()",
        ],
    )
    .await;
    let text = member.host(&["queue", "pause", "work"]).await.error(1);
    assert!(text.contains("permission denied") && text.contains("host_operator"), "{text}");
}

/// A third host, told to stop as soon as it serves.
async fn host_log_after_an_orderly_end(serving: &Scene) -> String {
    let host = serving.serve("third", &["--poll", "50ms", "--drain", "1s"]);
    host.wait_for_log("handler loaded").await;
    host.signal(nix::sys::signal::Signal::SIGTERM);
    host.wait_for_log("stopped").await;
    host.log()
}

/// A role with the owner's function in its hands must not be able to put its own tables, types or
/// functions in the place of the catalog's.
#[tokio::test]
async fn functions_with_the_owners_rights_see_no_temporary_objects() {
    let scene = scene().await;
    let client = scene.db.as_member_of("host_serve").await.client().await;
    client
        .batch_execute(
            "CREATE FUNCTION pg_temp.steal() RETURNS boolean LANGUAGE plpgsql AS
                 'BEGIN RAISE EXCEPTION ''led astray as %'', current_user; END';
             CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (pg_temp.steal());
             CREATE DOMAIN pg_temp.regclass AS pg_catalog.regclass CHECK (pg_temp.steal());
             CREATE DOMAIN pg_temp.int8 AS pg_catalog.int8 CHECK (pg_temp.steal());
             CREATE VIEW pg_temp.pg_class AS SELECT * FROM pg_catalog.pg_class WHERE pg_temp.steal();
             CREATE VIEW pg_temp.pg_locks AS SELECT * FROM pg_catalog.pg_locks WHERE pg_temp.steal();
             SELECT host.work__truncate(1), host.work__advance(), host.work__truncate_schedule(),
                 host.truncate_heartbeat();
             INSERT INTO queue.work (payload) VALUES ('1')",
        )
        .await
        .unwrap();
}

/// The list is short, and each of them says why in its file.
#[tokio::test]
async fn few_functions_have_the_owners_rights_and_all_pin_where_names_are_looked_up() {
    let scene = scene().await;
    let all = "FROM pg_proc p WHERE p.pronamespace = 'host'::regnamespace";
    let loose = scene
        .texts(&format!(
            // A body that was parsed when it was made looks up no names.
            "SELECT p.proname {all} AND p.prosqlbody IS NULL
                 AND NOT coalesce(p.proconfig::text ~ 'search_path=(host, )?pg_catalog, pg_temp', false)"
        ))
        .await;
    assert_eq!(loose, [""; 0], "no pinned search_path");
    let owners = format!("{all} AND p.prosecdef AND p.proname NOT LIKE 'sink%'");
    assert_eq!(
        scene.texts(&format!("SELECT p.proname {owners} ORDER BY 1")).await,
        [
            "begin_from_now",
            "create_queue",
            "deploy",
            "drop_queue",
            "grant_producer",
            "idle",
            "remove_handler",
            "set_keep",
            "set_limits",
            "set_queue",
            "set_unique",
            "set_wake_up",
            "truncate_heartbeat",
            "work__advance",
            "work__missing",
            "work__purge",
            "work__take_key",
            "work__truncate",
            "work__truncate_history",
            "work__truncate_schedule",
            "work__try_truncate",
            "work__wake",
        ]
    );
    let open = format!(
        "SELECT p.proname {owners} AND (p.proacl IS NULL
             OR EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0))"
    );
    assert_eq!(scene.texts(&open).await, [""; 0], "everybody may call it");
}

#[tokio::test]
async fn migrate_grants_what_was_taken_away() {
    let scene = scene().await;
    let missing = "SELECT host.missing_privileges()";
    assert_eq!(scene.texts(missing).await, [""; 0]);
    scene
        .run(
            "REVOKE INSERT (payload) ON queue.work FROM host_producer;
             REVOKE EXECUTE ON FUNCTION host.deploy FROM host_operator;
             REVOKE USAGE ON SCHEMA host FROM host_serve;
             REVOKE UPDATE ON SEQUENCE host.work__asleep FROM host_serve",
        )
        .await;
    assert_eq!(scene.texts(missing).await.len(), 4);
    let text = scene.db.host(&["migrate"]).await.ok();
    assert!(text.contains("corrected what roles may do"), "{text}");
    assert_eq!(scene.texts(missing).await, [""; 0]);
    let text = scene.db.host(&["migrate"]).await.ok();
    assert!(text.starts_with("Nothing to do"), "{text}");
}

/// A role without CREATEROLE owns its database all the same; the roles are made when somebody may.
#[tokio::test]
async fn a_server_without_the_group_roles_and_an_owner_who_may_not_create_any() {
    let dir = scratch_dir();
    let server = Embedded::start_with(&dir, &[("fsync", "off")]).await.expect("a server");
    quit_with_us(server.pid());
    let admin = connect(server.url()).await;
    admin.batch_execute("CREATE ROLE shop LOGIN").await.unwrap();
    admin.batch_execute("CREATE DATABASE shop OWNER shop").await.unwrap();
    let url = server.url().replacen("postgres@/postgres?", "shop@/shop?", 1);
    let db = TestDb::elsewhere("shop", url);
    let text = db.host(&["migrate"]).await.ok();
    let create = "CREATE ROLE host_producer NOLOGIN; CREATE ROLE host_operator NOLOGIN; CREATE ROLE host_serve NOLOGIN;";
    assert!(text.contains(create) && text.contains("`host migrate` again"), "{text}");
    db.host(&["queue", "create", "emails"]).await.ok();
    db.host(&["status"]).await.ok();

    admin.batch_execute(create).await.unwrap();
    let text = db.host(&["migrate"]).await.ok();
    assert!(text.ends_with("corrected what roles may do\n"), "{text}");
    admin.batch_execute("CREATE ROLE till LOGIN IN ROLE host_producer").await.unwrap();
    let till = connect(&db.url.replacen("shop@", "till@", 1)).await;
    till.batch_execute("INSERT INTO queue.emails (payload) VALUES ('1')").await.unwrap();
    assert!(server.stop_if_last().await.unwrap());
}
