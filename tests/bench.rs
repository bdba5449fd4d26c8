//! `host bench`: each shape measures something, accounts for every message, and leaves nothing behind. How
//! fast it was is nobody's business here.

use serde_json::Value;

use crate::harness::hand::value;
use crate::harness::process::Finished;
use crate::harness::{TestDb, wait_until};

/// What every report has, whatever it is null.
const FIELDS: [&str; 15] = [
    "shape",
    "messages",
    "seconds",
    "messages_per_second",
    "lost",
    "duplicated",
    "updates",
    "deletes",
    "dead_tuples",
    "wal_bytes_per_message",
    "commits_per_message",
    "p50_ms",
    "p99_ms",
    "host_peak_rss_bytes",
    "host_cpu_seconds",
];

async fn bench(db: &TestDb, args: &str) -> Finished {
    let args: Vec<&str> = ["bench"].into_iter().chain(args.split(' ')).collect();
    db.host(&[args.as_slice(), &["--json"]].concat()).await
}

/// Runs it, and checks what is the same for all: nothing lost, nothing doubled, nothing left.
async fn report(db: &TestDb, args: &str) -> Value {
    let text = bench(db, args).await.ok();
    let report: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    for field in FIELDS {
        assert!(report.get(field).is_some(), "no {field} in {report}");
    }
    for field in ["lost", "duplicated", "updates", "deletes", "dead_tuples"] {
        assert_eq!(report[field], 0, "{field} in {report}");
    }
    assert_eq!(report["committed"], report["delivered"], "{report}");
    assert_eq!(report["complaints"], Value::Array(Vec::new()), "{report}");
    assert_clean(db).await;
    report
}

/// No queue, no table, no function and no host of a benchmark is there.
async fn assert_clean(db: &TestDb) {
    let client = db.client().await;
    let left = "SELECT (SELECT count(*) FROM pg_class WHERE relname ~ 'bench_')
         + (SELECT count(*) FROM pg_proc WHERE proname ~ '^bench_')
         + (SELECT count(*) FROM host.queue) + (SELECT count(*) FROM host.sessions())";
    assert_eq!(value::<i64>(&client, left).await, 0);
}

#[track_caller]
fn positive(report: &Value, fields: &[&str]) {
    for field in fields {
        assert!(report[field].as_f64().is_some_and(|n| n > 0.0), "{field} in {report}");
    }
}

#[tokio::test]
async fn drain_works_off_what_it_was_told_to() {
    let db = TestDb::new().await;
    let report = report(&db, "drain --messages 20000 --hosts 2 --isolation batch").await;
    assert_eq!(report["shape"], "drain");
    assert_eq!(report["messages"], 20_000);
    positive(&report, &["seconds", "messages_per_second", "wal_bytes_per_message"]);
    positive(&report, &["commits_per_message", "messages_per_lease", "disk_bytes_max"]);
    if cfg!(target_os = "linux") {
        positive(&report, &["host_peak_rss_bytes", "host_cpu_seconds", "postgres_cpu_seconds"]);
    }
    assert_eq!(report["p50_ms"], Value::Null);
}

#[tokio::test]
async fn steady_gives_the_rate_of_each_interval_with_everything_in_the_way() {
    let db = TestDb::new().await;
    let holds = "--hold snapshot --hold xid --hold lock --hold handler";
    let report = report(&db, &format!("steady --seconds 3 --batch 10 --rate 2000 {holds}")).await;
    assert_eq!(report["rates"].as_array().map(Vec::len), Some(3), "{report}");
    assert_eq!(report["holds"], serde_json::json!(["snapshot", "xid", "lock", "handler"]));
    positive(&report, &["messages", "first_rate", "last_rate", "last_to_first"]);
}

#[tokio::test]
async fn latency_times_every_message() {
    let db = TestDb::new().await;
    let report = report(&db, "latency --seconds 2 --rate 100").await;
    assert_eq!(report["messages"], 200);
    positive(&report, &["p50_ms", "p99_ms", "p999_ms", "max_ms", "enqueue_p50_ms"]);
}

#[tokio::test]
async fn where_others_work_it_does_not() {
    let db = TestDb::new().await;
    let host = db.serve(&[]);
    let client = db.client().await;
    wait_until("a host is there", async || {
        value::<i64>(&client, "SELECT count(*) FROM host.sessions() WHERE connected").await == 1
    })
    .await;
    let text = bench(&db, "drain --messages 10").await.error(1);
    assert!(text.starts_with("1 hosts run here: "), "{text}");
    assert!(host.terminate().await.success());
}
