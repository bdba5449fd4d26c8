//! Messages that are hidden, or deleted by hand, after they were leased: what is hidden waits until
//! it is seen again and then takes its course once; what is left beside the deleted runs.

use serde_json::json;
use tokio_postgres::Client;

use crate::harness::sql_host::{ROTATES_ALWAYS, SqlLease, create_queue, deploy, sqlstate, value};
use crate::harness::{Deployment, Scene, SqlHost, TestDb, wait_until};

const DETACH: &str = "ALTER TABLE queue.q DETACH PARTITION host.q__message_0";
const ATTACH: &str = "ALTER TABLE queue.q ATTACH PARTITION host.q__message_0 FOR VALUES IN (0)";
/// The settings of each kind of queue, and whether it has keys.
const KINDS: [(&str, bool); 4] = [
    ("", false),
    (", p_priorities => true", false),
    (", p_ordered_lanes => 4", true),
    (", p_keyed_lanes => 4", true),
];

/// A queue of a kind, and a handler. All that [`enqueue`] puts there is in one lane, which the hand
/// leases from.
async fn scene(settings: &str) -> (TestDb, Client, SqlHost) {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", &format!("{ROTATES_ALWAYS}{settings}")).await;
    let handler = deploy(&client, "q", "default").await;
    let mut hand = SqlHost::new(&db, "q", handler).await;
    let lanes = "SELECT CASE WHEN q.priorities THEN 1 WHEN host.lanes(q) = 1 THEN 0
            ELSE (hashtextextended('k', 0) & (host.lanes(q) - 1))::int END
        FROM host.queue q WHERE q.name = 'q'";
    hand.lane = value(&client, lanes).await;
    (db, client, hand)
}

/// Enqueues the numbers from `a` to `b`, with one key where there are keys.
async fn enqueue(hand: &SqlHost, keys: bool, a: i64, b: i64) {
    let key = if keys { "'k'" } else { "NULL" };
    hand.run(&format!(
        "INSERT INTO queue.q (payload, key, run_at) SELECT to_jsonb(g), {key}, now() FROM generate_series({a}::bigint, {b}::bigint) g"
    ))
    .await;
}

/// The hint of a refusal for what is hidden.
#[track_caller]
fn hidden<T: std::fmt::Debug>(result: Result<T, tokio_postgres::Error>) {
    let error = result.expect_err("messages are hidden");
    let error = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(error.code().code(), "HQ012", "{error}");
    assert!(error.message().contains("something hides them"), "{error}");
    assert!(error.hint().unwrap().starts_with("attach the partition again"), "{error:?}");
}

/// A lease of 305 messages, of which the first 300 are in partition 0. Beyond it the window has
/// five more.
async fn spanning(hand: &SqlHost, keys: bool) -> SqlLease {
    enqueue(hand, keys, 1, 300).await;
    hand.next_generation().await;
    enqueue(hand, keys, 301, 310).await;
    let held = hand.must_lease(305).await;
    assert_eq!(hand.payloads(&held).await, (1..=305).collect::<Vec<_>>());
    held
}

const RETRY: &str = r#", p_retry_pos => '{302}', p_retry_delay_ms => '{0}', p_retry_entry => ARRAY['{"error": "no"}'::jsonb]"#;
const DEAD: &str = r#", p_dead_pos => '{20}', p_dead_reason => '{rejected}', p_dead_entry => ARRAY['{"error": "no"}'::jsonb]"#;
const PARK: &str = ", p_park_pos => '{304}'";

#[tokio::test]
async fn what_is_hidden_before_it_is_settled_takes_its_course_later() {
    for (settings, keys) in KINDS {
        let (_db, client, hand) = scene(settings).await;
        let held = spanning(&hand, keys).await;
        client.batch_execute(DETACH).await.unwrap();
        for more in [RETRY, DEAD, PARK] {
            hidden(hand.settle(&held, 0, "{[0,305)}", more).await);
        }
        // What a fetch would ask for, and what nobody has to read.
        hidden(hand.query("SELECT host.{q}__read($1, $2)", &[&hand.session, &held.seq]).await);
        assert!(hand.settle(&held, 0, "{[0,5)}", "").await.unwrap());
        client.batch_execute(ATTACH).await.unwrap();
        let effects = [RETRY, DEAD, PARK].concat();
        assert!(hand.settle(&held, 1, "{[5,305)}", &effects).await.unwrap());
        assert_eq!(hand.value::<i32>("SELECT promoted FROM host.{q}__promote(10)").await, 2);
        let mut all = hand.work_off().await;
        all.sort_unstable();
        assert_eq!(all, [303, 305, 306, 307, 308, 309, 310], "{settings}");
        let dead = "SELECT string_agg(payload::text, ' ') FROM host.q__dead_letter";
        assert_eq!(value::<String>(&client, dead).await, "21", "{settings}");
        assert_eq!(hand.strays().await, [0; 0]);
    }
}

