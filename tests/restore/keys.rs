//! Unique keys in another cluster: those of messages that are left stay taken, the others are free.

use super::{other, restore};
use crate::harness::sql_host::{create_queue, deploy, value};
use crate::harness::{SqlHost, TestDb};

#[tokio::test]
async fn keys_are_restored_with_their_messages() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", "").await;
    client.batch_execute("SELECT host.set_unique('q', 0)").await.unwrap();
    let hand = SqlHost::new(&db, "q", deploy(&client, "q", "default").await).await;
    let enqueue =
        |key: &str| format!("INSERT INTO queue.q (payload, unique_key) VALUES ('1', '{key}')");
    for key in ["done", "missed", "retried"] {
        client.batch_execute(&enqueue(key)).await.unwrap();
    }
    let held = hand.must_lease(10).await;
    let retry = r#", ARRAY[2], ARRAY[3600000], ARRAY['{"error": "busy"}']::jsonb[]"#;
    assert!(hand.settle(&held, 0, "{[0,3)}", retry).await.unwrap());
    client.batch_execute(&enqueue("waits")).await.unwrap();
    // As a logical copy may have it, whose tables are of different moments.
    let miss = "UPDATE host.q__unique SET settled_by = '{}' WHERE key = 'missed'";
    client.batch_execute(miss).await.unwrap();

    let restored = restore(&db, other().await).await;
    restored.host(&["migrate", "--restored"]).await.ok();
    let client = restored.client().await;
    for (key, free) in [("done", true), ("missed", true), ("retried", false), ("waits", false)] {
        let enqueued = client.execute(&enqueue(key), &[]).await.unwrap();
        assert_eq!(enqueued == 1, free, "{key}");
    }
    assert_eq!(value::<i64>(&client, "SELECT count(*) FROM queue.q").await, 3);
}
