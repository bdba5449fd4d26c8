//! Priorities: high goes first, and the others have their share.

use tokio_postgres::Client;
use uuid::Uuid;

use crate::harness::sql_host::{ROTATES_ALWAYS, assert_only_inserted, create_queue, deploy, value};
use crate::harness::{Deployment, Scene, SqlHost, SqlLease, TestDb, wait_until};

/// Whose turn it is: high's, and low's.
const HIGH: &[i16] = &[0, 1, 2];
const LOW: &[i16] = &[2, 0, 1];

async fn queue(settings: &str) -> (TestDb, Client, SqlHost) {
    SqlHost::with_queue(&format!(", p_priorities => true{settings}")).await
}

async fn insert(client: &Client, priority: Option<i16>, a: i64, b: i64) {
    let sql = "INSERT INTO queue.q (payload, priority) SELECT to_jsonb(g), $1::smallint
        FROM generate_series($2::bigint, $3::bigint) g";
    client.execute(sql, &[&priority, &a, &b]).await.unwrap();
}

/// Leases up to ten messages as a host does: on a slow machine an empty lane may end a look.
async fn lease_of(hand: &SqlHost, lanes: &[i16]) -> Option<SqlLease> {
    for _ in lanes {
        let (seq, token) = (hand.next_seq(), Uuid::new_v4());
        let call = "SELECT lease_id, row_count, more
            FROM host.{q}__lease_of($1, $2, $3, $4, $5, 10, 1 << 30)";
        let row = hand.query(call, &[&lanes, &hand.handler, &hand.session, &seq, &token]).await;
        let row = row.expect("lease");
        if let Some(id) = row.get(0) {
            return Some(SqlLease { id, seq, token, count: row.get(1), more: row.get(2) });
        }
    }
    None
}

/// Leases and acks; returns the payloads.
async fn take(hand: &SqlHost, lanes: &[i16]) -> Vec<i64> {
    let Some(held) = lease_of(hand, lanes).await else { return Vec::new() };
    hand.ack(&held).await;
    hand.payloads(&held).await
}

#[tokio::test]
async fn a_lease_takes_from_the_first_lane_that_has_messages() {
    let (db, client, hand) = queue("").await;
    insert(&client, Some(3), 1, 3).await;
    insert(&client, None, 4, 5).await;
    insert(&client, Some(1), 6, 6).await;
    assert_eq!(take(&hand, HIGH).await, [6]);
    insert(&client, Some(2), 7, 7).await;
    assert_eq!(take(&hand, LOW).await, [1, 2, 3], "when it is low's turn");
    assert_eq!(take(&hand, LOW).await, [4, 5, 7], "which has nothing left");
    let log = "SELECT count(*) FROM host.q__lease";
    let before: i64 = value(&client, log).await;
    assert!(take(&hand, HIGH).await.is_empty());
    assert_eq!(value::<i64>(&client, log).await, before, "an empty poll writes nothing");
    drop((client, hand));
    assert_only_inserted(&db).await;
}

#[tokio::test]
async fn more_says_whether_it_is_worth_to_look_again() {
    let (_db, client, hand) = queue("").await;
    insert(&client, Some(1), 1, 12).await;
    insert(&client, Some(3), 13, 14).await;
    let full = lease_of(&hand, HIGH).await.unwrap();
    let last_of_high = lease_of(&hand, HIGH).await.unwrap();
    let low = lease_of(&hand, HIGH).await.unwrap();
    assert_eq!([full.count, last_of_high.count, low.count], [10, 2, 2]);
    assert_eq!([full.more, last_of_high.more, low.more], [true, true, false]);
}

#[tokio::test]
async fn each_lane_has_its_own_windows() {
    let (db, early, hand) = queue("").await;
    let late = db.client().await;
    early.batch_execute("BEGIN").await.unwrap();
    insert(&early, Some(1), 1, 2).await;
    insert(&early, Some(3), 3, 4).await;
    insert(&late, Some(1), 5, 5).await;
    assert_eq!(take(&hand, HIGH).await, [5]);
    early.batch_execute("COMMIT").await.unwrap();
    insert(&late, Some(3), 6, 6).await;
    assert_eq!(take(&hand, HIGH).await, [1, 2]);
    assert_eq!(take(&hand, HIGH).await, [3, 4, 6]);
    assert!(take(&hand, HIGH).await.is_empty());
}