#[tokio::test]
async fn what_is_hidden_is_taken_over_when_it_is_seen_again() {
    for (settings, keys) in KINDS {
        let (db, client, hand) = scene(settings).await;
        let held = spanning(&hand, keys).await;
        assert!(hand.settle(&held, 0, "{[0,300)}", "").await.unwrap());
        hand.end(true).await;
        let heir = SqlHost::new(&db, "q", hand.handler).await;
        client.batch_execute(DETACH).await.unwrap();
        hidden(heir.take_over(held.id, 500).await);
        let leases = "SELECT count(*) FROM host.q__lease WHERE row_count > 0";
        assert_eq!(value::<i64>(&client, leases).await, 1, "a try leaves nothing behind");
        client.batch_execute(ATTACH).await.unwrap();
        let rest = heir.take_over(held.id, 500).await.unwrap().expect("five");
        assert_eq!(heir.payloads_of(&rest).await, (301..=305).collect::<Vec<_>>(), "{settings}");
    }
}

#[tokio::test]
async fn poison_that_is_hidden_is_a_dead_letter_when_it_is_seen_again() {
    for (settings, keys) in KINDS {
        let (db, client, mut hand) = scene(settings).await;
        enqueue(&hand, keys, 1, 2).await;
        let mut lease = hand.must_lease(2).await.id;
        for _ in 1..5 {
            hand.end(true).await;
            hand = SqlHost::new(&db, "q", hand.handler).await;
            lease = hand.take_over(lease, 1).await.unwrap().expect("it runs").id;
        }
        hand.end(true).await;
        let heir = SqlHost::new(&db, "q", hand.handler).await;
        client.batch_execute(DETACH).await.unwrap();
        hidden(heir.take_over(lease, 1).await);
        client.batch_execute(ATTACH).await.unwrap();
        heir.take_over(lease, 1).await.unwrap();
        let dead =
            "SELECT string_agg(payload::text || ' ' || reason, ', ') FROM host.q__dead_letter";
        assert_eq!(value::<String>(&client, dead).await, "1 poison", "{settings}");
    }
}

/// In order, two hosts have died over a lease whose first message is settled: the next was never in
/// their hands.
#[tokio::test]
async fn in_order_what_was_not_in_flight_is_not_taken_for_poison() {
    let (db, client, mut hand) = scene(", p_ordered_lanes => 4").await;
    enqueue(&hand, true, 1, 3).await;
    let mut held = hand.must_lease(3).await;
    for _ in 1..5 {
        hand.end(true).await;
        hand = SqlHost::new(&db, "q", hand.handler).await;
        held = hand.take_over(held.id, 3).await.unwrap().expect("it runs");
    }
    assert_eq!((held.count, held.more), (1, true));
    assert!(hand.settle(&held, 0, "{[0,1)}", "").await.unwrap());
    hand.end(true).await;
    let heir = SqlHost::new(&db, "q", hand.handler).await;
    let rest = heir.take_over(held.id, 3).await.unwrap().expect("two");
    assert_eq!(heir.read(&rest).await, [(1, 2), (2, 3)]);
    assert_eq!(value::<i64>(&client, "SELECT count(*) FROM host.q__dead_letter").await, 0);
}

#[tokio::test]
async fn in_order_what_is_hidden_stays_in_its_lane_and_others_go_on() {
    let (_db, client, hand) = scene(", p_ordered_lanes => 4").await;
    let held = spanning(&hand, true).await;
    assert!(hand.settle(&held, 0, "{[0,5)}", "").await.unwrap());
    let hand_on = async || {
        let call = "SELECT host.{q}__hand_on($1, $2, $3, 5, 0, '{\"error\": \"no\"}')";
        hand.query(call, &[&held.id, &hand.session, &held.token]).await
    };
    client.batch_execute(DETACH).await.unwrap();
    hidden(hand_on().await);
    client.batch_execute(ATTACH).await.unwrap();
    assert!(hand_on().await.unwrap().get::<_, bool>(0));
    let lease_lanes = async |seq: i64| {
        let call = "SELECT lease_id, row_count, wait_ms FROM host.q__lease_lanes($1, $2, $3, gen_random_uuid(), 500, 1 << 30, 0, 4, 5)";
        let rows = hand.client.query(call, &[&hand.handler, &hand.session, &seq]).await.unwrap();
        let last = rows.last().unwrap().get::<_, Option<i64>>(2);
        let counts = rows.iter().filter_map(|row| row.get::<_, Option<i32>>(1)).collect::<Vec<_>>();
        (counts, last)
    };
    client.batch_execute(DETACH).await.unwrap();
    // Without a key: in any lane, but some in another.
    hand.run("INSERT INTO queue.q (payload) SELECT to_jsonb(g) FROM generate_series(401, 440) g")
        .await;
    let (counts, wait) = lease_lanes(1_000).await;
    assert_eq!(counts.len(), 3, "{counts:?}");
    assert!(wait.is_some_and(|ms| ms <= 1_000), "{wait:?}");
    client.batch_execute(ATTACH).await.unwrap();
    assert_eq!(lease_lanes(2_000).await.0, [300]);
    let first =
        "SELECT payload::bigint * 10 + attempt FROM host.{q}__read($1, 2000) ORDER BY pos LIMIT 1";
    let first = hand.query(first, &[&hand.session]).await.unwrap();
    assert_eq!(first.get::<_, i64>(0), 62, "the sixth, for the second time");
}

