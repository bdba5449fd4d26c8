//! Restore: a dump, taken with messages in every state, is restored in another cluster, whose
//! transaction ids are others. Nothing is lost, and what was settled does not come again.

mod backup;
mod keys;
mod lanes;
mod upgrade;

use std::collections::BTreeSet;
use std::process::Command;

use host_embedded::Embedded;
use tokio::sync::OnceCell;
use tokio_postgres::Client;

use crate::harness::server::{connect, scratch_dir};
use crate::harness::sql_host::{ROTATES_ALWAYS, create_queue, deploy, sqlstate, value};
use crate::harness::watchdog::quit_with_us;
use crate::harness::{Deployment, Scene, SqlHost, TestDb};

/// The other cluster, for all tests of this file.
static OTHER: OnceCell<Embedded> = OnceCell::const_new();

async fn other() -> &'static Embedded {
    let start = async || {
        let settings = [("fsync", "off"), ("full_page_writes", "off")];
        let server = Embedded::start_with(&scratch_dir(), &settings).await.expect("a server");
        quit_with_us(server.pid());
        server
    };
    OTHER.get_or_init(start).await
}

/// Dumps a database, and restores it in a server.
async fn restore(from: &TestDb, server: &Embedded) -> TestDb {
    let dump = from.program("pg_dump", &[]).await;
    let file = scratch_dir().join("dump.sql");
    std::fs::write(&file, dump).unwrap();
    let name = format!("restored_{}", fastrand::u32(..));
    let create = format!("CREATE DATABASE {name} TEMPLATE template0");
    connect(server.url()).await.batch_execute(&create).await.unwrap();
    let url = server.url().replacen("/postgres?", &format!("/{name}?"), 1);
    let mut psql = Command::new(server.programs().join("psql"));
    psql.args(["--no-psqlrc", "--quiet", "--file"]).arg(file).arg(&url);
    let output = psql.output().expect("run psql");
    for line in String::from_utf8(output.stderr).unwrap().lines() {
        // The roles are the cluster's; `host migrate` makes them, and grants anew.
        assert!(line.contains("role \"host_"), "{line}");
    }
    TestDb::elsewhere(name, url)
}

async fn next_txid(client: &Client) -> i64 {
    value(client, "SELECT txid_current()").await
}

/// Uses up transaction ids until there are none below.
async fn burn_txids(client: &Client, until: i64) {
    let n = until - next_txid(client).await;
    let burn = "DO 'BEGIN FOR i IN 1..% LOOP PERFORM txid_current(); COMMIT; END LOOP; END'";
    client.batch_execute(&burn.replace('%', &n.max(1).to_string())).await.unwrap();
}

/// A queue with two handlers and messages in every state that there is.
async fn busy_queue(db: &TestDb) {
    let client = db.client().await;
    create_queue(&client, "q", ROTATES_ALWAYS).await;
    let (a, b) = (deploy(&client, "q", "a").await, deploy(&client, "q", "b").await);
    let hand_a = SqlHost::new(db, "q", a).await;
    let hand_b = SqlHost::new(db, "q", b).await;
    // Settled by both, in a leaf that is not truncated yet; more of them than fit a page.
    hand_a.enqueue(0, 99).await;
    assert_eq!(hand_a.work_off().await.len(), 100);
    assert_eq!(hand_b.work_off().await.len(), 100);
    hand_a.next_generation().await;

    // 1000 commits after what comes later.
    let late = db.client().await;
    late.batch_execute("BEGIN; INSERT INTO queue.q (payload) VALUES ('1000')").await.unwrap();
    hand_a.enqueue(100, 129).await;

    // Of a: 100, 101 and 110 to 119 are done, 104 is dead, and 105 to 109 are in flight. The host
    // retries 102 in an hour and 103 at once.
    let held = hand_a.must_lease(10).await;
    let outcomes = r#", ARRAY[2, 3], ARRAY[3600000, 0], ARRAY['{"error": "busy"}', '{"error": "busy"}']::jsonb[],
        NULL, ARRAY[4], ARRAY['rejected'], ARRAY['{"error": "no"}'::jsonb]"#;
    assert!(hand_a.settle(&held, 0, "{[0,5)}", outcomes).await.unwrap());
    let held = hand_a.must_lease(10).await;
    hand_a.ack(&held).await;
    assert_eq!(promoted(&hand_a.client).await, 1, "103 is back");
    // b: 100 to 104 are done. A host died over 105 to 109 with 106 done; another has two of the
    // rest.
    let held = hand_b.must_lease(5).await;
    hand_b.ack(&held).await;
    let dead = SqlHost::new(db, "q", b).await;
    let held = dead.must_lease(5).await;
    assert!(dead.settle(&held, 0, "{[1,2)}", "").await.unwrap());
    dead.end(true).await;
    hand_b.take_over(held.id, 2).await.unwrap().expect("two of the rest");

    late.batch_execute("COMMIT").await.unwrap();
    hand_a
        .run("INSERT INTO queue.{q} (payload, run_at) VALUES ('200', now() + interval '1 hour')")
        .await;
}

