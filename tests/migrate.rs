//! Migrating: once, together, refused when it must be.

use host_queue::migrate::{File, Migrations, SchemaState, check, migrate};

use crate::harness::TestDb;
use crate::harness::sql_host::{backend, value, wait_for_lock};

mod busy;
mod many;
mod old;

const ONE: (&str, &str) = ("0001_one.sql", "CREATE TABLE host.one (a int);");
const TWO: (&str, &str) = ("0002_two.sql", "CREATE TABLE host.two (a int);");
const FUNCTION: &str = "functions/f.sql";

/// A small set, with the real runner's file.
fn set(files: &[(&str, &str)]) -> Migrations {
    let bootstrap = Migrations::embedded().unwrap().bootstrap;
    let files =
        files.iter().map(|(path, sql)| File { path: (*path).to_owned(), sql: (*sql).to_owned() });
    Migrations::parse(files.chain([bootstrap])).unwrap()
}

fn function(answer: i32) -> String {
    format!("CREATE OR REPLACE FUNCTION host.f() RETURNS int LANGUAGE sql AS 'SELECT {answer}';")
}

#[tokio::test]
async fn what_is_missing_is_applied_once() {
    let db = TestDb::empty().await;
    let mut client = db.client().await;
    let (old, new) = (set(&[ONE]), set(&[ONE, TWO]));
    assert_eq!(check(&client, &old).await, Ok(SchemaState::Older { have: 0, want: 1 }));

    let report = migrate(&mut client, &old).await.unwrap();
    assert_eq!((report.from, report.to, report.applied.len()), (0, 1, 1));
    let report = migrate(&mut client, &new).await.unwrap();
    assert_eq!((report.from, report.to), (1, 2));
    assert_eq!(report.applied, ["0002_two.sql"]);
    assert!(!report.functions_replaced);
    let report = migrate(&mut client, &new).await.unwrap();
    assert!(report.applied.is_empty() && !report.functions_replaced);

    assert_eq!(check(&client, &new).await, Ok(SchemaState::Current { version: 2 }));
    assert_eq!(check(&client, &old).await, Ok(SchemaState::Newer { have: 2, want: 1 }));
    let error = migrate(&mut client, &old).await.unwrap_err();
    assert!(error.to_string().contains("upgrade host"), "{error}");
}

#[tokio::test]
async fn functions_are_replaced_when_they_change() {
    let db = TestDb::empty().await;
    let mut client = db.client().await;
    for answer in [1, 2] {
        let files = set(&[ONE, (FUNCTION, &function(answer)), ("queue/tables.sql", "-- {q}")]);
        let want = SchemaState::Older { have: answer - 1, want: 1 };
        assert_eq!(
            check(&client, &files).await,
            Ok(if answer == 1 { want } else { SchemaState::Older { have: 1, want: 1 } })
        );
        assert!(migrate(&mut client, &files).await.unwrap().functions_replaced);
        let row = client.query_one("SELECT host.f()", &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), answer);
        let row = client.query_one("SELECT body FROM host.template", &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "-- {q}");
    }
}

#[tokio::test]
async fn several_at_once_apply_each_file_once() {
    let db = TestDb::empty().await;
    let files = set(&[ONE, TWO, (FUNCTION, &function(1))]);
    let runs = (0..8).map(async |_| {
        let mut client = db.client().await;
        migrate(&mut client, &files).await.unwrap().applied.len()
    });
    let applied = futures_util::future::join_all(runs).await;
    assert_eq!(applied.iter().sum::<usize>(), 2, "{applied:?}");
}

