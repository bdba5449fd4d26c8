//! Limits for each key: what one tenant waits for, no other does.

use std::time::SystemTime;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::harness::sql_host::{ROTATES_ALWAYS, assert_only_inserted, create_queue, deploy, value};
use crate::harness::{Deployment, Scene, SqlHost, SqlLease, TestDb, wait_until};
use crate::limits::assert_rate;

/// The most messages of a lane of `work` that were in flight at once, as the logs have it: leased,
/// and not settled.
const MOST_IN_FLIGHT: &str = "SELECT max(n) FROM (
    SELECT sum(n) OVER (PARTITION BY lane ORDER BY at, n) AS n FROM (
        SELECT lane, leased_at AS at, row_count AS n FROM host.work__lease WHERE is_cursor
        UNION ALL
        SELECT l.lane, s.settled_at, -host.positions(s.settled)
            FROM host.work__settlement s JOIN host.work__lease l ON l.id = s.lease_id) events) x";

async fn scene(limits: &str, how: Deployment) -> Scene {
    let scene = Scene::new("p_keyed_lanes => 256").await;
    scene.run(&format!("SELECT host.set_limits('work', {limits})")).await;
    scene.deploy("work", "misbehave", how).await;
    scene
}

/// Enqueues so many messages of a key, that take so long.
async fn enqueue(scene: &Scene, key: &str, count: u32, ms: u32) {
    scene
        .run(&format!(
            r#"INSERT INTO queue.work (payload, key) SELECT '{{"do": "sleep", "ms": {ms}}}', '{key}'
               FROM generate_series(1, {count})"#
        ))
        .await;
}

/// How many messages of a key's lane are settled.
fn settled(key: &str) -> String {
    format!(
        "SELECT coalesce(sum(host.positions(s.settled)), 0)
         FROM host.work__settlement s JOIN host.work__lease l ON l.id = s.lease_id
         WHERE l.lane = hashtextextended('{key}', 0) & 255"
    )
}

#[tokio::test]
async fn the_flood_of_one_key_keeps_to_its_limit_and_delays_no_other() {
    let scene = scene("2, NULL, NULL, NULL", Deployment::default()).await;
    let _hosts = [scene.serve("a", &[]), scene.serve("b", &[])];
    scene.wait_loaded("work", 1, 2).await;
    enqueue(&scene, "big", 5_000, 50).await;
    scene.wait_number("SELECT count(*) / 10 FROM host.work__settlement", 1).await;
    wait_until("it is told what waits", async || {
        let shown = scene.db.host(&["queue", "show", "work"]).await.ok();
        shown.contains("default v1 (limited: 1 of 256 lanes wait)")
    })
    .await;
    enqueue(&scene, "small", 20, 1).await;
    enqueue(&scene, "tiny", 5, 1).await;
    scene.wait_number(&settled("small"), 20).await;
    scene.wait_number(&settled("tiny"), 5).await;
    let waiting = scene.number("SELECT waiting FROM host.queue_status('work')").await;
    assert!(waiting > 4_000, "{waiting} of the flood are left");
    assert_eq!(scene.number(MOST_IN_FLIGHT).await, 2);
}

#[tokio::test]
async fn without_limits_the_keys_have_their_turns() {
    let how = Deployment { concurrency: 2, ..Deployment::default() };
    let scene = scene("NULL, NULL, NULL, NULL", how).await;
    enqueue(&scene, "big", 2_000, 50).await;
    let _host = scene.serve("host", &[]);
    scene.wait_number("SELECT count(*) / 10 FROM host.work__settlement", 1).await;
    for key in ["a", "b", "c", "d"] {
        enqueue(&scene, key, 2, 1).await;
    }
    for key in ["a", "b", "c", "d"] {
        scene.wait_number(&settled(key), 2).await;
    }
    let waiting = scene.number("SELECT waiting FROM host.queue_status('work')").await;
    assert!(waiting > 1_500, "{waiting} of the flood are left");
}