/// What is left for a and for b.
fn left() -> [BTreeSet<i64>; 2] {
    let a = [103, 200, 1000].into_iter().chain(105..=109).chain(120..=129);
    let b = [105, 107, 108, 109, 200, 1000].into_iter().chain(110..=129);
    [a.collect(), b.collect()]
}

async fn promoted(client: &Client) -> i32 {
    value(client, "SELECT promoted FROM host.q__promote(100)").await
}

/// Payload, first id, attempt and length of the history of all that is on the queue or the
/// schedule, for a handler: none of it changes by a restore.
async fn identities(client: &Client, handler: &str) -> BTreeSet<(i64, i64, i16, i32)> {
    let sql = "SELECT payload::bigint, coalesce(origin, id), attempt, coalesce(jsonb_array_length(history), 0)
        FROM (SELECT payload, origin, id, attempt, history, handler_id FROM queue.q
            UNION ALL SELECT payload, origin, 0, attempt, history, handler_id FROM host.q__schedule) m
        WHERE coalesce(handler_id = (SELECT id FROM host.handler WHERE name = $1), true)";
    let rows = client.query(sql, &[&handler]).await.unwrap();
    rows.iter().map(|r| (r.get(0), r.get(1), r.get(2), r.get(3))).collect()
}

/// Works off what there is for a handler, as a host does: what is meant for another is acked
/// unseen. Nothing may come twice.
async fn work_off(db: &TestDb, handler: &str) -> BTreeSet<i64> {
    let client = db.client().await;
    let id = value(&client, &format!("SELECT id FROM host.handler WHERE name = '{handler}'")).await;
    let hand = SqlHost::new(db, "q", id).await;
    let mut all = BTreeSet::new();
    while let Some(held) = hand.lease(1_000).await {
        let read = "SELECT payload::bigint FROM host.q__read($1, $2) WHERE coalesce(handler_id = $3, true)";
        let rows =
            hand.client.query(read, &[&hand.session, &held.seq, &hand.handler]).await.unwrap();
        for payload in rows.iter().map(|row| row.get(0)) {
            assert!(all.insert(payload), "{payload} comes twice");
        }
        hand.ack(&held).await;
    }
    all
}

/// The restored database is refused, then rebased, and has everything that `from` has left.
async fn check_restored(from: &TestDb, restored: &TestDb, since: &[i64]) {
    let text = restored.host(&["serve"]).await.error(1);
    assert!(text.contains("host migrate --restored"), "{text}");
    let text = restored.host(&["migrate"]).await.ok();
    assert!(text.contains("no host serves it before `host migrate --restored`"), "{text}");

    let text = restored.host(&["migrate", "--restored"]).await.ok();
    assert!(text.contains("Rebased queue q: ") && text.contains(" 1 scheduled"), "{text}");
    let client = restored.client().await;
    assert_eq!(value::<i64>(&client, "SELECT count(*) FROM host.missing_privileges()").await, 0);
    let before = from.client().await;
    for handler in ["a", "b"] {
        let kept: BTreeSet<_> = identities(&client, handler).await;
        let known = identities(&before, handler).await;
        let strange: Vec<_> =
            kept.difference(&known).filter(|(payload, ..)| !since.contains(payload)).collect();
        assert!(strange.is_empty(), "{handler}: {strange:?}");
    }
    for (handler, mut wanted) in ["a", "b"].into_iter().zip(left()) {
        wanted.extend(since);
        assert_eq!(work_off(restored, handler).await, wanted, "{handler}");
    }
    assert_eq!(promoted(&client).await, 0, "103 was promoted before");
    let dead = "SELECT payload::bigint FROM host.q__dead_letter";
    assert_eq!(value::<i64>(&client, dead).await, 104);
    let scheduled = "SELECT payload::bigint FROM host.q__schedule";
    assert_eq!(value::<i64>(&client, scheduled).await, 102);
    // Everything is settled, and goes the way of all generations.
    let a = value(&client, "SELECT id FROM host.handler WHERE name = 'a'").await;
    let hand = SqlHost::new(restored, "q", a).await;
    let leaf: i32 =
        hand.value("SELECT (last_value / 100000000000 % 3)::int FROM queue.{q}_id_seq").await;
    hand.run("SELECT host.end_session(id, false) FROM host.session WHERE ended_at IS NULL").await;
    hand.next_generation().await;
    assert_eq!(hand.truncate(leaf).await, None);
    let text = restored.host(&["migrate", "--restored"]).await.ok();
    assert!(text.contains("this database was not restored"), "{text}");
}

