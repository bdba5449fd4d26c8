//! Order per key: messages of one key run one at a time, in order of commit, whatever fails and
//! whoever dies.

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::harness::sql_host::{
    ROTATES_ALWAYS, assert_only_inserted, backend, create_queue, sqlstate, value, wait_for_lock,
};
use crate::harness::{Deployment, Scene, SqlHost, SqlLease, TestDb, wait_until};

/// One lane has all keys, unless a test is about several.
async fn queue(settings: &str) -> (TestDb, Client, SqlHost) {
    SqlHost::with_queue(&format!(", p_ordered_lanes => 2{settings}")).await
}

async fn insert(client: &Client, key: &str, a: i64, b: i64) {
    let sql = "INSERT INTO queue.q (payload, key) SELECT to_jsonb(g), $1::text
        FROM generate_series($2::bigint, $3::bigint) g";
    client.execute(sql, &[&key, &a, &b]).await.unwrap();
}

/// A key of that lane.
async fn key_of(client: &Client, lane: i32) -> String {
    let key = "SELECT 'key' || g FROM generate_series(1, 1000) g
        WHERE hashtextextended('key' || g, 0) & 1 = $1 LIMIT 1";
    client.query_one(key, &[&i64::from(lane)]).await.unwrap().get(0)
}

/// Leases up to so many messages from each of the two lanes, as a host does.
async fn lease_lanes(hand: &SqlHost, messages: i32) -> Vec<SqlLease> {
    let token = Uuid::new_v4();
    let (seq, _) = (hand.next_seq(), hand.next_seq());
    let call = "SELECT lease_id, row_count, more FROM host.q__lease_lanes($1, $2, $3, $4, $5, 1 << 30, 0, 2, 5)
        WHERE lease_id IS NOT NULL";
    let messages = 2 * messages;
    let params: [&(dyn ToSql + Sync); 5] = [&hand.handler, &hand.session, &seq, &token, &messages];
    let rows = hand.client.query(call, &params).await.expect("lease");
    let held = |(at, row): (usize, &tokio_postgres::Row)| SqlLease {
        id: row.get(0),
        seq: seq + at as i64,
        token,
        count: row.get(1),
        more: row.get(2),
    };
    rows.iter().enumerate().map(held).collect()
}

/// The one lease that there must be.
async fn only_lease(hand: &SqlHost, messages: i32) -> SqlLease {
    let leases = lease_lanes(hand, messages).await;
    assert_eq!(leases.len(), 1, "{leases:?}");
    leases[0]
}

/// Leaves the rest of a lease to whoever comes; with a delay, for a retry of its first, which is at
/// `pos`.
async fn hand_on(
    hand: &SqlHost,
    held: &SqlLease,
    retry: Option<(i32, i64)>,
) -> Result<bool, tokio_postgres::Error> {
    let (pos, delay) = retry.unzip();
    let entry = retry.map(|_| serde_json::json!({ "error": "busy" }));
    let params: [&(dyn ToSql + Sync); 6] =
        [&held.id, &hand.session, &held.token, &pos, &delay, &entry];
    Ok(hand.query("SELECT host.{q}__hand_on($1, $2, $3, $4, $5, $6)", &params).await?.get(0))
}