#[tokio::test]
async fn hosts_keep_to_the_rate_of_each_key_together() {
    const BURST: f64 = 5.0;
    const PER_S: f64 = 50.0;
    let scene = scene("NULL, 50, 1000, 5", Deployment::default()).await;
    scene
        .run(
            r#"INSERT INTO queue.work (payload, key) SELECT '{"do": "watch", "n": 1, "ms": 1, "queue": "sink"}', k
               FROM unnest('{a,b,c}'::text[]) k, generate_series(1, 10);
               INSERT INTO queue.work (payload, key) SELECT '"ack"', k
               FROM unnest('{a,b,c}'::text[]) k, generate_series(1, 40)"#,
        )
        .await;
    // With the rights that hosts have.
    let serving = Scene::of(scene.db.as_member_of("host_serve").await).await;
    let _hosts = [serving.serve("a", &[]), serving.serve("b", &[])];
    scene.wait_done("work").await;
    let lanes = scene.texts("SELECT DISTINCT lane FROM host.work__lease WHERE row_count > 0").await;
    assert_eq!(lanes.len(), 3);
    for lane in lanes {
        let log = format!(
            "SELECT leased_at, row_count FROM host.work__lease WHERE row_count > 0 AND lane = {lane} ORDER BY id"
        );
        let rows = scene.client.query(&log, &[]).await.unwrap();
        let leases: Vec<(SystemTime, i32)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
        assert_eq!(leases.iter().map(|lease| lease.1).sum::<i32>(), 40 + 2 * 10, "retries count");
        assert_rate(&leases, PER_S, BURST);
    }
}

#[tokio::test]
async fn what_a_killed_host_had_of_a_key_counts_until_another_is_done_with_it() {
    let scene = scene("2, NULL, NULL, NULL", Deployment::default()).await;
    let first = scene.serve("first", &[]);
    enqueue(&scene, "stuck", 2, 3_600_000).await;
    scene.wait_number("SELECT sum(row_count) FROM host.work__lease", 2).await;
    let _second = scene.serve("second", &[]);
    scene.wait_loaded("work", 1, 2).await;
    enqueue(&scene, "stuck", 10, 1).await;
    enqueue(&scene, "free", 10, 1).await;
    scene.wait_number(&settled("free"), 10).await;
    assert_eq!(scene.number(&settled("stuck")).await, 0);
    first.kill();
    let second = scene.session("second").await;
    wait_until("the second has what the first had", async || {
        scene.held_by("work", second).await > 0 && scene.in_flight("work").await == 2
    })
    .await;
    scene.run("SELECT host.work__cancel(1), host.work__cancel(2)").await;
    scene.wait_done("work").await;
    assert_eq!(scene.number(MOST_IN_FLIGHT).await, 2);
}

