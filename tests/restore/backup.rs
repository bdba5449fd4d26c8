//! A backup that is taken while hosts work: rotation truncates nothing under it.

use host_queue::constants::ROTATION_LOCK;

use crate::harness::server::connect;
use crate::harness::sql_host::{ROTATES_ALWAYS, create_queue, deploy, value};
use crate::harness::{SqlHost, TestDb, repository, wait_until};

/// Its snapshot is older than its locks: what is truncated in between would be in the dump neither
/// as a message nor as what became of it.
#[tokio::test]
async fn nothing_is_truncated_under_a_dump_that_begins() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", ROTATES_ALWAYS).await;
    let hand = SqlHost::new(&db, "q", deploy(&client, "q", "a").await).await;
    hand.enqueue(0, 99).await;
    let dump = connect(&format!("{}&application_name=pg_dump", db.url)).await;
    dump.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    hand.work_off().await;
    hand.next_generation().await;
    let why = hand.truncate(0).await.expect("it must stay");
    assert!(why.contains("(pg_dump) may be about to read it"), "{why}");
    // It sees the messages, and nothing of what became of them.
    assert_eq!(value::<i64>(&dump, "SELECT count(*) FROM queue.q").await, 100);
    assert_eq!(value::<i64>(&dump, "SELECT count(*) FROM host.q__settlement").await, 0);
    drop(dump);
    wait_until("the leaf goes", async || hand.truncate(0).await.is_none()).await;
}

/// What another tool than pg_dump does before it takes its snapshot (see backup.md).
#[tokio::test]
async fn a_backup_can_hold_off_rotation() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", ROTATES_ALWAYS).await;
    let hand = SqlHost::new(&db, "q", deploy(&client, "q", "a").await).await;
    hand.enqueue(0, 99).await;
    hand.work_off().await;
    hand.next_generation().await;
    let backup = db.client().await;
    let hold = format!("SELECT pg_advisory_lock_shared({ROTATION_LOCK}, id) FROM host.queue");
    let page = std::fs::read_to_string(repository().join("host/docs/backup.md")).unwrap();
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains(&hold), "host/docs/backup.md does not have {hold}");
    backup.batch_execute(&hold).await.unwrap();
    assert_eq!(hand.truncate(0).await.as_deref(), Some("another host is rotating"));
    hand.enqueue(0, 9).await;
    assert_eq!(hand.work_off().await.len(), 10);
    drop(backup);
    wait_until("the leaf goes", async || hand.truncate(0).await.is_none()).await;
}
