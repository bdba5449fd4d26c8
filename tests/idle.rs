//! Idle queues: what is said of one after a few probes is what all its functions say, and any
//! doubt ends the rest.

use tokio_postgres::Client;

use crate::harness::sql_host::{ROTATES_ALWAYS, create_queue, deploy, value};
use crate::harness::{SqlHost, TestDb};

/// Whether the queue is taken to be idle; the two ways of looking at it have to agree.
async fn is_idle(client: &Client, queue: &str) -> bool {
    let status = format!(
        "SELECT (SELECT to_jsonb(a)::text FROM host.status_of_each('{{{queue}}}') a),
            (SELECT to_jsonb(b)::text FROM host.status_of('{queue}') b)"
    );
    let row = client.query_one(&status, &[]).await.unwrap();
    let (quick, full): (String, String) = (row.get(0), row.get(1));
    assert_eq!(quick, full);
    // All but how old things are.
    let examine = format!(
        "WITH x AS (SELECT a, host.{queue}__examine() AS b FROM host.examine_each('{{{queue}}}') a)
        SELECT ((a - '{{triggers,autovacuum,locks,clock_ms,handlers}}'::text[]) - 'open_lease')::text,
            (((b - '{{clock_ms,handlers}}'::text[]) || '{{}}') - 'open_lease')::text,
            jsonb_path_query_array(a, '$.handlers[*].waiting')::text,
            jsonb_path_query_array(b, '$.handlers[*].waiting')::text,
            abs((a ->> 'clock_ms')::bigint - (b ->> 'clock_ms')::bigint) < 60000,
            a ->> 'clock_ms' IS NULL AND b ->> 'clock_ms' IS NULL,
            (a -> 'open_lease' = 'null') = (b -> 'open_lease' = 'null')
        FROM x"
    );
    let row = client.query_one(&examine, &[]).await.unwrap();
    let text = |n: usize| row.get::<_, String>(n);
    assert_eq!((text(0), text(2)), (text(1), text(3)));
    assert!(row.get::<_, Option<bool>>(4).unwrap_or_else(|| row.get(5)) && row.get(6));
    value(client, &format!("SELECT idle FROM host.idle('{queue}', 1000)")).await
}

#[tokio::test]
async fn a_queue_of_any_kind_is_idle_between_its_messages() {
    let db = TestDb::new().await;
    let client = db.client().await;
    let kinds = [
        ("plain", ""),
        ("prioritized", ", p_priorities => true"),
        ("ordered", ", p_ordered_lanes => 4"),
        ("keyed", ", p_keyed_lanes => 4"),
        ("kept", ", p_keep_ms => 3600000"),
    ];
    for (queue, settings) in kinds {
        create_queue(&client, queue, settings).await;
        assert!(is_idle(&client, queue).await, "{queue}: new");
        let insert =
            format!("INSERT INTO queue.{queue} (payload) SELECT '1' FROM generate_series(1, 20)");
        client.batch_execute(&insert).await.unwrap();
        assert!(!is_idle(&client, queue).await, "{queue}: nobody handles them");
        let handler = deploy(&client, queue, "default").await;
        let mut hand = SqlHost::new(&db, queue, handler).await;
        assert!(!is_idle(&client, queue).await, "{queue}: they wait");
        let lanes = value(
            &client,
            &format!("SELECT host.lanes(q) FROM host.queue q WHERE name = '{queue}'"),
        )
        .await;
        // Each window is worked off to its last message, and none says so.
        for lane in 0..lanes {
            hand.lane = lane;
            while let Some(lease) = hand.lease(5).await {
                assert!(!is_idle(&client, queue).await, "{queue}: in flight");
                hand.ack(&lease).await;
            }
        }
        assert!(is_idle(&client, queue).await, "{queue}: settled");
        deploy(&client, queue, "another").await;
        assert!(!is_idle(&client, queue).await, "{queue}: not by all");
        hand.end(false).await;
    }
}

#[tokio::test]
async fn whatever_is_left_of_a_queue_keeps_it_from_being_idle() {
    let (db, client, hand) = SqlHost::with_queue("").await;
    let idle = async || is_idle(&client, "q").await;
    // A transaction that was open when later messages were leased.
    let open = db.client().await;
    open.batch_execute("BEGIN; INSERT INTO queue.q (payload) VALUES ('1')").await.unwrap();
    hand.enqueue(2, 3).await;
    hand.work_off().await;
    assert!(idle().await, "what is not committed does not wait");
    open.batch_execute("COMMIT").await.unwrap();
    assert!(!idle().await, "it is late, and waits");
    assert_eq!(hand.work_off().await, [1]);
    assert!(idle().await);

    hand.run("INSERT INTO queue.q (payload, run_at) SELECT '1', now() + interval '1 day' FROM generate_series(1, 3)").await;
    assert!(!idle().await, "no host has seen them");
    let lease = hand.must_lease(3).await;
    hand.settle(&lease, 0, "{[0,2)}", ", p_park_pos => '{0,1}'").await.unwrap();
    assert!(!idle().await, "one is in flight");
    hand.settle(&lease, 1, "{[2,3)}", ", p_park_pos => '{2}'").await.unwrap();
    assert!(!idle().await, "the schedule has them");
    hand.run("TRUNCATE host.q__schedule").await;
    assert!(idle().await, "it has been used, and has none");

    hand.enqueue(7, 7).await;
    let lease = hand.must_lease(1).await;
    let dead = r#", p_dead_pos => '{0}', p_dead_reason => '{rejected}', p_dead_entry => ARRAY['{"error": "no"}'::jsonb]"#;
    hand.settle(&lease, 0, "{[0,1)}", dead).await.unwrap();
    assert!(idle().await, "its dead letter is counted");
    assert_eq!(value::<i64>(&client, "SELECT dead FROM host.idle('q', 1000)").await, 1);

    for (hide, mend) in [
        (
            "ALTER TABLE queue.q DETACH PARTITION host.q__message_1",
            "ALTER TABLE queue.q ATTACH PARTITION host.q__message_1 FOR VALUES IN (1)",
        ),
        (
            "ALTER TABLE queue.q ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE queue.q DISABLE ROW LEVEL SECURITY",
        ),
    ] {
        let hiding = "SELECT 'q' IN (SELECT host.hiding_queues())";
        hand.run(hide).await;
        assert!(value::<bool>(&client, hiding).await, "{hide}");
        idle().await;
        hand.run(mend).await;
        assert!(!value::<bool>(&client, hiding).await, "{mend}");
    }
    hand.run("SELECT host.set_limits('q', 10, NULL, NULL, NULL)").await;
    assert!(!idle().await, "its limits may say more");
    hand.end(false).await;
}

#[tokio::test]
async fn a_queue_is_idle_again_when_its_old_partition_is_truncated() {
    let (_db, client, hand) = SqlHost::with_queue(ROTATES_ALWAYS).await;
    hand.enqueue(1, 300).await;
    hand.work_off().await;
    assert!(is_idle(&client, "q").await);
    hand.next_generation().await;
    assert!(!is_idle(&client, "q").await, "the old partition has rows");
    assert_eq!(hand.truncate(0).await, None);
    assert!(is_idle(&client, "q").await);
    assert_eq!(value::<i64>(&client, "SELECT last_minute FROM host.idle('q', 1)").await, 300);
    hand.enqueue(1, 1).await;
    assert!(!is_idle(&client, "q").await);
    hand.end(false).await;
}