#[tokio::test]
async fn a_dump_restored_where_transaction_ids_are_smaller_or_larger_loses_and_repeats_nothing() {
    let server = other().await;
    let there = connect(server.url()).await;

    let small = TestDb::new().await;
    let here = small.client().await;
    burn_txids(&here, next_txid(&there).await + 2_000).await;
    let smallest_cursor = next_txid(&here).await;
    busy_queue(&small).await;
    let restored = restore(&small, server).await;
    // Producers do not wait for operators. Their transaction ids are such as the old cursors have
    // passed.
    let producer = restored.client().await;
    producer
        .batch_execute(
            "INSERT INTO queue.q (payload) VALUES ('2001');
             BEGIN; SELECT 1; SAVEPOINT s; INSERT INTO queue.q (payload) VALUES ('2002'); COMMIT;
             BEGIN; SELECT txid_current(); SAVEPOINT s; INSERT INTO queue.q (payload) VALUES ('2003'); COMMIT",
        )
        .await
        .unwrap();
    assert!(next_txid(&producer).await < smallest_cursor);
    check_restored(&small, &restored, &[2001, 2002, 2003]).await;

    let large = TestDb::new().await;
    busy_queue(&large).await;
    let largest_cursor = next_txid(&large.client().await).await;
    burn_txids(&there, largest_cursor + 2_000).await;
    let restored = restore(&large, server).await;
    let producer = restored.client().await;
    producer.batch_execute("INSERT INTO queue.q (payload) VALUES ('2001')").await.unwrap();
    check_restored(&large, &restored, &[2001]).await;
}

/// Real hosts and a real component, killed in the middle of it.
#[tokio::test]
async fn hosts_go_on_in_the_other_cluster_with_what_was_left() {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let numbers =
        "INSERT INTO queue.work (payload) SELECT jsonb_build_object('do', 'enqueue', 'n', 1,
        'queue', 'sink', 'text', i::text, 'ms', 30) FROM generate_series(1, 3000) i";
    scene.run(numbers).await;
    let host = scene.serve("first", &[]);
    crate::harness::wait_until("some are done", async || {
        scene.number("SELECT count(*) FROM queue.sink").await > 200
    })
    .await;
    // The dump is taken while it works.
    let restored = restore(&scene.db, other().await).await;
    host.kill();
    let copy = Scene::of(restored).await;
    let done = copy.number("SELECT count(*) FROM queue.sink").await;
    assert!((1..3_000).contains(&done), "{done}");
    let text = copy.db.host(&["migrate", "--restored"]).await.ok();
    assert!(text.contains("Hosts may serve this database now"), "{text}");
    let host = copy.serve("second", &[]);
    copy.wait_done("work").await;
    // Each message and its follow-up were in the dump together, or neither was.
    assert_eq!(copy.number("SELECT count(*) FROM queue.sink").await, 3_000);
    assert_eq!(copy.number("SELECT count(DISTINCT payload) FROM queue.sink").await, 3_000);
    assert!(host.terminate().await.success());
}

#[tokio::test]
async fn a_rebase_that_was_cut_off_is_done_again() {
    let db = TestDb::new().await;
    busy_queue(&db).await;
    let owner = db.client().await;
    create_queue(&owner, "r", "").await;
    owner.batch_execute("INSERT INTO queue.r (payload) VALUES ('1')").await.unwrap();
    let restored = restore(&db, other().await).await;
    let mut blocker = restored.client().await;
    let hold = blocker.transaction().await.unwrap();
    hold.batch_execute("SELECT FROM queue.r").await.unwrap();
    // By hand: the command waits for 10 s.
    let client = restored.client().await;
    client.batch_execute("SELECT host.q__rebase()").await.unwrap();
    let cut_off = client.batch_execute("SET lock_timeout = '1ms'; SELECT host.r__rebase()");
    let text = restored.host(&["serve"]).await.error(1);
    assert!(text.contains("host migrate --restored"), "half of it is not enough: {text}");
    drop(cut_off);
    hold.rollback().await.unwrap();
    let text = restored.host(&["migrate", "--restored"]).await.ok();
    assert!(text.contains("Rebased queue r: 1 waiting, 0 scheduled"), "{text}");
    for (handler, wanted) in ["a", "b"].into_iter().zip(left()) {
        assert_eq!(work_off(&restored, handler).await, wanted, "{handler}");
    }
}