#[tokio::test]
async fn a_file_that_fails_leaves_nothing_and_is_named_with_its_line() {
    let db = TestDb::empty().await;
    let mut client = db.client().await;
    let broken = "CREATE TABLE host.half (a int);\n\nCREATE TABEL host.other (a int);";
    let files = set(&[ONE, ("0002_broken.sql", broken)]);
    let error = migrate(&mut client, &files).await.unwrap_err().to_string();
    assert!(error.starts_with("0002_broken.sql, line 3: syntax error"), "{error}");
    // Nothing of the whole run: hosts are never left with half of what a release needs.
    assert_eq!(check(&client, &files).await, Ok(SchemaState::Older { have: 0, want: 2 }));
    let row = client.query_one("SELECT to_regclass('host.half') IS NULL", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    // The lock is free again.
    migrate(&mut db.client().await, &set(&[ONE, TWO])).await.unwrap();
}

#[tokio::test]
async fn a_changed_migration_is_refused() {
    let db = TestDb::empty().await;
    let mut client = db.client().await;
    migrate(&mut client, &set(&[ONE])).await.unwrap();
    let edited = set(&[(ONE.0, "CREATE TABLE host.one (a bigint);")]);
    let error = migrate(&mut client, &edited).await.unwrap_err();
    assert!(error.to_string().contains("0001_one.sql differs"), "{error}");
}

#[tokio::test]
async fn the_command_says_what_it_did() {
    let db = TestDb::empty().await;
    let text = db.host(&["migrate"]).await.ok();
    assert!(text.starts_with("Migrated from version 0 to "), "{text}");
    let text = db.host(&["migrate"]).await.ok();
    assert!(text.starts_with("Nothing to do: the schema is current"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&db.host(&["migrate", "--json"]).await.ok()).unwrap();
    assert_eq!(json["applied"], serde_json::json!([]));
}

/// Durations that were set before there were bounds are brought to the nearest.
#[tokio::test]
async fn durations_without_bounds_are_cut_to_them() {
    let db = TestDb::empty().await;
    let client = db.client().await;
    old::migrate_as_then(&client, &old::version_13()).await;
    client
        .batch_execute(
            "SELECT host.create_queue('q', p_keep_ms => 1000, p_delays_ms => '{5}');
             UPDATE host.queue SET keep_ms = 9e18, rotate_age_ms = 9e18, delays_ms = '{-5, 7, 9000000000000000000}'",
        )
        .await
        .unwrap();
    db.host(&["migrate"]).await.ok();
    let cut = "SELECT concat_ws(' ', keep_ms, rotate_age_ms, delays_ms) FROM host.queue";
    assert_eq!(value::<String>(&client, cut).await, "315360000000 31536000000 {0,7,31536000000}");
}

/// A queue that is dropped between the two halves of its upgrade.
#[tokio::test]
async fn a_queue_that_is_dropped_in_between_is_passed_over() {
    let db = TestDb::new().await;
    let (client, other) = (db.client().await, db.client().await);
    client.batch_execute("SELECT host.create_queue('q')").await.unwrap();
    client.batch_execute("SELECT host.upgrade_queue('q')").await.unwrap();
    other.batch_execute("BEGIN; SELECT host.drop_queue('q', true)").await.unwrap();
    let pid = backend(&client).await;
    let end = client.batch_execute("SELECT host.end_upgrade('q')");
    let drop = async {
        wait_for_lock(&other, pid).await;
        other.batch_execute("COMMIT").await
    };
    let (ended, dropped) = tokio::join!(end, drop);
    dropped.unwrap();
    ended.unwrap();
}

/// Somebody who migrates may take long; whatever the role's limit for locks is, others wait.
#[tokio::test]
async fn another_migration_is_waited_for_whatever_lock_timeout_says() {
    const LOCK: i64 = 7_326_104_881_203;
    let db = TestDb::empty().await;
    let holder = db.client().await;
    holder.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.unwrap();
    let mut client = db.client().await;
    client.batch_execute("SET lock_timeout = '1ms'").await.unwrap();
    let pid = backend(&client).await;
    let files = set(&[ONE]);
    let release = async {
        wait_for_lock(&holder, pid).await;
        drop(holder);
    };
    let (report, ()) = tokio::join!(migrate(&mut client, &files), release);
    assert_eq!(report.unwrap().to, 1);
}
