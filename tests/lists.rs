//! A request for a few rows does not wait for all. A look with a limit reads only the rows that it
//! shows.

use crate::harness::TestDb;
use crate::harness::sql_host::{create_queue, deploy, value};

/// As many as there are of each.
const ALL: i64 = 3_000;

/// Rows of the queues' big tables that this transaction has read.
const READ: &str = "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint
    FROM pg_stat_xact_user_tables WHERE relname ~ '__(message|dead_letter|schedule|history)(_[0-9]+)?$'";

#[tokio::test]
async fn a_look_with_a_limit_reads_no_more_than_it_shows() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", ", p_keep_ms => 3600000").await;
    let handler = deploy(&client, "q", "a").await;
    // Nobody has analyzed any of it.
    let fill = format!(
        "INSERT INTO queue.q (payload, run_at) SELECT '1', now() + n % 2 * interval '1 hour' FROM generate_series(1, {ALL}) n;
         INSERT INTO host.q__dead_letter (message_id, enqueued_at, handler_id, attempt, reason, error, payload)
             SELECT n, now(), {handler}, 1, 'rejected', 'no', '1' FROM generate_series(1, {ALL}) n;
         INSERT INTO host.q__schedule (due, origin, enqueued_at, slot, attempt, payload)
             SELECT now() + interval '1 hour', n, now(), 9, 1, '1' FROM generate_series(1, {ALL}) n;
         INSERT INTO host.q__history (message_id, lease_id, enqueued_at, leased_at, settled_at, handler_id, session_id, slot,
                 attempt, removed, handler, payload)
             SELECT n, 1, now(), now(), clock_timestamp(), {handler}, 1, n % 12, 1, false, 'a', '1' FROM generate_series(1, {ALL}) n"
    );
    client.batch_execute(&fill).await.unwrap();
    for (what, limit) in [
        ("host.q__dead_list(3, NULL, NULL)", 3),
        ("host.q__dead_list(3, NULL, '$.attempt == 1')", 3),
        ("host.q__dead_list(3, ARRAY[17, 18, 2999, 3000], NULL)", 4),
        ("host.q__dead_list(NULL, ARRAY[17], NULL)", 1),
        ("host.q__dead_ids(ARRAY[17], NULL)", 1),
        // A message in each leaf of the history is looked at to begin with.
        ("host.q__settled(NULL, 3)", 3 + 12),
        (&format!("host.q__settled({handler}, 3)"), 3 + 12),
        (&format!("host.q__peek({handler}, 3)"), 3),
        ("host.q__peek(NULL, 3)", 3),
        // It counts up to its limit: messages, dead letters, those on the schedule, and of these
        // what was refused.
        ("host.queue_status('q', 10)", 4 * 10),
        ("host.queue_status('sink', 10)", 4 * 10),
    ] {
        if what.contains("sink") {
            create_queue(&client, "sink", "").await;
            let fill = format!(
                "INSERT INTO queue.sink (payload) SELECT '1' FROM generate_series(1, {ALL})"
            );
            client.batch_execute(&fill).await.unwrap();
        }
        // What the view has of earlier transactions, it may have or not.
        client.batch_execute("BEGIN").await.unwrap();
        let before = value::<i64>(&client, READ).await;
        let rows = value::<i64>(&client, &format!("SELECT count(*) FROM {what}")).await;
        let read = value::<i64>(&client, READ).await - before;
        client.batch_execute("COMMIT").await.unwrap();
        assert!(rows > 0, "{what}");
        // A tuple that ends a scan is read and not shown.
        assert!(read <= limit + 4, "{what} reads {read} rows");
    }
}