/// What is tried again, parked or given up on comes back in its lane.
#[tokio::test]
async fn a_message_keeps_its_priority() {
    let (_db, client, hand) = queue("").await;
    insert(&client, Some(1), 1, 2).await;
    client
        .batch_execute(
            "INSERT INTO queue.q (payload, priority, run_at) VALUES ('3', 1, now() + interval '1 ms')",
        )
        .await
        .unwrap();
    let held = lease_of(&hand, HIGH).await.unwrap();
    let outcomes = r#", ARRAY[0], ARRAY[0], ARRAY['{"error": "busy"}'::jsonb], ARRAY[2],
        ARRAY[1], ARRAY['rejected'], ARRAY['{"error": "no"}'::jsonb]"#;
    assert!(hand.settle(&held, 0, "{[0,3)}", outcomes).await.unwrap());
    hand.run("SELECT host.{q}__dead_retry(NULL, NULL)").await;
    wait_until("both are promoted", async || {
        hand.run("SELECT host.{q}__promote(10)").await;
        hand.value::<i64>("SELECT count(*) FROM queue.{q} WHERE origin IS NOT NULL").await == 3
    })
    .await;
    insert(&client, None, 4, 4).await;
    let mut high = take(&hand, HIGH).await;
    high.sort_unstable();
    assert_eq!(high, [1, 2, 3]);
}

#[tokio::test]
async fn a_leaf_goes_when_all_lanes_have_passed_it() {
    let (db, client, hand) = queue(ROTATES_ALWAYS).await;
    insert(&client, Some(1), 1, 300).await;
    insert(&client, Some(3), 301, 303).await;
    hand.next_generation().await;
    while !take(&hand, &[0]).await.is_empty() {}
    assert_eq!(
        hand.truncate(0).await.expect("low is there"),
        "handler \"default\" has messages in it to come"
    );
    let low = lease_of(&hand, LOW).await.unwrap();
    assert!(hand.truncate(0).await.expect("low is open").contains("has been open"));
    hand.ack(&low).await;
    assert_eq!(hand.truncate(0).await, None);
    // The cursors have come along, each its own.
    insert(&client, Some(3), 304, 304).await;
    assert_eq!(take(&hand, HIGH).await, [304]);
    drop((client, hand));
    assert_only_inserted(&db).await;
}

#[tokio::test]
async fn a_handler_that_begins_now_begins_in_every_lane() {
    let (_db, client, mut hand) = queue("").await;
    insert(&client, Some(3), 1, 1).await;
    client.batch_execute("BEGIN").await.unwrap();
    let handler = deploy(&client, "q", "now").await;
    client.batch_execute(&format!("SELECT host.begin_from_now({handler}); COMMIT")).await.unwrap();
    insert(&client, Some(3), 2, 2).await;
    hand.handler = handler;
    assert_eq!(take(&hand, HIGH).await, [2]);
}

/// A host that died over a lease of a lane: what it left is of that lane.
#[tokio::test]
async fn what_a_dead_host_left_is_taken_over() {
    let (db, client, dead) = queue("").await;
    insert(&client, Some(1), 1, 2).await;
    insert(&client, Some(3), 3, 6).await;
    let held = lease_of(&dead, LOW).await.unwrap();
    assert!(dead.settle(&held, 0, "{[0,1)}", "").await.unwrap());
    dead.end(true).await;
    let hand = SqlHost::new(&db, "q", dead.handler).await;
    assert_eq!(hand.strays().await, [held.id]);
    let mine = hand.take_over(held.id, 2).await.unwrap().expect("two of three");
    assert_eq!(hand.read(&mine).await, [(1, 4), (2, 5)]);
    let rest = hand.strays().await;
    let rest = hand.take_over(rest[0], 10).await.unwrap().expect("the third");
    assert_eq!(hand.read(&rest).await, [(3, 6)]);
}

