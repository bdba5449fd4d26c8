//! The plans of the hot statements: the same on an empty table and on a big one that nobody has
//! analyzed, index scans only, nothing sorted. A sorted lease took 216 ms instead of 1.4.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::harness::sql_host::{create_queue, deploy, value};
use crate::harness::{SqlHost, TestDb};

/// A connection whose server tells it the plan of everything that it runs.
async fn explained(db: &TestDb) -> (Client, Arc<Mutex<String>>) {
    let (client, mut connection) = tokio_postgres::connect(&db.url, NoTls).await.unwrap();
    let plans = Arc::new(Mutex::new(String::new()));
    let told = plans.clone();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message {
                let mut told = told.lock().unwrap();
                told.push_str(notice.message());
                told.push('\n');
            }
        }
    });
    let settings = "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0;
        SET auto_explain.log_nested_statements = on; SET auto_explain.log_level = 'notice'";
    client.batch_execute(settings).await.unwrap();
    (client, plans)
}

/// Of what the server told, the plans that read or write one of the queue's logs, without costs.
/// One that is there several times, for several ranges, is shown once.
fn hot(told: &str) -> String {
    let mut shown: Vec<String> = Vec::new();
    for plan in told.split("Query Text:").skip(1) {
        let lines: Vec<String> = plan
            .lines()
            .map(|line| line.split("  (cost=").next().unwrap_or(line))
            .map(without_numbers)
            .skip_while(|line| !is_node(line))
            .filter(|line| !line.starts_with("duration:"))
            .collect();
        let text = lines.join("\n");
        if text.contains("q__") && !shown.contains(&text) {
            shown.push(text);
        }
    }
    shown.join("\n\n")
}

/// A plan without what it says of each leaf but the first.
fn first_leaf(plan: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut other_leaf = None;
    let mut kept = Vec::new();
    for line in plan.lines() {
        if other_leaf.is_some_and(|depth| indent(line) > depth) {
            continue;
        }
        let scans = line.trim_start().starts_with("->") && line.contains(" on q__");
        let leaf = line.split(" on ").nth(1).and_then(|rest| rest.split(' ').next());
        let leaf = leaf.and_then(|leaf| leaf.rsplit('_').next()?.parse::<u32>().ok());
        other_leaf = (scans && leaf.is_some_and(|leaf| leaf > 0)).then(|| indent(line));
        if other_leaf.is_none() {
            kept.push(line);
        }
    }
    kept.join("\n")
}

/// Parameters are numbered anew whenever a function has one variable more.
fn without_numbers(line: &str) -> String {
    let mut parts = line.split('$');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + "$" + part.trim_start_matches(|c: char| c.is_ascii_digit())
    })
}

/// Whether a line begins a plan: the query's own text comes first.
fn is_node(line: &str) -> bool {
    let nodes = [
        "Limit",
        "Aggregate",
        "Insert on",
        "Result",
        "Append",
        "Merge Append",
        "Index ",
        "Function Scan",
        "Subquery Scan",
        "WindowAgg",
        "Nested Loop",
        "Seq Scan",
    ];
    nodes.iter().any(|node| line.starts_with(node))
}

/// Runs what a host runs for one batch, and returns the plans by statement.
async fn batch(db: &TestDb, handler: i32) -> Vec<(&'static str, String)> {
    let hand = SqlHost::new(db, "q", handler).await;
    let (client, told) = explained(db).await;
    let session = hand.session;
    let mut plans = Vec::new();
    let mut step = async |name, sql: String| {
        told.lock().unwrap().clear();
        client.batch_execute(&sql).await.unwrap();
        plans.push((name, hot(&told.lock().unwrap())));
    };
    // Of the lane that there is always: of the priorities, high.
    let lease = format!("host.q__lease({handler}, {session}, 1, gen_random_uuid(), 500, 1000000)");
    step("lease", format!("SELECT {lease}")).await;
    step("read", format!("SELECT host.q__read({session}, 1)")).await;
    let held = format!("FROM host.q__lease WHERE session_id = {session}");
    let id: i64 = hand.value(&format!("SELECT id {held}")).await;
    let token: uuid::Uuid = hand.value(&format!("SELECT token {held}")).await;
    let retry = ", p_retry_pos => '{0}', p_retry_delay_ms => '{60000}', p_retry_entry => '{NULL}'";
    let settle = format!("host.q__settle({id}, {session}, '{token}', 0, '{{[0,2)}}'{retry})");
    step("settle", format!("SELECT {settle}")).await;
    step("promote", "SELECT host.q__promote(500)".to_owned()).await;
    hand.end(false).await;
    plans
}