#[tokio::test]
async fn a_queue_all_of_whose_keys_are_limited_leaves_hosts_to_others_and_hears_when_it_is_not() {
    let scene = scene("NULL, 1, 3600000, 1", Deployment::default()).await;
    scene.queue("free", "").await;
    scene.deploy("free", "misbehave", Deployment::default()).await;
    // One sandbox for both, and the reserve of each.
    let _host = scene.serve("host", &["--concurrency", "1"]);
    for key in ["a", "b", "c"] {
        enqueue(&scene, key, 10, 1).await;
    }
    scene.wait_number("SELECT sum(row_count) FROM host.work__lease", 3).await;
    scene
        .run(r#"INSERT INTO queue.free (payload) SELECT '"ack"' FROM generate_series(1, 20)"#)
        .await;
    scene.wait_done("free").await;
    let shown = scene.db.host(&["queue", "show", "work"]).await.ok();
    assert!(shown.contains("default v1 (limited: 3 of 256 lanes wait)"), "{shown}");
    // A key that comes now does not wait for those.
    enqueue(&scene, "d", 1, 1).await;
    scene.wait_number(&settled("d"), 1).await;
    let said = scene.db.host(&["queue", "set", "work", "--rate", "off"]).await.ok();
    assert!(said.starts_with("Changed queue work:\n  rate  "), "{said}");
    scene.wait_done("work").await;
}

/// A queue of four lanes and the handler `default`.
async fn by_hand(limits: &str) -> (TestDb, SqlHost) {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", &format!("{ROTATES_ALWAYS}, p_keyed_lanes => 4")).await;
    client.batch_execute(&format!("SELECT host.set_limits('q', {limits})")).await.unwrap();
    let handler = deploy(&client, "q", "default").await;
    let hand = SqlHost::new(&db, "q", handler).await;
    (db, hand)
}

/// Inserts so many messages of a key of that lane.
async fn insert(hand: &SqlHost, lane: i32, count: i32) {
    let sql = "INSERT INTO queue.q (payload, key) SELECT '0', k.key FROM (
            SELECT 'key' || g AS key FROM generate_series(1, 1000) g
            WHERE hashtextextended('key' || g, 0) & 3 = $1 LIMIT 1) k, generate_series(1, $2)";
    hand.client.execute(sql, &[&i64::from(lane), &count]).await.unwrap();
}

/// Leases up to so many messages from up to so many lanes, from `first` on, as a host does. What
/// was leased with its lane, and the last row: `more`, `wait_ms`, `full_up`.
async fn lease_lanes(
    hand: &SqlHost,
    messages: i32,
    first: i32,
    lanes: i32,
) -> (Vec<(i32, SqlLease)>, (bool, Option<i64>, bool)) {
    let token = Uuid::new_v4();
    let seq = hand.next_seq();
    (1..lanes).for_each(|_| _ = hand.next_seq());
    let call = "SELECT lease_id, row_count, more, wait_ms, full_up, lane, seq
        FROM host.q__lease_lanes($1, $2, $3, $4, $5, 1 << 30, $6, $7, 5)";
    let params: [&(dyn ToSql + Sync); 7] =
        [&hand.handler, &hand.session, &seq, &token, &messages, &first, &lanes];
    let mut rows = hand.client.query(call, &params).await.expect("lease");
    let last = rows.pop().expect("there is a last row");
    let held = |row: &Row| {
        let (id, count, more) = (row.get(0), row.get(1), row.get(2));
        (row.get(5), SqlLease { id, seq: row.get(6), token, count, more })
    };
    let leases = rows.iter().map(held).collect();
    (leases, (last.get(2), last.get(3), last.get(4)))
}

/// Lane and number of messages of each lease.
fn counts(leases: &[(i32, SqlLease)]) -> Vec<(i32, i32)> {
    leases.iter().map(|(lane, held)| (*lane, held.count)).collect()
}

#[tokio::test]
async fn lanes_are_leased_from_in_turn_and_share_what_a_host_takes() {
    let (db, hand) = by_hand("NULL, NULL, NULL, NULL").await;
    assert_eq!(lease_lanes(&hand, 10, 0, 2).await.1, (false, None, false));
    for (lane, count) in [(0, 100), (1, 1), (3, 100)] {
        insert(&hand, lane, count).await;
    }
    let (leases, (more, ..)) = lease_lanes(&hand, 12, 0, 2).await;
    assert_eq!((counts(&leases), more), (vec![(0, 6), (1, 1)], true));
    let (leases, _) = lease_lanes(&hand, 12, 2, 2).await;
    assert_eq!(counts(&leases), [(3, 6), (0, 6)]);
    // What is left over of one's share is the others'.
    insert(&hand, 1, 1).await;
    let (leases, (more, ..)) = lease_lanes(&hand, 12, 1, 3).await;
    assert_eq!((counts(&leases), more), (vec![(1, 1), (3, 5), (0, 6)], true));
    // All of it, if there is no other.
    for _ in 0..2 {
        lease_lanes(&hand, 400, 0, 4).await;
    }
    insert(&hand, 2, 100).await;
    let (leases, (more, ..)) = lease_lanes(&hand, 90, 0, 3).await;
    assert_eq!((counts(&leases), more), (vec![(2, 90)], true));
    let (leases, (more, ..)) = lease_lanes(&hand, 90, 0, 3).await;
    assert_eq!((counts(&leases), more), (vec![(2, 10)], false));
    // Lanes of which a lease took just what there was are looked at once more, beside others.
    for lane in 0..3 {
        insert(&hand, lane, 5).await;
    }
    lease_lanes(&hand, 15, 0, 4).await;
    insert(&hand, 3, 1).await;
    let (leases, _) = lease_lanes(&hand, 15, 0, 4).await;
    assert_eq!(counts(&leases), [(3, 1)]);
    assert_eq!(hand.payloads(&leases[0].1).await, [0]);
    drop(hand);
    assert_only_inserted(&db).await;
}