/// Payload and attempt of each message of a lease.
async fn attempts(hand: &SqlHost, held: &SqlLease) -> Vec<(i64, i16)> {
    let read = "SELECT payload::bigint, attempt FROM host.q__read($1, $2)";
    let rows = hand.client.query(read, &[&hand.session, &held.seq]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The first transaction has its xid before the second, waits for a lock of the second, and inserts
/// after that has committed: in order of transactions it would be the first.
#[tokio::test]
async fn a_window_is_handed_out_in_order_of_the_inserts() {
    let (db, client, hand) = queue("").await;
    client.batch_execute("CREATE TABLE public.account AS SELECT 1 AS balance").await.unwrap();
    let (first, second) = (db.client().await, db.client().await);
    first.batch_execute("BEGIN; SELECT txid_current()").await.unwrap();
    second.batch_execute("BEGIN; UPDATE public.account SET balance = 2").await.unwrap();
    let pid = backend(&first).await;
    let waiting = tokio::spawn(async move {
        first.batch_execute("UPDATE public.account SET balance = 3").await.unwrap();
        insert(&first, "ada", 2, 2).await;
        first.batch_execute("COMMIT").await.unwrap();
    });
    wait_for_lock(&client, pid).await;
    insert(&second, "ada", 1, 1).await;
    second.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap();
    let by_transaction: Vec<i64> =
        value(&client, "SELECT array_agg(payload::bigint ORDER BY txid, id) FROM queue.q").await;
    assert_eq!(by_transaction, [2, 1]);
    let held = only_lease(&hand, 10).await;
    assert_eq!(hand.payloads(&held).await, [1, 2]);
}

#[tokio::test]
async fn a_lane_has_one_lease_and_the_others_go_on() {
    let (db, client, hand) = queue("").await;
    let (a, b) = (key_of(&client, 0).await, key_of(&client, 1).await);
    insert(&client, &a, 1, 5).await;
    let held = only_lease(&hand, 2).await;
    assert!(!held.more, "what the lane has beyond the lease is no part of it");
    assert_eq!(lease_lanes(&hand, 10).await.len(), 0, "the lane is taken");
    insert(&client, &b, 6, 6).await;
    let other = only_lease(&hand, 10).await;
    assert_eq!(hand.payloads(&other).await, [6]);
    assert!(hand.settle(&held, 0, "{[1,2)}", "").await.unwrap());
    assert_eq!(lease_lanes(&hand, 10).await.len(), 0, "half of it is open");
    assert!(hand.settle(&held, 1, "{[0,1)}", "").await.unwrap());
    let rest = only_lease(&hand, 10).await;
    assert_eq!(hand.payloads(&rest).await, [3, 4, 5]);
    hand.ack(&rest).await;
    hand.ack(&other).await;
    let before: i64 = value(&client, "SELECT count(*) FROM host.q__lease").await;
    assert_eq!(lease_lanes(&hand, 10).await.len(), 0);
    let after: i64 = value(&client, "SELECT count(*) FROM host.q__lease").await;
    assert_eq!(before, after, "an empty poll writes nothing");
    drop((client, hand));
    assert_only_inserted(&db).await;
}

#[tokio::test]
async fn big_windows_are_handed_out_in_chunks_while_others_commit() {
    let (db, client, hand) = queue("").await;
    let late = db.client().await;
    late.batch_execute("BEGIN").await.unwrap();
    insert(&late, "ada", -3, -1).await;
    insert(&client, "ada", 1, 5_000).await;
    let (mut given, mut next) = (Vec::new(), 5_001);
    while let Some(held) = lease_lanes(&hand, 333).await.first() {
        given.extend(hand.payloads(held).await);
        hand.ack(held).await;
        if next <= 5_020 {
            insert(&client, "ada", next, next).await;
            next += 1;
        }
        if next == 5_010 {
            late.batch_execute("COMMIT").await.unwrap();
        }
    }
    let late_ones: Vec<i64> = given.extract_if(.., |n| *n < 0).collect();
    assert_eq!(late_ones, [-3, -2, -1]);
    assert_eq!(given, (1..next).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_retry_holds_its_lane_and_comes_first() {
    let (db, client, hand) = queue("").await;
    let (a, b) = (key_of(&client, 0).await, key_of(&client, 1).await);
    insert(&client, &a, 1, 4).await;
    let held = only_lease(&hand, 3).await;
    assert!(hand.settle(&held, 0, "{[0,1)}", "").await.unwrap());
    assert_eq!(sqlstate(hand_on(&hand, &held, Some((2, 0))).await), "HQ002", "2 is not the first");
    assert!(hand_on(&hand, &held, Some((1, 3_600_000))).await.unwrap());
    assert!(!hand_on(&hand, &held, Some((1, 3_600_000))).await.unwrap(), "it is done already");
    assert_eq!(sqlstate(hand.settle(&held, 1, "{[1,2)}", "").await), "HQ002", "it is over");
    // However it is broken into lines.
    let text = db.host(&["status"]).await.ok();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("1 lane held until 20"), "{text}");
    let waiting: i64 = value(&client, "SELECT waiting FROM host.queue_status('q')").await;
    assert_eq!(waiting, 3);

    insert(&client, &b, 5, 7).await;
    let other = only_lease(&hand, 2).await;
    assert!(hand_on(&hand, &other, Some((0, 0))).await.unwrap());
    let again = only_lease(&hand, 10).await;
    assert_eq!(attempts(&hand, &again).await, [(5, 2), (6, 1)]);
    let history = "SELECT history -> 0 ->> 'error' FROM host.{q}__read($1, $2) WHERE pos = 0";
    let error: String = hand.query(history, &[&hand.session, &again.seq]).await.unwrap().get(0);
    assert_eq!(error, "busy");
    hand.ack(&again).await;
    let last = only_lease(&hand, 10).await;
    assert_eq!(attempts(&hand, &last).await, [(7, 1)]);
    drop((client, hand));
    assert_only_inserted(&db).await;
}

/// What is tried again keeps its attempt when its host dies; and what kills its hosts does so
/// alone, and is buried at last.
#[tokio::test]
async fn what_a_dead_host_left_goes_on_in_order() {
    let (db, client, hand) = queue("").await;
    insert(&client, "ada", 1, 4).await;
    let held = only_lease(&hand, 10).await;
    assert!(hand.settle(&held, 0, "{[0,1)}", "").await.unwrap());
    assert!(hand_on(&hand, &held, Some((1, 0))).await.unwrap());
    only_lease(&hand, 10).await;
    hand.end(true).await;
    let handler = hand.handler;
    let mut hosts = vec![hand];
    for deaths in 1..5 {
        let next = SqlHost::new(&db, "q", handler).await;
        assert_eq!(lease_lanes(&next, 10).await.len(), 0, "the lane is the dead one's");
        let stray = next.strays().await;
        let held = next.take_over(stray[0], 1).await.unwrap().expect("the rest");
        let all = [(2, 2), (3, 1), (4, 1)];
        let wanted = if deaths < 2 { &all[..] } else { &all[..1] };
        assert_eq!(attempts(&next, &held).await, wanted, "after {deaths} deaths");
        next.end(true).await;
        hosts.push(next);
    }
    let last = SqlHost::new(&db, "q", handler).await;
    let stray = last.strays().await;
    let held = last.take_over(stray[0], 1).await.unwrap().expect("what is left");
    assert_eq!(attempts(&last, &held).await, [(3, 1), (4, 1)]);
    let dead: i64 = value(&client, "SELECT payload::bigint FROM host.q__dead_letter").await;
    assert_eq!(dead, 2);
    drop((client, last, hosts));
    assert_only_inserted(&db).await;
}

/// Of a lease over which two hosts have died, only the first message is given out; the rest
/// follows.
#[tokio::test]
async fn the_rest_of_a_lease_over_which_hosts_died_is_handed_on() {
    let (db, client, hand) = queue("").await;
    insert(&client, "ada", 1, 3).await;
    only_lease(&hand, 10).await;
    hand.end(true).await;
    let second = SqlHost::new(&db, "q", hand.handler).await;
    second.take_over(second.strays().await[0], 1).await.unwrap().expect("all");
    second.end(true).await;
    let third = SqlHost::new(&db, "q", hand.handler).await;
    let first = third.take_over(third.strays().await[0], 1).await.unwrap().expect("the first");
    assert!(first.more);
    assert!(third.settle(&first, 0, "{[0,1)}", "").await.unwrap());
    assert!(hand_on(&third, &first, None).await.unwrap());
    let next = only_lease(&third, 10).await;
    assert_eq!((attempts(&third, &next).await, next.more), (vec![(2, 1)], true));
}

#[tokio::test]
async fn a_leaf_goes_when_all_lanes_have_passed_it() {
    let (db, client, hand) = queue(ROTATES_ALWAYS).await;
    insert(&client, "ada", 1, 300).await;
    hand.next_generation().await;
    let held = only_lease(&hand, 100).await;
    let why = hand.truncate(0).await.expect("there are more");
    assert_eq!(why, "handler \"default\" has messages in it to come");
    hand.ack(&held).await;
    let held = only_lease(&hand, 1_000).await;
    assert!(hand_on(&hand, &held, Some((0, 10))).await.unwrap());
    assert!(hand.truncate(0).await.expect("held").starts_with("a retry holds lane "));
    let mut rest = Vec::new();
    wait_until("it is due", async || {
        rest = lease_lanes(&hand, 1_000).await;
        !rest.is_empty()
    })
    .await;
    hand.ack(&rest[0]).await;
    assert_eq!(hand.truncate(0).await, None);
    insert(&client, "ada", 301, 301).await;
    let held = only_lease(&hand, 10).await;
    assert_eq!(hand.payloads(&held).await, [301], "the cursors have come along");
    drop((client, hand));
    assert_only_inserted(&db).await;
}

#[tokio::test]
async fn a_queue_keeps_order_or_has_priorities_or_neither() {
    let db = TestDb::new().await;
    let client = db.client().await;
    let text = db.host(&["queue", "create", "q", "--ordered", "--priorities"]).await.error(2);
    assert!(text.contains("exclude each other"), "{text}");
    let text = db.host(&["queue", "create", "q", "--ordered=3"]).await;
    assert!(text.stderr.contains("use a power of two from 2 to 1024"), "{text:?}");
    db.host(&["queue", "create", "q", "--ordered"]).await.ok();
    assert_eq!(value::<i32>(&client, "SELECT ordered_lanes FROM host.queue").await, 256);
    db.host(&["enqueue", "q", "1", "--key", "ada"]).await.ok();
    assert_eq!(value::<String>(&client, "SELECT key FROM queue.q").await, "ada");
    assert!(db.host(&["queue", "show", "q"]).await.ok().contains("for each key, in 256 lanes"));
    create_queue(&client, "plain", "").await;
    for (queue, constraint) in [("q", "key_is_1_to_255_bytes"), ("plain", "queue_takes_no_key")] {
        let insert = format!("INSERT INTO queue.{queue} (payload, key) VALUES ('1', '')");
        let error = client.batch_execute(&insert).await.expect_err("refused");
        assert_eq!(error.as_db_error().unwrap().constraint(), Some(constraint));
    }
    let text = db.host(&["enqueue", "plain", "1", "--key", "ada"]).await.error(2);
    assert!(text.contains("host queue create --ordered"), "{text}");
}

/// Messages whose handler fails some times, and then puts `key:number` on `sink`.
pub async fn enqueue(client: &Client, keys: std::ops::Range<u32>, numbers: std::ops::Range<u32>) {
    for number in numbers {
        for key in keys.clone() {
            let failures = if (number * 31 + key * 17) % 7 == 0 { 1 + key % 2 } else { 0 };
            let text = format!("{key}:{number}");
            let payload = serde_json::json!(
                { "do": "watch", "n": failures, "ms": u32::from(number % 5 == 0), "text": text, "queue": "sink" }
            );
            let insert = "INSERT INTO queue.work (payload, key) VALUES ($1, $2)";
            client.execute(insert, &[&payload, &key.to_string()]).await.unwrap();
        }
    }
}

const DONE: &str = "SELECT count(*) FROM queue.sink";

/// Each key's messages were handled once and in order, and no lane had two leases at a time.
pub async fn assert_in_order(scene: &Scene, keys: u32, numbers: u32) {
    let handled =
        scene.texts("SELECT split_part(payload, ' ', 1) FROM queue.sink ORDER BY id").await;
    for key in 0..keys {
        let mine = handled.iter().filter_map(|text| text.split_once(':'));
        let mine: Vec<u32> =
            mine.filter(|(k, _)| *k == key.to_string()).map(|(_, n)| n.parse().unwrap()).collect();
        assert_eq!(mine, (0..numbers).collect::<Vec<_>>(), "key {key}");
    }
    let overlaps = "SELECT count(*) FROM (
            SELECT leased_at, lag(ended_at) OVER (PARTITION BY lane ORDER BY id) AS before FROM (
                SELECT l.lane, l.id, l.leased_at,
                    (SELECT max(s.settled_at) FROM host.work__settlement s WHERE s.lease_id = l.id AND s.rest = 0) AS ended_at
                FROM host.work__lease l WHERE l.row_count > 0) l) l
        WHERE leased_at < before";
    assert_eq!(scene.number(overlaps).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_keeps_its_order_while_messages_fail_and_hosts_die() {
    const KEYS: u32 = 40;
    const NUMBERS: u32 = 60;
    let scene =
        Scene::new("p_ordered_lanes => 16, p_delays_ms => '{15}', p_max_attempts => 20").await;
    let how = Deployment { concurrency: 8, ..Deployment::default() };
    scene.deploy("work", "misbehave", how).await;
    let mut hosts: Vec<_> = ["a", "b", "c"].iter().map(|name| scene.serve(name, &[])).collect();
    let producer = scene.db.client().await;
    let producing = tokio::spawn(async move { enqueue(&producer, 0..KEYS, 0..NUMBERS).await });
    let at_least = async |many: u32| {
        let what = format!("{many} are done");
        wait_until(&what, async || scene.number(DONE).await >= i64::from(many)).await;
    };
    at_least(KEYS * NUMBERS / 8).await;
    let frozen = hosts.remove(0);
    frozen.signal(Signal::SIGSTOP);
    for (name, share) in [("d", 4), ("e", 3)] {
        at_least(KEYS * NUMBERS / share).await;
        hosts.push(scene.serve(name, &[]));
        hosts.remove(0).kill();
    }
    producing.await.unwrap();
    scene.wait_done("work").await;
    // It may have held nothing: then nobody waits for its end.
    scene.wait_number("SELECT count(*) FROM host.session WHERE host_name = 'a' AND lost", 1).await;
    frozen.signal(Signal::SIGCONT);
    frozen.wait_for_log("the session was lost; beginning another").await;
    assert_in_order(&scene, KEYS, NUMBERS).await;
    let lost = "SELECT count(*) FROM host.session WHERE lost";
    assert_eq!(scene.number(lost).await, 3);
    for host in hosts {
        assert!(host.terminate().await.success());
    }
    let Scene { db, client } = scene;
    drop((client, frozen));
    assert_only_inserted(&db).await;
}

/// What Postgres refuses is a handler's follow-up: it is tried again before what comes after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_follow_up_keeps_its_place() {
    let scene = Scene::new("p_ordered_lanes => 2, p_delays_ms => '{10}'").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    scene
        .run("ALTER TABLE queue.sink ADD CONSTRAINT not_yet CHECK (payload NOT LIKE '0:3 %')")
        .await;
    enqueue(&scene.client, 0..1, 0..8).await;
    let host = scene.serve("host", &[]);
    let tried = "SELECT coalesce(max(attempt), 0) FROM host.work__lease";
    wait_until("the third is tried again and again", async || scene.number(tried).await > 2).await;
    let done: Value =
        serde_json::json!(scene.texts("SELECT payload FROM queue.sink ORDER BY id").await);
    assert_eq!(done.as_array().unwrap().len(), 3, "{done}");
    scene.run("ALTER TABLE queue.sink DROP CONSTRAINT not_yet").await;
    scene.wait_done("work").await;
    assert_in_order(&scene, 1, 8).await;
    assert!(host.terminate().await.success());
}