#[tokio::test]
async fn a_priority_must_be_one_and_the_queue_must_have_them() {
    let (db, client, _hand) = queue("").await;
    create_queue(&client, "plain", "").await;
    for (queue, constraint) in [("q", "priority_is_1_to_3"), ("plain", "queue_has_no_priorities")] {
        let insert = format!("INSERT INTO queue.{queue} (payload, priority) VALUES ('1', 4)");
        let error = client.batch_execute(&insert).await.expect_err("refused");
        assert_eq!(error.as_db_error().unwrap().constraint(), Some(constraint));
    }
    let text = db.host(&["enqueue", "plain", "1", "--priority", "low"]).await.error(2);
    assert!(text.contains("host queue create --priorities"), "{text}");
}

#[tokio::test]
async fn operators_see_and_purge_every_lane() {
    let (db, client, _hand) = queue("").await;
    let ok = async |args: &[&str]| db.host(args).await.ok();
    ok(&["enqueue", "q", "1", "--priority", "low"]).await;
    ok(&["enqueue", "q", "2"]).await;
    ok(&["enqueue", "q", "3", "--priority", "high"]).await;
    let peeked: serde_json::Value =
        serde_json::from_str(&ok(&["peek", "q", "--json"]).await).unwrap();
    let ids: Vec<&str> =
        peeked.as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["3", "2", "1"], "as they will be leased");
    assert!(ok(&["queue", "show", "q"]).await.contains("by priority"));
    assert_eq!(ok(&["queue", "purge", "q", "--dry-run"]).await, "q/default: 3 would be removed\n");
    assert_eq!(ok(&["queue", "purge", "q", "--yes"]).await, "q/default: 3 messages removed\n");
    let waiting: i64 = value(&client, "SELECT waiting FROM host.queue_status('q')").await;
    assert_eq!(waiting, 0);
}

/// The lanes of a queue's leases, in order.
async fn leases(scene: &Scene) -> Vec<String> {
    scene.texts("SELECT lane FROM host.work__lease WHERE row_count > 0 ORDER BY id").await
}

async fn enqueue_many(scene: &Scene, priority: i16, many: i32) {
    let insert = format!(
        "INSERT INTO queue.work (payload, priority) SELECT to_jsonb(g), {priority} FROM generate_series(1, {many}) g"
    );
    scene.run(&insert).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn high_overtakes_a_backlog_of_low() {
    let scene = Scene::new("p_priorities => true").await;
    scene.deploy("work", "echo", Deployment::default()).await;
    enqueue_many(&scene, 3, 20_000).await;
    enqueue_many(&scene, 1, 500).await;
    let host = scene.serve("host", &[]);
    scene.wait_done("work").await;
    assert!(host.terminate().await.success());
    let lanes = leases(&scene).await;
    let last_high = lanes.iter().rposition(|lane| lane == "0").expect("high was leased");
    let before = lanes[..last_high].iter().filter(|lane| *lane == "2").count();
    let high = lanes.iter().filter(|lane| *lane == "0").count();
    // Low has one turn of ten. (Several leases are on their way at once, so one may be before its
    // turn.)
    assert!(before <= high.div_ceil(9) + 1, "{before} leases of low among {high} of high");
    assert!(lanes.len() > last_high + 5, "low had a backlog: {lanes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_high_never_starves_the_others() {
    let scene = Scene::new("p_priorities => true").await;
    scene.deploy("work", "echo", Deployment::default()).await;
    enqueue_many(&scene, 1, 30_000).await;
    enqueue_many(&scene, 2, 1_000).await;
    enqueue_many(&scene, 3, 500).await;
    let host = scene.serve("host", &[]);
    scene.wait_done("work").await;
    assert!(host.terminate().await.success());
    let lanes = leases(&scene).await;
    let last = |lane: &str| lanes.iter().rposition(|l| l == lane).expect("it was leased");
    assert!(last("1") < last("0") && last("2") < last("0"), "{lanes:?}");
    let settled = "SELECT sum(host.positions(settled)) FROM host.work__settlement";
    assert_eq!(scene.number(settled).await, 31_500);
}
