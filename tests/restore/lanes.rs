//! Restoring queues with lanes: each lane has its own cursor, and what is left of each comes once.

use super::{other, restore};
use crate::harness::hand::{ROTATES_ALWAYS, create_queue, deploy};
use crate::harness::{Hand, TestDb};

#[tokio::test]
async fn what_is_left_of_each_priority_comes_again_with_it() {
    let from = TestDb::new().await;
    let client = from.client().await;
    create_queue(&client, "q", &format!("{ROTATES_ALWAYS}, p_priorities => true")).await;
    let handler = deploy(&client, "q", "a").await;
    let mut hand = Hand::new(&from, "q", handler).await;
    // High: all settled. Normal: half is in flight, of which some are settled. Low: nobody has looked.
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
    let mut hand = Hand::new(&restored, "q", handler).await;
    for (lane, wanted) in
        [(0, vec![]), (1, vec![10, 13, 14, 15, 16, 17, 18, 19]), (2, (20..30).collect())]
    {
        hand.lane = lane;
        assert_eq!(hand.work_off().await, wanted);
    }
}