/// An index that lacks a third of the messages, as one may after a crash of the disk: Postgres is
/// told that it is whole.
const DAMAGE: &str = "DROP INDEX queue.q__message_window;
    CREATE INDEX damaged ON host.q__message_0 (txid, id) WHERE id % 3 <> 0;
    UPDATE pg_index SET indpred = NULL WHERE indexrelid = 'host.damaged'::regclass";
const REINDEX: &str =
    "DROP INDEX host.damaged; CREATE INDEX q__message_window ON queue.q (txid, id)";

#[tokio::test]
async fn what_a_damaged_index_hides_is_not_taken_for_deleted() {
    let (db, client, hand) = scene("").await;
    hand.enqueue(1, 9).await;
    let held = hand.must_lease(9).await;
    client.batch_execute(DAMAGE).await.unwrap();
    assert_eq!(value::<i64>(&client, "SELECT count(*) FROM host.q__message_0").await, 9);
    // A connection whose plans are made with the index as it is now.
    let fresh = hand.beside(&db).await;
    let retry = r#", p_retry_pos => '{5}', p_retry_delay_ms => '{0}', p_retry_entry => ARRAY['{"error": "no"}'::jsonb]"#;
    hidden(fresh.settle(&held, 0, "{[0,9)}", retry).await);
    hidden(fresh.take_over(held.id, 9).await);
    client.batch_execute(REINDEX).await.unwrap();
    assert!(hand.settle(&held, 0, "{[0,9)}", retry).await.unwrap());
    assert_eq!(hand.value::<i32>("SELECT promoted FROM host.{q}__promote(10)").await, 1);
    assert_eq!(hand.work_off().await, [6]);
}

#[tokio::test]
async fn what_is_left_beside_deleted_messages_runs_and_is_settled() {
    for (settings, keys) in KINDS {
        let (_db, client, hand) = scene(settings).await;
        enqueue(&hand, keys, 1, 10).await;
        let held = hand.must_lease(10).await;
        assert!(hand.settle(&held, 0, "{[0,3)}", "").await.unwrap());
        let delete = "ALTER TABLE host.q__message_0 DISABLE TRIGGER ALL;
            DELETE FROM host.q__message_0 WHERE payload IN ('2', '5')";
        client.batch_execute(delete).await.unwrap();
        // Its position is that of another message now.
        let retry = ", p_retry_pos => '{6}', p_retry_delay_ms => '{0}', p_retry_entry => ARRAY['{}'::jsonb]";
        let error = hand.settle(&held, 1, "{[3,10)}", retry).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "HQ002");
        assert!(error.message().starts_with("2 messages of lease"), "{error}");
        assert!(hand.take_over(held.id, 10).await.unwrap().is_none(), "it is cut anew");
        let [stray] = hand.strays().await[..] else { panic!("a stray") };
        let rest = hand.take_over(stray, 10).await.unwrap().expect("what is left");
        // The third is beside one that was not settled: whether it was, its position does not say
        // any more.
        assert_eq!(hand.payloads_of(&rest).await, [3, 4, 6, 7, 8, 9, 10], "{settings}");
        let retry = ", p_retry_pos => '{3}', p_retry_delay_ms => '{0}', p_retry_entry => ARRAY['{}'::jsonb]";
        assert!(hand.settle(&rest, 0, "{[1,8)}", retry).await.unwrap());
        assert_eq!(hand.value::<i32>("SELECT promoted FROM host.{q}__promote(10)").await, 1);
        assert_eq!(hand.work_off().await, [6], "{settings}");
        // All of a lease.
        enqueue(&hand, keys, 11, 12).await;
        let held = hand.must_lease(10).await;
        client
            .batch_execute("DELETE FROM host.q__message_0 WHERE payload IN ('11', '12')")
            .await
            .unwrap();
        assert!(hand.take_over(held.id, 10).await.unwrap().is_none());
        assert_eq!(hand.strays().await, [0; 0]);
    }
}

