//! Restoring queues with lanes: each lane has its own cursor, and what is left of each comes once.

use super::{other, restore};
use crate::harness::sql_host::{ROTATES_ALWAYS, create_queue, deploy};
use crate::harness::{Deployment, Scene, SqlHost, TestDb};

#[tokio::test]
async fn what_is_left_of_each_priority_comes_again_with_it() {
    let from = TestDb::new().await;
    let client = from.client().await;
    create_queue(&client, "q", &format!("{ROTATES_ALWAYS}, p_priorities => true")).await;
    let handler = deploy(&client, "q", "a").await;
    let mut hand = SqlHost::new(&from, "q", handler).await;
    // High: all settled. Normal: half is in flight, of which some are settled. Low: nobody has
    // looked.
    hand.run(
        "INSERT INTO queue.{q} (payload, priority)
         SELECT to_jsonb(g), CASE WHEN g < 10 THEN 1 WHEN g >= 20 THEN 3 END FROM generate_series(0, 29) g",
    )
    .await;
    assert_eq!(hand.work_off().await, (0..10).collect::<Vec<_>>());
    hand.lane = 1;
    let held = hand.must_lease(5).await;
    assert!(hand.settle(&held, 0, "{[1,3)}", "").await.unwrap());

    let restored = restore(&from, other().await).await;
    let text = restored.host(&["migrate", "--restored"]).await.ok();
    assert!(text.contains("Rebased queue q: 18 waiting"), "{text}");
    let mut hand = SqlHost::new(&restored, "q", handler).await;
    for (lane, wanted) in
        [(0, vec![]), (1, vec![10, 13, 14, 15, 16, 17, 18, 19]), (2, (20..30).collect())]
    {
        hand.lane = lane;
        assert_eq!(hand.work_off().await, wanted);
    }
}

/// A lane is held for a retry when the dump is taken: its first message comes again first, and all
/// of its lane after it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_held_lane_has_comes_in_its_order() {
    const KEYS: usize = 6;
    const NUMBERS: usize = 8;
    let scene = Scene::new("p_ordered_lanes => 2, p_delays_ms => '{3600000}'").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    for n in 0..NUMBERS {
        for key in 0..KEYS {
            let failures = u32::from(n == 3 && key == 2);
            let command = serde_json::json!(
                { "do": "watch", "n": failures, "text": format!("{key}:{n}"), "queue": "sink" }
            );
            let insert = "INSERT INTO queue.work (payload, key) VALUES ($1, $2)";
            scene.client.execute(insert, &[&command, &key.to_string()]).await.unwrap();
        }
    }
    let host = scene.serve("a", &[]);
    let left = "SELECT waiting FROM host.work__backlog((SELECT id FROM host.handler), 1000000)";
    let held = "SELECT count(*) FROM queue.work m, queue.work first
        WHERE first.payload ->> 'n' = '1' AND m.lane = first.lane AND m.id >= first.id";
    let held = scene.number(held).await;
    assert!(held > 4, "{held}");
    scene.wait_number(left, held).await;
    assert!(host.terminate().await.success());

    let restored = restore(&scene.db, other().await).await;
    let text = restored.host(&["migrate", "--restored"]).await.ok();
    assert!(text.contains(&format!("Rebased queue work: {held} waiting")), "{text}");
    let scene = Scene::of(restored).await;
    scene.run("UPDATE host.queue SET delays_ms = '{10}'").await;
    let host = scene.serve("b", &[]);
    scene.wait_done("work").await;
    assert!(host.terminate().await.success());
    for key in 0..KEYS {
        let handled = format!(
            "SELECT split_part(payload, ' ', 1) FROM queue.sink WHERE payload LIKE '{key}:%' ORDER BY id"
        );
        let wanted: Vec<_> = (0..NUMBERS).map(|n| format!("{key}:{n}")).collect();
        assert_eq!(scene.texts(&handled).await, wanted);
    }
}
