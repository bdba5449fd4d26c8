//! Names that anybody can give a connection: they neither shield a dead host, nor stop rotation.

use std::process::{Command, Stdio};

use tokio_postgres::Client;

use crate::harness::server::connect;
use crate::harness::sql_host::{ROTATES_ALWAYS, backend, create_queue, deploy, value};
use crate::harness::watchdog::kill_with_us;
use crate::harness::{SqlHost, TestDb, wait_until};

/// A connection of a new role without any rights, under a name.
async fn nobody(db: &TestDb, application_name: &str) -> Client {
    let role = format!("nobody_{}", db.name);
    db.client().await.batch_execute(&format!("CREATE ROLE {role} LOGIN")).await.unwrap();
    let url = db.url.replacen("postgres://postgres@", &format!("postgres://{role}@"), 1);
    connect(&format!("{url}&application_name={}", application_name.replace(' ', "%20"))).await
}

/// A queue whose first leaf could go.
async fn with_a_leaf_to_truncate(db: &TestDb) -> SqlHost {
    let client = db.client().await;
    create_queue(&client, "q", ROTATES_ALWAYS).await;
    let hand = SqlHost::new(db, "q", deploy(&client, "q", "a").await).await;
    hand.enqueue(0, 99).await;
    hand.work_off().await;
    hand.next_generation().await;
    hand
}

#[tokio::test]
async fn who_calls_himself_a_dead_host_shields_nobody() {
    let db = TestDb::new().await;
    create_queue(&db.client().await, "q", "").await;
    let handler = deploy(&db.client().await, "q", "a").await;
    let member = db.as_member_of("host_serve").await;
    let hand = SqlHost::new(&member, "q", handler).await;
    let name = format!("host session {}", hand.session);
    // Before and after: whichever is looked at first.
    let before = nobody(&db, &name).await;
    let frozen =
        connect(&format!("{}&application_name={}", member.url, name.replace(' ', "%20"))).await;
    let pid = backend(&frozen).await;
    frozen.batch_execute("BEGIN; LOCK TABLE queue.q IN ROW EXCLUSIVE MODE").await.unwrap();

    let other = member.client().await;
    let end = "SELECT host.end_session($1, true)";
    other.query_one(end, &[&hand.session]).await.unwrap();
    let watcher = db.client().await;
    let gone = format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {pid}");
    wait_until("the dead host's connection is gone", async || value::<bool>(&watcher, &gone).await)
        .await;
    assert_eq!(value::<i32>(&before, "SELECT 1").await, 1, "another role's is not ours to end");
}

#[tokio::test]
async fn who_calls_himself_pg_dump_stops_no_rotation_unless_he_may_read() {
    let db = TestDb::new().await;
    let hand = with_a_leaf_to_truncate(&db).await;
    let dump = nobody(&db, "pg_dump").await;
    dump.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    assert_eq!(hand.truncate(0).await, None);
}

#[tokio::test]
async fn a_dump_is_waited_for_until_it_has_locked_what_it_will_read() {
    let db = TestDb::new().await;
    let hand = with_a_leaf_to_truncate(&db).await;
    db.client().await.batch_execute("CREATE TABLE public.other ()").await.unwrap();
    let dump = connect(&format!("{}&application_name=pg_dump", db.url)).await;
    let waits = async || {
        hand.truncate(0).await.is_some_and(|why| why.contains("(pg_dump) may be about to read it"))
    };
    for step in [
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "SELECT count(*) FROM pg_class",
        "LOCK TABLE public.other IN ACCESS SHARE MODE",
    ] {
        dump.batch_execute(step).await.unwrap();
        assert!(waits().await, "{step}");
    }
    dump.batch_execute("SELECT count(*) FROM pg_class").await.unwrap();
    assert_eq!(hand.truncate(0).await, None, "it has what it wants");
}

/// The real one, of a table that has nothing to do with any queue; it is in the midst of it for as
/// long as nobody reads.
#[tokio::test]
async fn a_dump_of_another_table_stops_no_rotation() {
    let db = TestDb::new().await;
    let client = db.client().await;
    let other =
        "CREATE TABLE public.other AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 5000)";
    client.batch_execute(other).await.unwrap();
    let hand = with_a_leaf_to_truncate(&db).await;
    let program = db.program_path("pg_dump").await;
    let mut dump = Command::new(&program)
        .args(["--table", "public.other", &db.url])
        .stdout(Stdio::piped())
        .spawn()
        .expect("run pg_dump");
    kill_with_us(dump.id(), &program.canonicalize().unwrap());
    let copies = "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'pg_dump'
        AND datname = current_database() AND query LIKE 'COPY %'";
    wait_until("the dump copies", async || value::<bool>(&client, copies).await).await;
    assert_eq!(hand.truncate(0).await, None);
    dump.kill().unwrap();
    dump.wait().unwrap();
}