/// A trigger on a table of ours that leaves out what it is given.
#[tokio::test]
async fn what_a_trigger_leaves_out_is_not_settled() {
    let (_db, client, hand) = scene("").await;
    enqueue(&hand, false, 1, 30).await;
    let held = hand.must_lease(30).await;
    client
        .batch_execute(
            "CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        )
        .await
        .unwrap();
    let effects = RETRY.replace("302", "2");
    for (table, more) in [("schedule", effects.as_str()), ("dead_letter", DEAD)] {
        let swallow = format!(
            "CREATE TRIGGER swallow BEFORE INSERT ON host.q__{table} FOR EACH ROW EXECUTE FUNCTION public.swallow()"
        );
        client.batch_execute(&swallow).await.unwrap();
        let settled = hand.settle(&held, 0, "{[0,30)}", more).await;
        assert_eq!(sqlstate(settled), "HQ012", "{table}");
        client.batch_execute(&format!("DROP TRIGGER swallow ON host.q__{table}")).await.unwrap();
    }
    assert!(hand.settle(&held, 0, "{[0,30)}", &format!("{effects}{DEAD}")).await.unwrap());
}

/// Where a row of ours has no partition to go to, no message is to blame: on this queue a single
/// attempt is all.
#[tokio::test]
async fn a_row_without_a_partition_is_no_messages_fault() {
    let scene = Scene::new("p_max_attempts => 1, p_keep_ms => 3600000").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let follow_up = json!({"do": "enqueue", "n": 1, "queue": "sink", "text": "done"});
    let at_once = format!("INSERT INTO queue.work (payload) VALUES ('{follow_up}')");
    let later = format!(
        "INSERT INTO queue.work (payload, run_at) VALUES ('{follow_up}', now() + interval '5 s')"
    );
    let mut done = 0;
    for (log, enqueue, named) in [
        ("settlement", &at_once, "work__settlement"),
        ("lease", &at_once, "has no cursor"),
        ("history", &at_once, "work__history"),
        ("schedule", &later, "work__schedule"),
        ("message", &later, "no partition of relation \"work\""),
        ("promotion", &later, "has no cursor to be seen"),
    ] {
        let host = scene.serve("host", &[]);
        host.wait_for_log("handler loaded").await;
        let is_promoted = matches!(log, "message" | "promotion");
        if is_promoted {
            scene.run(enqueue).await;
            let put_off = "SELECT count(*) FROM host.work__schedule
                WHERE enqueued_at = (SELECT max(enqueued_at) FROM queue.work)";
            scene.wait_number(put_off, 1).await;
        }
        scene
            .run(&format!(
                "DO 'DECLARE p regclass; BEGIN
                     FOR p IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhrelid::regclass::text ~ ''work__{log}_[0-9]+$'' LOOP
                         EXECUTE format(''ALTER TABLE {} DETACH PARTITION %s'', p);
                     END LOOP;
                 END'",
                if log == "message" { "queue.work".into() } else { format!("host.work__{log}") }
            ))
            .await;
        if !is_promoted {
            scene.run(enqueue).await;
        }
        host.wait_for_log(named).await;
        let doctor = scene.db.host(&["doctor"]).await;
        assert!(doctor.stdout.contains("ATTACH PARTITION"), "{log}: {}", doctor.stdout);
        for attach in scene.texts("SELECT remedy FROM host.detached('work')").await {
            scene.run(&attach).await;
        }
        done += 1;
        scene.wait_number("SELECT count(*) FROM queue.sink", done).await;
        let dead = "SELECT error FROM host.work__dead_letter";
        assert_eq!(scene.texts(dead).await, [""; 0], "{log}: {}", host.log());
        host.terminate().await;
    }
}

#[tokio::test]
async fn a_host_names_what_is_hidden_and_goes_on_when_it_is_seen() {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    scene
        .run("INSERT INTO queue.work (payload) SELECT '\"ack\"' FROM generate_series(1, 20)")
        .await;
    let handler: i32 = value(&scene.client, "SELECT id FROM host.handler").await;
    let dead = SqlHost::new(&scene.db, "work", handler).await;
    dead.must_lease(100).await;
    dead.end(true).await;
    scene.run("ALTER TABLE queue.work DETACH PARTITION host.work__message_0").await;
    let host = scene.serve("host", &[]);
    host.wait_for_log("something hides them").await;
    let attach = "ALTER TABLE queue.work ATTACH PARTITION host.work__message_0 FOR VALUES IN (0)";
    let status = scene.db.host(&["status"]).await.ok();
    assert!(status.contains("host.work__message_0 is detached"), "{status}");
    assert!(status.contains(attach), "{status}");
    let doctor = scene.db.host(&["doctor"]).await;
    assert!(doctor.stdout.contains("ALTER TABLE queue.work ATTACH PARTITION"), "{}", doctor.stdout);
    scene.run(attach).await;
    scene.wait_done("work").await;
    wait_until("it says that it is over", async || host.log().contains("can lease again")).await;
}
