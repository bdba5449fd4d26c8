//! Limits: how much of a queue is in flight and how fast it starts, over all hosts, whatever
//! becomes of them.

use std::time::SystemTime;

use host_queue::constants::GENERATION_SIZE;

use crate::harness::sql_host::{ROTATES_ALWAYS, create_queue, deploy, value};
use crate::harness::{Deployment, Scene, SqlHost, TestDb, wait_until};

/// The most messages of `work` that were in flight at once, as the logs have it: leased, and not
/// settled.
const MOST_IN_FLIGHT: &str = "SELECT max(n) FROM (
    SELECT sum(n) OVER (ORDER BY at, n) AS n FROM (
        SELECT leased_at AS at, row_count AS n FROM host.work__lease WHERE is_cursor
        UNION ALL
        SELECT settled_at, -host.positions(settled) FROM host.work__settlement) events) x";

async fn scene(limits: &str) -> Scene {
    let scene = Scene::new("").await;
    scene.run(&format!("SELECT host.set_limits('work', {limits})")).await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    scene
}

#[tokio::test]
async fn hosts_keep_to_a_rate_together() {
    const BURST: f64 = 10.0;
    const PER_S: f64 = 100.0;
    let scene = scene("NULL, 100, 1000, 10").await;
    scene
        .run(
            r#"INSERT INTO queue.work (payload) SELECT '{"do": "watch", "n": 1, "ms": 1, "queue": "sink"}'
               FROM generate_series(1, 30);
               INSERT INTO queue.work (payload) SELECT '"ack"' FROM generate_series(1, 90)"#,
        )
        .await;
    // With the rights that hosts have.
    let serving = Scene::of(scene.db.as_member_of("host_serve").await).await;
    let _hosts = [serving.serve("a", &[]), serving.serve("b", &[]), serving.serve("c", &[])];
    scene.wait_done("work").await;
    let rows = scene
        .client
        .query(
            "SELECT leased_at, row_count FROM host.work__lease WHERE row_count > 0 ORDER BY id",
            &[],
        )
        .await
        .unwrap();
    let leases: Vec<(SystemTime, i32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(leases.iter().map(|lease| lease.1).sum::<i32>(), 90 + 2 * 30, "retries count too");
    assert_rate(&leases, PER_S, BURST);
}

/// In no time between two leases have more messages started than may: each with its time and how
/// many it has.
pub fn assert_rate(leases: &[(SystemTime, i32)], per_s: f64, burst: f64) {
    for (i, (begin, _)) in leases.iter().enumerate() {
        let mut started = 0;
        for (end, count) in &leases[i..] {
            started += count;
            let time_s = end.duration_since(*begin).unwrap().as_secs_f64();
            // A lease notes its time after it has decided: a moment, unless the machine is busy.
            let most = per_s * (time_s + 0.1) + burst;
            assert!(f64::from(started) <= most, "{started} in {time_s} s: {leases:?}");
        }
    }
}

#[tokio::test]
async fn no_more_are_in_flight_on_all_hosts_than_the_fleet_may_have() {
    let scene = scene("4, NULL, NULL, NULL").await;
    let _hosts = [scene.serve("a", &[]), scene.serve("b", &[]), scene.serve("c", &[])];
    scene.wait_loaded("work", 1, 3).await;
    scene
        .run(
            r#"INSERT INTO queue.work (payload) SELECT '{"do": "sleep", "ms": 10}'
               FROM generate_series(1, 100)"#,
        )
        .await;
    scene.wait_done("work").await;
    assert_eq!(scene.number(MOST_IN_FLIGHT).await, 4);
}

#[tokio::test]
async fn what_a_killed_host_had_counts_until_another_is_done_with_it() {
    let scene = scene("2, NULL, NULL, NULL").await;
    let first = scene.serve("first", &[]);
    let sleeps = r#"INSERT INTO queue.work (payload) VALUES ('{"do": "sleep", "ms": 3600000}')"#;
    scene.run(&format!("{sleeps}; {sleeps}")).await;
    scene.wait_number("SELECT sum(row_count) FROM host.work__lease", 2).await;
    let _second = scene.serve("second", &[]);
    scene.wait_loaded("work", 1, 2).await;
    scene
        .run(r#"INSERT INTO queue.work (payload) SELECT '"ack"' FROM generate_series(1, 20)"#)
        .await;
    let status = scene.db.host(&["queue", "show", "work"]).await.ok();
    assert!(status.contains("default v1 (limited: 2 of 2 in flight)"), "{status}");
    first.kill();
    let second = scene.session("second").await;
    wait_until("the second has what the first had", async || {
        scene.held_by("work", second).await > 0 && scene.in_flight("work").await == 2
    })
    .await;
    scene.run("SELECT host.work__cancel(1), host.work__cancel(2)").await;
    scene.wait_done("work").await;
    assert_eq!(scene.number(MOST_IN_FLIGHT).await, 2);
    let limited = "SELECT lag -> 0 ->> 'limited' IS NULL FROM host.status_of('work')";
    assert_eq!(scene.texts(limited).await, ["true"]);
}

#[tokio::test]
async fn a_host_that_waits_for_a_limit_hears_that_it_is_gone_and_others_do_not_wait() {
    let scene = scene("NULL, 1, 3600000, 1").await;
    scene.queue("free", "").await;
    scene.deploy("free", "misbehave", Deployment::default()).await;
    // One sandbox for both, and the reserve of each.
    let _host = scene.serve("host", &["--concurrency", "1"]);
    let enqueue = r#"INSERT INTO queue.work (payload) SELECT '"ack"' FROM generate_series(1, 20)"#;
    scene.run(enqueue).await;
    scene.run(&enqueue.replace("work", "free")).await;
    scene.wait_done("free").await;
    scene.wait_number("SELECT sum(row_count) FROM host.work__lease", 1).await;
    scene.run("SELECT host.set_limits('work', NULL, NULL, NULL, NULL)").await;
    scene.wait_done("work").await;
}

/// A queue with limits and the handler `default`.
async fn by_hand(limits: &str) -> (TestDb, SqlHost) {
    by_hand_of(ROTATES_ALWAYS, limits).await
}

async fn by_hand_of(settings: &str, limits: &str) -> (TestDb, SqlHost) {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", settings).await;
    client.batch_execute(&format!("SELECT host.set_limits('q', {limits})")).await.unwrap();
    let handler = deploy(&client, "q", "default").await;
    let hand = SqlHost::new(&db, "q", handler).await;
    (db, hand)
}

/// How many messages may start.
async fn allowed(hand: &SqlHost) -> i32 {
    let call = "SELECT messages FROM host.{q}__allowance($1)";
    hand.query(call, &[&hand.handler]).await.unwrap().get(0)
}

#[tokio::test]
async fn the_fleets_share_is_told_from_what_is_open() {
    let (db, hand) = by_hand("10, NULL, NULL, NULL").await;
    hand.enqueue(1, 300).await;
    let first = hand.must_lease(6).await;
    let second = hand.must_lease(100).await;
    assert_eq!((first.count, second.count), (6, 4));
    assert!(hand.lease(100).await.is_none());
    hand.settle(&second, 0, "{[0,3)}", "").await.unwrap();
    assert_eq!(allowed(&hand).await, 3, "a part is settled");
    // The next generation's row has all of it.
    hand.next_generation().await;
    assert_eq!(allowed(&hand).await, 3);
    let third = hand.must_lease(100).await;
    assert_eq!(third.count, 3);

    let heir = SqlHost::new(&db, "q", hand.handler).await;
    hand.end(true).await;
    assert_eq!(allowed(&heir).await, 0);
    let taken = heir.take_over(first.id, 2).await.unwrap().unwrap();
    assert_eq!(allowed(&heir).await, 0, "the rest of it is a lease as well");
    heir.settle(&taken, 0, "{[0,2)}", "").await.unwrap();
    assert_eq!(allowed(&heir).await, 2);
    for lease in heir.strays().await {
        let taken = heir.take_over(lease, 100).await.unwrap().unwrap();
        let rest: String = heir
            .value(&format!(
                "SELECT positions::text FROM host.{{q}}__lease WHERE id = {}",
                taken.id
            ))
            .await;
        heir.settle(&taken, 0, &rest, "").await.unwrap();
    }
    assert_eq!(allowed(&heir).await, 10);
    // A limit that is new counts what was leased before.
    heir.run("SELECT host.set_limits('{q}', NULL, NULL, NULL, NULL)").await;
    let held = heir.must_lease(25).await;
    assert_eq!(held.count, 25);
    heir.run("SELECT host.set_limits('{q}', 30, NULL, NULL, NULL)").await;
    assert_eq!(allowed(&heir).await, 5);
    // Another handler has the same for itself.
    let other = deploy(&heir.client, "q", "other").await;
    let other = SqlHost::new(&db, "q", other).await;
    assert_eq!((allowed(&other).await, other.must_lease(100).await.count), (30, 30));
}

/// The lease that was taken over may lie in another leaf than its messages, which its heir holds on
/// to.
#[tokio::test]
async fn no_lease_that_counts_is_truncated_before_its_heir_is_known() {
    let (db, hand) = by_hand("100, NULL, NULL, NULL").await;
    hand.enqueue(1, 100).await;
    hand.next_generation().await;
    let first = hand.must_lease(100).await;
    assert_eq!(first.id / GENERATION_SIZE, 1);
    // As much as is held may be in flight, and so no lease is made from here on.
    hand.next_generation().await;
    let heir = SqlHost::new(&db, "q", hand.handler).await;
    hand.end(false).await;
    let taken = heir.take_over(first.id, 100).await.unwrap().unwrap();
    let why = heir.truncate(1).await.expect("it is needed");
    assert_eq!(why, "handler \"default\" has yet to note what is in flight of it");
    assert_eq!(allowed(&heir).await, 0);
    heir.ack(&taken).await;
    // The messages go first.
    assert_eq!(heir.truncate(0).await, None);
    assert_eq!(heir.truncate(1).await, None);
    assert_eq!(allowed(&heir).await, 100);
}

#[tokio::test]
async fn only_what_starts_uses_up_a_rate() {
    let (_db, hand) = by_hand("NULL, 5, 3600000, 5").await;
    let rows = "INSERT INTO queue.{q} (payload, run_at, expires_at) VALUES
        ('1', now() + interval '1 h', NULL), ('2', NULL, now()), ('3', NULL, NULL), ('4', NULL, NULL)";
    hand.run(rows).await;
    let held = hand.must_lease(100).await;
    assert_eq!((held.count, allowed(&hand).await), (4, 3), "two of four have started");
    hand.ack(&held).await;
    hand.enqueue(5, 100).await;
    assert_eq!(hand.must_lease(2).await.count, 2);
    assert_eq!(hand.must_lease(100).await.count, 1);
    let call = "SELECT lease_id IS NULL AND wait_ms BETWEEN 1 AND 720000 AND NOT full_up
        FROM host.{q}__lease($1, $2, $3, gen_random_uuid(), 100, 1 << 30)";
    let row = hand.query(call, &[&hand.handler, &hand.session, &hand.next_seq()]).await.unwrap();
    assert!(row.get::<_, bool>(0), "a fifth of an hour");
    hand.next_generation().await;
    assert_eq!(allowed(&hand).await, 0, "the next generation knows");
    // An operator need not wait, and uses nothing up.
    assert_eq!(
        hand.value::<i32>(&format!(
            "SELECT removed FROM host.{{q}}__purge({}, 0, 50)",
            hand.handler
        ))
        .await,
        50
    );
    assert_eq!(allowed(&hand).await, 0);
    // As when the clock has gone back: what was noted can no longer be.
    hand.run("SELECT host.set_limits('{q}', NULL, 1000, 1000, 1)").await;
    assert_eq!(allowed(&hand).await, 1);
}

#[tokio::test]
async fn the_lanes_of_priorities_have_the_limits_together_and_an_order_takes_none() {
    let settings = format!("{ROTATES_ALWAYS}, p_priorities => true");
    let (db, hand) = by_hand_of(&settings, "5, 8, 3600000, 8").await;
    hand.run("INSERT INTO queue.{q} (payload, priority) SELECT '1', 1 + g % 3 FROM generate_series(1, 30) g").await;
    let first = hand.must_lease(3).await;
    assert_eq!((first.count, allowed(&hand).await), (3, 2));
    let of_others = "SELECT row_count, wait_ms, full_up
        FROM host.{q}__lease_of('{1,2}', $1, $2, $3, gen_random_uuid(), 100, 1 << 30)";
    let row = hand.query(of_others, &[&hand.handler, &hand.session, &hand.next_seq()]).await;
    assert_eq!(row.unwrap().get::<_, i32>(0), 2);
    let row = hand.query(of_others, &[&hand.handler, &hand.session, &hand.next_seq()]).await;
    assert!(row.unwrap().get::<_, bool>(2), "five of five");
    hand.ack(&first).await;
    hand.next_generation().await;
    assert_eq!(hand.must_lease(100).await.count, 3);
    assert_eq!(allowed(&hand).await, 0);

    let client = db.client().await;
    create_queue(&client, "o", ", p_ordered_lanes => 4").await;
    let refused = client.batch_execute("SELECT host.set_limits('o', 5, NULL, NULL, NULL)").await;
    assert!(refused.unwrap_err().as_db_error().unwrap().message().contains("keeps an order"));
}

#[tokio::test]
async fn the_commands_set_show_and_refuse() {
    let db = TestDb::new().await;
    let ok = async |args: &[&str]| db.host(args).await.ok();
    ok(&["queue", "create", "q", "--rate", "100/1s", "--fleet-concurrency", "3"]).await;
    let json: serde_json::Value =
        serde_json::from_str(&ok(&["queue", "list", "--json"]).await).unwrap();
    let rate = serde_json::json!({"count": 100, "interval_ms": 1000, "burst": 100});
    assert_eq!(
        json[0]["limits"],
        serde_json::json!({"per_key": false, "fleet_concurrency": 3, "rate": rate})
    );
    let said = ok(&["queue", "set", "q", "--burst", "7"]).await;
    assert_eq!(said, "Changed queue q:\n  rate  100/1s, burst 100 -> 100/1s, burst 7\n");
    assert!(ok(&["queue", "show", "q"]).await.contains("3 in flight; 100 every 1s, 7 at once"));
    let said = ok(&["queue", "set", "q", "--rate", "off", "--fleet-concurrency", "off"]).await;
    assert!(said.contains("  rate               100/1s, burst 7 -> off\n"), "{said}");
    let limited = "SELECT count(*) FROM host.queue WHERE host.is_limited(queue)";
    assert_eq!(value::<i64>(&db.client().await, limited).await, 0);
    for wrong in [
        &["--rate", "100"][..],
        &["--rate", "0/1s"],
        &["--rate", "2000/1ms"],
        &["--burst", "3"],
        &["--fleet-concurrency", "0"],
        &["--fleet-concurrency", "10001"],
    ] {
        db.host(&[&["queue", "set", "q"], wrong].concat()).await.error(2);
    }
}
