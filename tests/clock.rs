//! The database's clock is set back: nothing that is inserted then comes before its time, what has
//! come does not come again, and nothing stands still until the old time is there.

use std::path::Path;

use tokio_postgres::Client;

use crate::harness::postgres::OwnServer;
use crate::harness::server::scratch_dir;
use crate::harness::sql_host::{ROTATES_ALWAYS, assert_only_inserted, value};
use crate::harness::{Deployment, Scene, SqlHost, TestDb, wait_until};

/// Schedules a number; due `seconds` from now.
async fn schedule(client: &Client, number: i64, seconds: f64) {
    let sql = format!(
        "INSERT INTO host.q__schedule (due, slot, origin, enqueued_at, attempt, payload)
         SELECT d, host.slot(d, now()), {number}, now(), 1, '{number}' FROM (SELECT now() + {seconds} * interval '1 s' AS d) d"
    );
    client.batch_execute(&sql).await.unwrap();
}

/// As if all that is due within the next `seconds` had been promoted, by a clock that was so far
/// ahead.
async fn was_ahead(client: &Client, seconds: f64) {
    let sql = format!(
        "INSERT INTO host.q__promotion (due, schedule_id, hi, late_txids, late_txid, late_id, passed_due, passed_id, passed_hi)
         SELECT now() + {seconds} * interval '1 s', 0, txid_current_snapshot(), '{{}}', 0, 0, passed_due, passed_id, passed_hi
         FROM host.q__promotion ORDER BY id DESC LIMIT 1"
    );
    client.batch_execute(&sql).await.unwrap();
}

async fn promote(hand: &SqlHost) -> i32 {
    hand.value("SELECT promoted FROM host.{q}__promote(100)").await
}

async fn scheduled(hand: &SqlHost) -> i64 {
    hand.value("SELECT scheduled FROM host.{q}__stored(100)").await
}

#[tokio::test]
async fn what_is_scheduled_after_a_step_back_is_not_promoted_before_it_is_due() {
    let (db, client, hand) = SqlHost::with_queue("").await;
    schedule(&client, 1, 1_800.0).await;
    schedule(&client, 2, 1.5).await;
    was_ahead(&client, 3_600.0).await;
    // Before the old clock's present, and after it.
    schedule(&client, 3, 2_400.0).await;
    schedule(&client, 4, 4_000.0).await;
    assert_eq!((promote(&hand).await, scheduled(&hand).await), (0, 2));
    let next: i64 = hand.value("SELECT next_ms FROM host.{q}__promote(1)").await;
    assert!(next < 60_000, "it does not sleep through: {next}");
    schedule(&client, 5, -1.0).await;
    schedule(&client, 6, 1.0).await;
    assert_eq!(promote(&hand).await, 1);
    let mut due = 0;
    wait_until("the sixth is due, and the second is again", async || {
        due += promote(&hand).await;
        let passed = "SELECT clock_timestamp() > due FROM host.q__schedule WHERE origin = 2";
        due > 0 && value::<bool>(&client, passed).await
    })
    .await;
    assert_eq!((due, promote(&hand).await), (1, 0), "the second was promoted before");
    assert_eq!(hand.work_off().await, [5, 6]);

    // Once more, by less, and with a next generation in between.
    was_ahead(&client, 3_000.0).await;
    schedule(&client, 7, 2_000.0).await;
    assert_eq!(promote(&hand).await, 0);
    schedule(&client, 8, -1.0).await;
    assert_eq!(promote(&hand).await, 1);
    assert_eq!((promote(&hand).await, hand.work_off().await), (0, vec![8]));
    let waits =
        "SELECT array_agg(DISTINCT s.payload ORDER BY s.payload) FROM generate_series(1, 8) n
        CROSS JOIN LATERAL host.q__scheduled(n) s";
    // The second step has promoted all that was there up to its time.
    assert_eq!(value::<Vec<String>>(&client, waits).await, ["4", "7"]);
    drop((client, hand));
    assert_only_inserted(&db).await;
}

