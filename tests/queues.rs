//! Queues as producers and operators meet them: what enqueues, what is refused, who may do what.

use futures_util::SinkExt as _;
use serde_json::Value;
use tokio_postgres::Client;

use crate::harness::server::connect;
use crate::harness::sql_host::{sqlstate, value};
use crate::harness::{Deployment, Scene, TestDb, wait_until};

pub async fn count(client: &Client, queue: &str) -> i64 {
    let row = client.query_one(&format!("SELECT count(*) FROM queue.{queue}"), &[]).await.unwrap();
    row.get(0)
}

/// Error code, message and hint of a statement that must fail.
pub async fn refused(client: &Client, sql: &str) -> (String, String, String) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error}"));
    let hint = error.hint().unwrap_or_default();
    (error.code().code().to_owned(), error.message().to_owned(), hint.to_owned())
}

async fn copy(client: &Client, sql: &str, data: &'static [u8]) -> u64 {
    let sink = client.copy_in::<_, bytes::Bytes>(sql).await.unwrap();
    let mut sink = std::pin::pin!(sink);
    sink.send(data.into()).await.unwrap();
    sink.finish().await.unwrap()
}

#[tokio::test]
async fn every_payload_type_is_enqueued_by_every_kind_of_insert() {
    let db = TestDb::new().await;
    let client = db.client().await;
    for (kind, a, b) in [
        ("jsonb", r#"{"n": 1}"#, "[]"),
        ("json", r#"{"n":  1}"#, "null"),
        ("text", "héllo", "world"),
        ("bytea", r"\xff00", r"\x"),
    ] {
        let name = format!("q_{kind}");
        db.host(&["queue", "create", &name, "--payload", kind]).await.ok();
        for sql in [
            format!("INSERT INTO queue.{name} (payload) VALUES ('{a}')"),
            format!("INSERT INTO queue.{name} (payload) VALUES ('{a}'), ('{b}')"),
            format!(
                "INSERT INTO queue.{name} (payload, headers, run_at)
                 SELECT '{b}'::{kind}, '{{\"n\": 1}}', now() + interval '1 day' FROM generate_series(1, 3)"
            ),
        ] {
            client.batch_execute(&sql).await.unwrap();
        }
        let line: &[u8] = if kind == "bytea" { b"\\\\x01ff\n\\\\x\n" } else { b"\"x\"\n\"y\"\n" };
        let sql = format!("COPY queue.{name} (payload) FROM STDIN");
        assert_eq!(copy(&client, &sql, line).await, 2);
        assert_eq!(count(&client, &name).await, 8, "{kind}");
        let kept: String = client
            .query_one(&format!("SELECT payload::text FROM queue.{name} WHERE id = 1"), &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(kept, a);
    }
}

#[tokio::test]
async fn what_is_rolled_back_was_never_enqueued() {
    let db = TestDb::new().await;
    let mut client = db.client().await;
    db.host(&["queue", "create", "emails"]).await.ok();
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("INSERT INTO queue.emails (payload) VALUES ('1')").await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(count(&client, "emails").await, 0);
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("INSERT INTO queue.emails (payload) VALUES ('2')").await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(count(&client, "emails").await, 1);
}

#[tokio::test]
async fn a_message_is_never_changed_or_deleted_by_hand() {
    let db = TestDb::new().await;
    let client = db.client().await;
    db.host(&["queue", "create", "emails"]).await.ok();
    client.batch_execute("INSERT INTO queue.emails (payload) VALUES ('1')").await.unwrap();
    for sql in [
        "UPDATE queue.emails SET payload = '2'",
        "DELETE FROM queue.emails",
        "TRUNCATE queue.emails",
    ] {
        let (_, message, hint) = refused(&client, sql).await;
        assert!(message.contains("messages are only ever inserted"), "{sql}: {message}");
        assert!(hint.contains("host queue drop --force"), "{sql}: {hint}");
    }
    assert_eq!(count(&client, "emails").await, 1);
}

#[tokio::test]
async fn a_granted_role_can_enqueue_and_nothing_else() {
    let db = TestDb::new().await;
    let owner = db.client().await;
    // Roles belong to the server, which all tests share.
    let role = format!("producer_{}", db.name);
    owner.batch_execute(&format!("CREATE ROLE {role} LOGIN")).await.unwrap();
    db.host(&["queue", "create", "emails"]).await.ok();
    db.host(&["queue", "create", "others"]).await.ok();
    let text = db.host(&["queue", "grant", "emails", &role]).await.ok();
    assert_eq!(text, format!("Role {role} may enqueue on queue emails\n"));

    let producer = connect(&db.url).await;
    producer.batch_execute(&format!("SET SESSION AUTHORIZATION {role}")).await.unwrap();
    let insert = "INSERT INTO queue.emails (payload, headers, run_at)
        VALUES ('{}', '{}', now()) RETURNING id";
    assert_eq!(producer.query_one(insert, &[]).await.unwrap().get::<_, i64>(0), 1);
    let copied = copy(&producer, "COPY queue.emails (payload) FROM STDIN", b"1\n2\n").await;
    assert_eq!(copied, 2);
    for sql in [
        "INSERT INTO queue.emails (payload, txid) VALUES ('1', 1)",
        "INSERT INTO queue.emails (payload, origin) VALUES ('1', 1)",
        "INSERT INTO queue.emails (payload, attempt) VALUES ('1', 9)",
        "INSERT INTO queue.emails (payload, handler_id) VALUES ('1', 1)",
        "INSERT INTO queue.emails (payload, history) VALUES ('1', '[]')",
        "INSERT INTO queue.emails (payload, enqueued_at) VALUES ('1', now())",
        "INSERT INTO queue.emails (id, payload) OVERRIDING SYSTEM VALUE VALUES (9, '1')",
        "SELECT payload FROM queue.emails",
        "UPDATE queue.emails SET payload = '1'",
        "DELETE FROM queue.emails",
        "TRUNCATE queue.emails",
        "SELECT nextval('queue.emails_id_seq')",
        "INSERT INTO queue.others (payload) VALUES ('1')",
        "SELECT * FROM host.queue",
        "SELECT host.drop_queue('emails', true)",
        "SELECT host.emails__wake()",
        "INSERT INTO host.emails__message_0 (payload) VALUES ('1')",
        "CREATE TABLE queue.mine ()",
    ] {
        let (code, message, _) = refused(&producer, sql).await;
        assert_eq!(code, "42501", "{sql}: {message}");
    }
    owner.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn unknown_names_are_refused_with_the_nearest() {
    let db = TestDb::new().await;
    let text = db.host(&["queue", "show", "emails"]).await.error(2);
    assert_eq!(text, "no queue \"emails\"; there is none yet");
    db.host(&["queue", "create", "emails"]).await.ok();
    for args in [
        &["queue", "show", "email"][..],
        &["queue", "drop", "email", "--force"],
        &["queue", "pause", "email"],
        &["queue", "resume", "email"],
        &["queue", "grant", "email", "postgres"],
        &["enqueue", "email", "{}"],
        &["handlers", "--queue", "email"],
        &["rollback", "--queue", "email"],
        &["dead", "list", "email"],
        &["dead", "retry", "email", "--all"],
    ] {
        let text = db.host(args).await.error(2);
        assert_eq!(text, "no queue \"email\"; did you mean \"emails\"?", "{args:?}");
    }
    let text = db.host(&["queue", "grant", "emails", "postgre"]).await.error(2);
    assert_eq!(text, "no role \"postgre\"; did you mean \"postgres\"?");
}

#[tokio::test]
async fn names_that_try_injection_are_refused_before_they_reach_sql() {
    let db = TestDb::new().await;
    let client = db.client().await;
    for name in ["a; DROP SCHEMA queue CASCADE; --", "a\"", "A", "a__b", "a b", "select 1", "é", ""]
    {
        let text = db.host(&["queue", "create", name]).await.error(2);
        assert!(text.contains("is not a queue name"), "{name}: {text}");
        // For psql users, the table itself refuses.
        let call = client.execute("SELECT host.create_queue($1)", &[&name]).await;
        let error = call.expect_err(name);
        assert_eq!(error.code().unwrap().code(), "23514", "{name}");
        db.host(&["queue", "show", name]).await.error(2);
        db.host(&["enqueue", name, "{}"]).await.error(2);
    }
    // Words of SQL are names like any other.
    for name in ["select", "user", "table_1", &"x".repeat(40)] {
        db.host(&["queue", "create", name]).await.ok();
        db.host(&["enqueue", name, "{}"]).await.ok();
        db.host(&["queue", "drop", name, "--force"]).await.ok();
    }
}

#[tokio::test]
async fn settings_out_of_range_are_refused_naming_the_range() {
    let db = TestDb::new().await;
    for (args, said) in [
        (["--max-bytes", "65MiB"], "max-bytes 65.0 MiB is out of range: use 1 B to 64.0 MiB"),
        (["--max-attempts", "0"], "max-attempts 0 is out of range: use 1 to 1000"),
        (["--backoff", "0s"], "backoff 0s is out of range: use 1ms to 1day"),
        (["--backoff-cap", "100ms"], "backoff-cap 100ms is out of range: use 1s to 365days"),
        (["--rotate-size", "1KiB"], "rotate-size 1.0 KiB is out of range: use 8.0 KiB to 1.0 TiB"),
        (["--rotate-age", "1ms"], "rotate-age 1ms is out of range: use 10ms to 1day"),
    ] {
        let text = db.host(&[&["queue", "create", "emails"], &args[..]].concat()).await.error(2);
        assert!(text.starts_with(said), "{text}");
    }
    let text = db.host(&["queue", "create", "emails", "--payload", "xml"]).await.error(2);
    assert!(text.contains("xml") && text.contains("jsonb, json, text, bytea"), "{text}");
    assert_eq!(db.host(&["queue", "list", "--json"]).await.ok(), "[]\n");
}

#[tokio::test]
async fn a_queue_with_messages_is_dropped_only_by_force_and_completely() {
    let db = TestDb::new().await;
    let client = db.client().await;
    let before = objects(&client).await;
    db.host(&["queue", "create", "emails"]).await.ok();
    let text = db.host(&["queue", "create", "emails"]).await.error(1);
    assert!(text.contains("queue \"emails\" exists already"), "{text}");
    let sql = "INSERT INTO queue.emails (payload) SELECT '1' FROM generate_series(1, 3);
        INSERT INTO host.emails__dead_letter (message_id, enqueued_at, handler_id, attempt, reason, error, payload)
        VALUES (1, now(), 1, 1, 'rejected', 'no', '1')";
    client.batch_execute(sql).await.unwrap();
    let text = db.host(&["queue", "drop", "emails"]).await.error(1);
    assert_eq!(
        text,
        "queue \"emails\" has messages left: 3 waiting, 1 dead: to drop them with it: host queue drop emails --force"
    );
    assert_eq!(count(&client, "emails").await, 3);
    db.host(&["queue", "drop", "emails", "--force"]).await.ok();
    assert_eq!(objects(&client).await, before, "something of the queue is left");

    db.host(&["queue", "create", "emails"]).await.ok();
    let text = db.host(&["queue", "drop", "emails"]).await.ok();
    assert_eq!(text, "Dropped queue emails with everything in it\n");
}

/// A host takes a queue's tables in another order than what drops them.
#[tokio::test]
async fn a_queue_is_dropped_also_where_a_deadlock_stops_the_first_try() {
    let db = TestDb::new().await;
    let client = db.client().await;
    db.host(&["queue", "create", "emails"]).await.ok();
    let mut other = db.client().await;
    let other = other.transaction().await.unwrap();
    // The other one is who finds it out.
    other.batch_execute("SET LOCAL deadlock_timeout = '1min'").await.unwrap();
    other.batch_execute("LOCK TABLE host.emails__lease IN ACCESS SHARE MODE").await.unwrap();
    let drop = async {
        db.host(&["queue", "drop", "emails", "--force"]).await.ok();
    };
    let meet = async {
        wait_until("it waits for the leases", async || {
            let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'host.emails__lease'::regclass";
            value::<i64>(&client, waits).await > 0
        })
        .await;
        other.batch_execute("LOCK TABLE queue.emails IN ACCESS SHARE MODE").await.unwrap();
        other.commit().await.unwrap();
    };
    tokio::join!(drop, meet);
    assert_eq!(db.host(&["queue", "list", "--json"]).await.ok(), "[]\n");
}

/// How many relations and functions the product has.
async fn objects(client: &Client) -> (i64, i64) {
    let sql = "SELECT
        (SELECT count(*) FROM pg_class WHERE relnamespace::regnamespace::text IN ('host', 'queue')),
        (SELECT count(*) FROM pg_proc WHERE pronamespace = 'host'::regnamespace)";
    let row = client.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn a_queue_is_paused_and_resumed() {
    let db = TestDb::new().await;
    db.host(&["queue", "create", "emails"]).await.ok();
    for (command, said) in [
        ("pause", "Queue emails is paused\n"),
        ("pause", "Queue emails is already paused\n"),
        ("resume", "Queue emails is active\n"),
        ("resume", "Queue emails is already active\n"),
    ] {
        assert_eq!(db.host(&["queue", command, "emails"]).await.ok(), said);
    }
    let json: Value =
        serde_json::from_str(&db.host(&["queue", "list", "--json"]).await.ok()).unwrap();
    assert_eq!(json[0]["paused"], false);
}

#[tokio::test]
async fn a_database_without_the_schema_is_refused_with_what_to_run() {
    let db = TestDb::empty().await;
    let text = db.host(&["queue", "list"]).await.error(4);
    assert_eq!(text, "this database has no schema yet: run `host migrate`");
}

#[tokio::test]
async fn a_queue_that_is_made_again_with_another_type_is_handled_by_hosts_that_knew_the_first() {
    let scene = Scene::new("").await;
    let _host = scene.serve("host", &["--connections", "2"]);
    for (kind, n) in [("jsonb", 1), ("text", 2), ("bytea", 3), ("jsonb", 4)] {
        scene.queue("again", &format!("p_payload_type => '{kind}'")).await;
        scene.deploy("again", "misbehave", Deployment::default()).await;
        let payload = format!(r#"{{"do": "enqueue", "n": 1, "queue": "sink", "text": "{kind}"}}"#);
        scene.run(&format!("INSERT INTO queue.again (payload) VALUES ('{payload}')")).await;
        scene.wait_number("SELECT count(*) FROM queue.sink", n).await;
        scene.run("SELECT host.drop_queue('again', true)").await;
    }
}

#[tokio::test]
async fn a_dropped_queues_calls_are_interrupted() {
    let scene = Scene::new("").await;
    let waits = "INSERT INTO queue.work (payload)
         SELECT '{\"do\": \"hoard\", \"n\": 1, \"ms\": 3600000}' FROM generate_series(1, 4)";
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let _host = scene.serve("host", &["--concurrency", "3"]);
    scene.run(waits).await;
    // One more than all handlers share.
    wait_until("as many are in flight as can be", async || scene.in_flight("work").await == 4)
        .await;

    scene.db.host(&["queue", "drop", "work", "--force"]).await.ok();
    scene.queue("work", "").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    scene.run(waits).await;
    // It has their slots.
    wait_until("as many are again", async || scene.in_flight("work").await == 4).await;
}

/// A time plus a duration that is none would stop whoever meets it later: a host, a promotion.
#[tokio::test]
async fn a_duration_that_overflows_is_refused_where_it_is_set() {
    let db = TestDb::new().await;
    let client = db.client().await;
    db.host(&["queue", "create", "q", "--keep", "1h", "--unique", "1h"]).await.ok();
    let most = i64::MAX;
    for set in [
        format!("keep_ms = {most}"),
        format!("delays_ms = ARRAY[1, {most}]"),
        "delays_ms = '{-1}'".into(),
        format!("rotate_age_ms = {most}"),
        format!("unique_ms = {most}"),
        format!("backoff_cap_ms = {most}"),
        format!("rate_count = 1, rate_burst = 1, rate_ms = {most}"),
    ] {
        let update = format!("UPDATE host.queue SET {set}");
        assert_eq!(sqlstate(client.batch_execute(&update).await), "23514", "{set}");
    }
    let long = "500000000000y";
    for args in [
        &["queue", "create", "p", "--keep", long][..],
        &["queue", "create", "p", "--delays", long],
        &["queue", "create", "p", "--backoff", long],
        &["queue", "create", "p", "--backoff-cap", long],
        &["queue", "create", "p", "--rotate-age", long],
        &["queue", "set", "q", "--keep", long],
        &["queue", "set", "q", "--unique", long],
        &["enqueue", "q", "1", "--delay", long],
        &["enqueue", "q", "1", "--expires-in", long],
        &["serve", "--poll", long],
        &["migrate", "--lock-timeout", long],
    ] {
        let text = db.host(args).await.error(2);
        assert!(text.contains("is out of range: use "), "{args:?}: {text}");
    }
    // The longest that there is.
    db.host(&["enqueue", "q", "1", "--delay", "10950days", "--expires-in", "10950days"]).await.ok();
}

#[tokio::test]
async fn creating_a_queue_again_is_refused_only_with_other_settings() {
    let db = TestDb::new().await;
    let create = ["queue", "create", "emails", "--max-attempts", "5", "--if-not-exists"];
    let text = db.host(&create).await.ok();
    assert!(text.starts_with("Created queue emails"), "{text}");
    let text = db.host(&create).await.ok();
    assert_eq!(text, "Queue emails exists already, with these settings\n");
    let error = db.host(&[&create[..], &["--max-bytes", "2MiB"]].concat()).await.error(1);
    assert!(
        error.contains("exists with other settings: max-bytes is 1.0 MiB, not 2.0 MiB;"),
        "{error}"
    );
    let other = ["queue", "create", "emails", "--if-not-exists", "--ordered", "--delays", "1s,1m"];
    let error = db.host(&other).await.error(1);
    for part in ["max-attempts is 5, not 10", "backoff is 1s to 1h, not 1s, 1m", "order is "] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = db.host(&["queue", "create", "emails"]).await.error(1);
    assert!(error.contains("exists already"), "{error}");
}