#[tokio::test]
async fn hot_statements_use_indexes_whatever_the_statistics_say() {
    let plans = checked_plans("", "NULL").await;
    let db = TestDb::new().await;
    let major: i32 =
        value(&db.client().await, "SELECT current_setting('server_version_num')::int / 10000")
            .await;
    for (name, plan) in plans {
        // Other versions write the same plans otherwise.
        if major == 15 {
            insta::with_settings!({ omit_expression => true }, {
                insta::assert_snapshot!(name, first_leaf(&plan));
            });
        }
    }
}

#[tokio::test]
async fn so_they_do_in_a_lane() {
    checked_plans(", p_priorities => true", "1").await;
    checked_plans(", p_ordered_lanes => 2", "NULL").await;
    checked_plans(", p_keyed_lanes => 2", "NULL").await;
}

/// The plans of a queue on which all messages have that priority, by statement.
async fn checked_plans(settings: &str, priority: &str) -> Vec<(&'static str, String)> {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", settings).await;
    let handler = deploy(&client, "q", "default").await;
    let fill = async |many: i32| {
        let sql = format!(
            "INSERT INTO queue.q (payload, priority) SELECT to_jsonb(g), {priority} FROM generate_series(1, {many}) g;
             INSERT INTO host.q__schedule (due, slot, origin, enqueued_at, attempt, payload)
             SELECT d, host.slot(d, now()), g, now(), 1, to_jsonb(g)
             FROM generate_series(1, {many}) g, LATERAL (SELECT now() + g * interval '7 s' - interval '1 min' AS d) d"
        );
        client.batch_execute(&sql).await.unwrap();
    };
    fill(10).await;
    // Some of the next are behind the cursor of promotion, so that it has both to do.
    client.batch_execute("SELECT host.q__promote(500)").await.unwrap();
    fill(10).await;
    client.batch_execute("ANALYZE").await.unwrap();
    let small = batch(&db, handler).await;
    fill(200_000).await;
    let big = batch(&db, handler).await;
    let never: i64 = value(&client, "SELECT count(*) FROM pg_stat_user_tables WHERE relname ~ '^q__' AND autovacuum_count + autoanalyze_count > 0").await;
    assert_eq!(never, 0);
    for ((name, small), (_, big)) in small.iter().zip(&big) {
        assert_eq!(small, big, "{name}");
        let node = |line: &str| line.trim_start().trim_start_matches("->").trim_start().to_owned();
        let nodes: Vec<String> = small.lines().map(node).collect();
        // The flag of sleep has one row; it is a sequence.
        let walks = |n: &&String| {
            (n.starts_with("Seq Scan") && !n.ends_with("__asleep")) || n.starts_with("Bitmap")
        };
        assert_eq!(nodes.iter().find(walks), None, "{name}:\n{small}");
        assert!(!nodes.iter().any(|n| n.starts_with("JIT")), "{name}:\n{small}");
        // A settlement sorts what it tries again: rows that it has in hand, at most a lease of
        // them.
        let sorts = nodes.iter().any(|n| n == "Sort" || n == "Incremental Sort");
        assert_eq!(sorts, *name == "settle", "{name}:\n{small}");
    }
    small
}