#[tokio::test]
async fn each_lane_has_the_limits_for_itself() {
    let (db, hand) = by_hand("3, NULL, NULL, NULL").await;
    insert(&hand, 0, 50).await;
    insert(&hand, 1, 50).await;
    let (first, _) = lease_lanes(&hand, 20, 0, 4).await;
    assert_eq!(counts(&first), [(0, 3), (1, 3)]);
    let (none, said) = lease_lanes(&hand, 20, 0, 4).await;
    assert_eq!((none.len(), said), (0, (false, Some(50), true)));
    insert(&hand, 2, 1).await;
    let (other, _) = lease_lanes(&hand, 20, 0, 4).await;
    assert_eq!(counts(&other), [(2, 1)]);
    hand.settle(&first[0].1, 0, "{[0,2)}", "").await.unwrap();
    // The next generation's rows have what is in flight, lane by lane.
    hand.next_generation().await;
    let (again, _) = lease_lanes(&hand, 20, 0, 4).await;
    assert_eq!(counts(&again), [(0, 2)]);

    // What is taken over counts, and so does what is left of that.
    let heir = SqlHost::new(&db, "q", hand.handler).await;
    hand.end(true).await;
    let taken = heir.take_over(first[1].1.id, 1).await.unwrap().unwrap();
    assert_eq!(lease_lanes(&heir, 20, 0, 4).await.0.len(), 0);
    heir.settle(&taken, 0, "{[0,1)}", "").await.unwrap();
    let (again, _) = lease_lanes(&heir, 20, 0, 4).await;
    assert_eq!(counts(&again), [(1, 1)]);
    // A limit that is new counts what was leased before, of its lane.
    heir.run("SELECT host.set_limits('{q}', NULL, NULL, NULL, NULL)").await;
    let (many, _) = lease_lanes(&heir, 20, 0, 4).await;
    assert_eq!(counts(&many), [(0, 10), (1, 10)]);
    heir.run("SELECT host.set_limits('{q}', 15, NULL, NULL, NULL)").await;
    let (rest, _) = lease_lanes(&heir, 50, 0, 4).await;
    // In lane 0 one of the first three, two and ten; in lane 1 two of the first three, one and ten.
    assert_eq!(counts(&rest), [(0, 2), (1, 2)]);
}