/// When the clock is at its old time again, all is as before.
#[tokio::test]
async fn the_old_cursor_is_forgotten_when_the_clock_is_there_again() {
    let (_db, client, hand) = SqlHost::with_queue("").await;
    schedule(&client, 1, 1.0).await;
    was_ahead(&client, 1.5).await;
    schedule(&client, 2, 1.2).await;
    schedule(&client, 3, -1.0).await;
    assert_eq!(promote(&hand).await, 1);
    assert!(
        hand.value::<bool>(
            "SELECT passed_due IS NOT NULL FROM host.{q}__promotion ORDER BY id DESC LIMIT 1"
        )
        .await
    );
    schedule(&client, 4, 1.7).await;
    let mut promoted = 1;
    wait_until("the others are due", async || {
        promoted += promote(&hand).await;
        promoted >= 3
    })
    .await;
    assert_eq!(hand.work_off().await, [3, 2, 4]);
    assert!(
        hand.value::<bool>(
            "SELECT passed_due IS NULL FROM host.{q}__promotion ORDER BY id DESC LIMIT 1"
        )
        .await
    );
    assert_eq!(promote(&hand).await, 0);
}

#[tokio::test]
async fn a_generation_ends_and_a_lost_lease_is_found_although_they_are_of_the_future() {
    let (_db, client, hand) = SqlHost::with_queue(ROTATES_ALWAYS).await;
    hand.enqueue(1, 300).await;
    client
        .batch_execute("ALTER TABLE host.q__lease ALTER COLUMN leased_at SET DEFAULT clock_timestamp() + interval '1 hour'")
        .await
        .unwrap();
    // The first of the generation is the handler's, from before the step.
    hand.next_generation().await;
    let lost = hand.must_lease(10).await;
    assert_eq!(hand.strays().await, [lost.id]);
    hand.enqueue(301, 600).await;
    assert_eq!(hand.advance().await, None, "its first lease is of the future");
}

#[tokio::test]
async fn a_held_lane_goes_on_although_its_retry_is_due_by_the_old_clock() {
    let (_db, client, hand) = SqlHost::with_queue(", p_ordered_lanes => 2").await;
    client
        .batch_execute("INSERT INTO queue.q (payload, key) VALUES ('1', 'a'), ('2', 'a')")
        .await
        .unwrap();
    let lane: i32 = hand.value("SELECT lane::int FROM queue.{q} LIMIT 1").await;
    let mut hand = hand;
    hand.lane = lane;
    let held = hand.must_lease(10).await;
    let ahead = "ALTER TABLE host.q__lease ALTER COLUMN leased_at SET DEFAULT clock_timestamp() + interval '1 hour'";
    client.batch_execute(ahead).await.unwrap();
    let hand_on = "SELECT host.{q}__hand_on($1, $2, $3, 0, 30000, '{\"error\": \"no\"}')";
    hand.query(hand_on, &[&held.id, &hand.session, &held.token]).await.unwrap();
    let call = "SELECT count(lease_id) FROM host.{q}__lease_lanes($1, $2, 1000, gen_random_uuid(), 10, 1000000, 0, 2, 3)";
    let leased: i64 = hand.query(call, &[&hand.handler, &hand.session]).await.unwrap().get(0);
    assert_eq!(leased, 1);
}