/// As logical replication leaves it: rows, and sequences at their start.
#[tokio::test]
async fn a_copy_without_its_sequences_gives_no_id_twice() {
    let db = TestDb::new().await;
    busy_queue(&db).await;
    let restored = restore(&db, other().await).await;
    let client = restored.client().await;
    let reset = "SELECT setval(oid::regclass, 1, false) FROM pg_class
        WHERE relkind = 'S' AND relnamespace IN ('host'::regnamespace, 'queue'::regnamespace)
            AND relname NOT LIKE '%asleep'";
    client.batch_execute(reset).await.unwrap();
    restored.host(&["migrate", "--restored"]).await.ok();
    let next: i64 =
        value(&client, "INSERT INTO queue.q (payload) VALUES ('3000') RETURNING id").await;
    let first = "SELECT count(*) FROM queue.q WHERE origin >= $1";
    assert_eq!(client.query_one(first, &[&next]).await.unwrap().get::<_, i64>(0), 0);
    let third = deploy(&client, "q", "c").await;
    SqlHost::new(&restored, "q", third).await;
    create_queue(&client, "r", "").await;
    for (handler, mut wanted) in ["a", "b"].into_iter().zip(left()) {
        wanted.insert(3000);
        assert_eq!(work_off(&restored, handler).await, wanted, "{handler}");
    }
}

/// Where it cannot be told what was settled, nothing was.
#[tokio::test]
async fn in_doubt_everything_is_delivered_again() {
    let db = TestDb::new().await;
    busy_queue(&db).await;
    let client = db.client().await;
    // Rows that are younger than the index on them: loaded into tables that were there.
    client.batch_execute("UPDATE host.cluster SET system_identifier = 1").await.unwrap();
    client
        .batch_execute(
            "SELECT host.end_session(id, false) FROM host.session WHERE ended_at IS NULL",
        )
        .await
        .unwrap();
    db.host(&["migrate", "--restored"]).await.ok();
    let all: BTreeSet<i64> = (0..=129).chain([200, 1000]).collect();
    assert_eq!(work_off(&db, "b").await, all);
}

/// A copy within the cluster counts by the same transaction ids.
#[tokio::test]
async fn a_copy_within_the_cluster_is_served_as_it_is() {
    let scene = Scene::new("").await;
    scene.deploy("work", "echo", Deployment::default()).await;
    scene.run("INSERT INTO queue.work (payload) SELECT '1' FROM generate_series(1, 100)").await;
    let dump = scene.db.program("pg_dump", &[]).await;
    let file = scratch_dir().join("dump.sql");
    std::fs::write(&file, dump).unwrap();
    let copy = TestDb::empty().await;
    copy.program(
        "psql",
        &["--no-psqlrc", "-q", "-v", "ON_ERROR_STOP=1", "-f", file.to_str().unwrap()],
    )
    .await;
    let copy = Scene::of(copy).await;
    let host = copy.serve("copy", &[]);
    copy.wait_done("work").await;
    assert!(host.terminate().await.success());
    assert_eq!(scene.in_flight("work").await, 0, "the original knows nothing of it");
}

/// Transaction ids that went back, in a database that says it is at home: nothing is leased.
#[tokio::test]
async fn a_cursor_ahead_of_the_cluster_is_refused_at_the_lease_too() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", "").await;
    let hand = SqlHost::new(&db, "q", deploy(&client, "q", "a").await).await;
    let ahead = "INSERT INTO host.q__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
            row_count, leaves, is_cursor, more, token, hi, txids)
        SELECT -99, 0, 0, 0, 0, handler_id, 0, 0, 0, true, false, token, '900000000:900000000:', '{}'
        FROM host.q__lease";
    client.batch_execute(ahead).await.unwrap();
    hand.enqueue(0, 9).await;
    assert_eq!(sqlstate(hand.try_lease(10, 1 << 40).await), "HQ003");
}