#[tokio::test]
async fn a_rate_is_used_up_lane_by_lane_and_what_is_tried_again_holds_nothing() {
    let (_db, hand) = by_hand("NULL, 4, 3600000, 4").await;
    insert(&hand, 0, 3).await;
    let (leases, _) = lease_lanes(&hand, 20, 0, 4).await;
    let held = &leases[0].1;
    let outcomes = r#", ARRAY[0, 1], ARRAY[60000, 60000], ARRAY['{"error": "busy"}'::jsonb, '{"error": "busy"}']"#;
    assert!(hand.settle(held, 0, "{[0,3)}", outcomes).await.unwrap());
    insert(&hand, 0, 3).await;
    insert(&hand, 1, 5).await;
    let (leases, _) = lease_lanes(&hand, 20, 0, 4).await;
    assert_eq!(counts(&leases), [(0, 1), (1, 4)]);
    let (none, (more, wait_ms, full_up)) = lease_lanes(&hand, 20, 0, 4).await;
    assert_eq!((none.len(), more, full_up), (0, false, false));
    assert!(wait_ms.is_some_and(|ms| (1..=900_000).contains(&ms)), "{wait_ms:?}");
    let limited: Option<String> =
        hand.value(&format!("SELECT why FROM host.{{q}}__limited_lanes({})", hand.handler)).await;
    assert_eq!(limited.as_deref(), Some("2 of 4 lanes wait"));
    // An operator need not wait.
    let purge = format!("SELECT removed FROM host.{{q}}__purge({}, 1, 50)", hand.handler);
    assert_eq!(hand.value::<i32>(&purge).await, 1);
}

#[tokio::test]
async fn no_lease_of_a_lane_that_counts_is_truncated_before_its_heir_is_known() {
    let (db, hand) = by_hand("100, NULL, NULL, NULL").await;
    insert(&hand, 2, 100).await;
    hand.next_generation().await;
    let (first, _) = lease_lanes(&hand, 100, 0, 1).await;
    // As much as is held may be in flight, and so no lease is made from here on.
    hand.next_generation().await;
    let heir = SqlHost::new(&db, "q", hand.handler).await;
    hand.end(false).await;
    let taken = heir.take_over(first[0].1.id, 100).await.unwrap().unwrap();
    let why = heir.truncate(1).await.expect("it is needed");
    assert_eq!(why, "handler \"default\" has yet to note what is in flight of it");
    heir.ack(&taken).await;
    // The messages go first.
    assert_eq!(heir.truncate(0).await, None);
    assert_eq!(heir.truncate(1).await, None);
}

#[tokio::test]
async fn the_commands_take_it_show_it_and_refuse_what_does_not_go_together() {
    let db = TestDb::new().await;
    let ok = async |args: &[&str]| db.host(args).await.ok();
    ok(&["queue", "create", "q", "--per-key", "--rate", "10/1s", "--fleet-concurrency", "2"]).await;
    let client = db.client().await;
    assert_eq!(value::<i32>(&client, "SELECT keyed_lanes FROM host.queue").await, 256);
    ok(&["enqueue", "q", "{}", "--key", "ada"]).await;
    let shown = ok(&["queue", "show", "q"]).await;
    assert!(shown.contains("Order        the keys in turn, in 256 lanes\n"), "{shown}");
    assert!(shown.contains("2 in flight; 10 every 1s, 10 at once, for each key\n"), "{shown}");
    let said = ok(&["queue", "set", "q", "--fleet-concurrency", "3"]).await;
    assert_eq!(said, "Changed queue q:\n  fleet-concurrency  2 -> 3\n");
    let json: serde_json::Value =
        serde_json::from_str(&ok(&["queue", "list", "--json"]).await).unwrap();
    assert_eq!(json[0]["limits"]["per_key"], true);
    for wrong in ["--ordered", "--priorities", "--per-key=3"] {
        let text = db.host(&["queue", "create", "x", "--per-key", wrong]).await.error(2);
        assert!(text.contains("--per-key"), "{text}");
    }
    ok(&["queue", "create", "plain"]).await;
    let text = db.host(&["enqueue", "plain", "{}", "--key", "ada"]).await.error(2);
    assert!(text.contains("`host queue create --ordered` or `--per-key`"), "{text}");
    let plain = "INSERT INTO queue.plain (payload, key) VALUES ('1', 'ada')";
    let refused = client.batch_execute(plain).await.unwrap_err();
    assert_eq!(refused.as_db_error().unwrap().constraint(), Some("queue_takes_no_key"));
}