/// Of tables that nobody has analyzed, Postgres takes most settlements to be partial, and would
/// compare every lease with every settlement: minutes for what a busy queue leases in one, with its
/// handlers locked.
#[tokio::test]
async fn open_leases_are_found_without_comparing_each_lease_with_each_settlement() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", "").await;
    let handler = deploy(&client, "q", "default").await;
    let hand = SqlHost::new(&db, "q", handler).await;
    let session = hand.session;
    let fill = format!(
        "INSERT INTO host.q__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id, row_count,
             leaves, is_cursor, more, token, hi, txids)
         SELECT g, 0, 0, 0, 0, {handler}, {session}, 1, 1, true, false, gen_random_uuid(), txid_current_snapshot(), '{{}}'
         FROM generate_series(1, 20000) g;
         INSERT INTO host.q__settlement (lease_id, seq, rest, settled)
         SELECT id, 0, 0, '{{[0,1)}}' FROM host.q__lease WHERE row_count > 0;
         SELECT host.set_limits('q', 10, NULL, NULL, NULL)"
    );
    client.batch_execute(&fill).await.unwrap();
    let (client, told) = explained(&db).await;
    let calls = [
        "holds(1)".to_owned(),
        format!("strays({handler}, {session}, 10)"),
        format!("backlog({handler}, 1000)"),
        "examine()".to_owned(),
        format!("allowance({handler})"),
    ];
    for call in calls {
        told.lock().unwrap().clear();
        client.batch_execute(&format!("SELECT host.q__{call}")).await.unwrap();
        let told = told.lock().unwrap();
        assert!(told.contains("q__settlement_0"), "{call}: {told}");
        assert!(!told.contains("Materialize"), "{call}: {told}");
    }
    // The last of these, at every lease of a queue with limits, knows which are open.
    let told = told.lock().unwrap().clone();
    assert!(!told.contains("Hash Join") && !told.contains("Merge Join"), "{told}");
    hand.end(false).await;
}

/// However many lanes wait for their limits, and however much has been leased before.
#[tokio::test]
async fn a_look_at_many_lanes_probes_indexes() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", ", p_keyed_lanes => 4").await;
    let handler = deploy(&client, "q", "default").await;
    let hand = SqlHost::new(&db, "q", handler).await;
    let session = hand.session;
    let fill = format!(
        "INSERT INTO queue.q (payload, key) SELECT '1', g % 100 FROM generate_series(1, 20000) g;
         INSERT INTO host.q__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id, row_count,
             leaves, is_cursor, more, token, hi, txids, lane)
         SELECT g, 0, 0, 0, 0, {handler}, {session}, 1, 1, true, false, gen_random_uuid(), '1:1:', '{{}}', g % 4
         FROM generate_series(1, 20000) g;
         INSERT INTO host.q__settlement (lease_id, seq, rest, settled)
         SELECT id, 0, 0, '{{[0,1)}}' FROM host.q__lease WHERE row_count > 0;
         SELECT host.set_limits('q', 10, NULL, NULL, NULL)"
    );
    client.batch_execute(&fill).await.unwrap();
    let (client, told) = explained(&db).await;
    // Where the limits are new, where there is room, and where there is none.
    for seq in [30_001, 30_011, 30_021] {
        told.lock().unwrap().clear();
        let look = format!(
            "SELECT host.q__lease_lanes({handler}, {session}, {seq}, gen_random_uuid(), 20, 1000000, 0, 4, 5)"
        );
        client.batch_execute(&look).await.unwrap();
        let told = told.lock().unwrap();
        assert!(told.contains("q__message_0_lane_txid_id_idx"), "{told}");
        for costly in
            ["Materialize", "Hash Join", "Merge Join", "Seq Scan on q__", "Bitmap", "Sort  (cost"]
        {
            assert!(!told.contains(costly), "{costly}: {told}");
        }
    }
    hand.end(false).await;
}