#[tokio::test]
async fn cron_and_doctor_follow_a_clock_that_was_set_back() {
    let scene = Scene::of(TestDb::new().await).await;
    scene.queue("ticks", "").await;
    let add = |name, pattern| ["cron", "add", name, pattern, "--queue", "ticks", "--payload", "1"];
    scene.db.host(&add("often", "* * * * * *")).await.ok();
    scene.db.host(&add("yearly", "0 0 1 1 *")).await.ok();
    scene.db.host(&["queue", "pause", "ticks"]).await.ok();
    let yearly = "SELECT extract(epoch FROM next_at)::bigint FROM host.cron WHERE name = 'yearly'";
    let before = scene.number(yearly).await;
    // As two hours of the old clock have left it; the last try of then had failed.
    scene
        .run(
            "UPDATE host.cron SET fired_at = now() + interval '2 h', next_at = next_at + interval '2 h',
                 error = 'no', retry_at = now() + interval '2 h'
             WHERE name = 'often'",
        )
        .await;
    let found = scene.db.host(&["doctor"]).await.stdout;
    assert!(found.contains("the database's clock was set back by 1h 59m"), "{found}");
    let _host = scene.serve("host", &[]);
    wait_until("it fires", async || scene.number("SELECT count(*) FROM queue.ticks").await > 1)
        .await;
    assert_eq!(scene.number(yearly).await, before);
    let found = scene.db.host(&["doctor"]).await.stdout;
    assert!(!found.contains("set back"), "{found}");
}

/// Whole: a real server whose clock is an hour ahead, and is set right. Only where Debian's
/// `libfaketime` is installed.
#[tokio::test]
async fn a_host_goes_on_when_the_clock_of_a_real_server_is_set_back() {
    let library = Path::new("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1");
    if !library.exists() {
        eprintln!("not run: {} is not installed", library.display());
        return;
    }
    let dir = scratch_dir();
    let clock = scratch_dir().join("clock");
    std::fs::write(&clock, "+3600").unwrap();
    let mut server = OwnServer::start(&dir, &[]).await;
    server.start_by_a_clock(library, &clock).await;
    let scene = server.migrated().await;
    scene.queue("work", "p_backoff_base_ms => 30000, p_max_attempts => 3").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    scene.queue("ticks", "").await;
    scene
        .db
        .host(&["cron", "add", "t", "* * * * * *", "--queue", "ticks", "--payload", "1"])
        .await
        .ok();
    let host = scene.serve("host", &[]);
    let enqueue = async |what: &str, wait: &str| {
        let insert = format!(
            "INSERT INTO queue.work (payload, run_at) VALUES ('\"{what}\"', now() + interval '{wait}')"
        );
        scene.run(&insert).await;
    };
    scene.wait_loaded("work", 1, 1).await;
    // The schedule comes to the present of the clock that is ahead.
    enqueue("ack", "10 s").await;
    let promoted = "SELECT count(*) FROM host.work__promotion WHERE isfinite(due)";
    wait_until("it is promoted", async || scene.number(promoted).await > 0).await;
    scene.wait_done("work").await;
    wait_until("cron fires", async || scene.number("SELECT count(*) FROM queue.ticks").await > 0)
        .await;

    std::fs::write(&clock, "+0").unwrap();
    enqueue("ack", "40 min").await;
    enqueue("retry", "0 s").await;
    enqueue("ack", "2 s").await;
    let scheduled = "SELECT scheduled FROM host.work__stored(100)";
    scene.wait_number(scheduled, 2).await;
    // The one of two seconds has come, and neither the one of forty minutes nor the retry.
    let again = "SELECT count(*) FROM queue.work WHERE origin IS NOT NULL";
    assert_eq!(scene.number(again).await, 2);
    let ticks = scene.number("SELECT count(*) FROM queue.ticks").await;
    // Hosts look at the entries at each change of the catalog, else once a minute.
    scene.run("UPDATE host.catalog SET version = version + 1").await;
    host.wait_for_log("the database's clock was set back").await;
    wait_until("cron fires again", async || {
        scene.number("SELECT count(*) FROM queue.ticks").await > ticks
    })
    .await;
    assert_eq!((scene.number(scheduled).await, scene.number(again).await), (2, 2));
    let found = scene.db.host(&["doctor"]).await.stdout;
    assert!(found.contains("the database's clock was set back by "), "{found}");
    assert!(host.terminate().await.success());
}
