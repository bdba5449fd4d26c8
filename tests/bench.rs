//! `host bench`: each shape measures something, accounts for every message, and leaves nothing
//! behind. How fast it was is nobody's business here.

use host_queue::constants::ROTATION_LOCK;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::process::{Finished, Serve, host_command};
use crate::harness::sql_host::value;
use crate::harness::{TestDb, wait_until};

/// What every report has, whatever it is null.
const FIELDS: [&str; 15] = [
    "workload",
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

/// Starts it, and waits until one of its transactions is in the way.
async fn begin_steady_beside_a_held_snapshot(db: &TestDb) -> (Serve, i32) {
    let mut command = host_command(&["bench", "steady", "--seconds", "600", "--rate", "500"]);
    command.args(["--hold", "snapshot"]).env("DATABASE_URL", &db.url);
    let bench = Serve::spawn(command);
    let client = db.client().await;
    let holder = "SELECT max(pid) FROM pg_stat_activity WHERE datname = current_database()
        AND state = 'idle in transaction' AND query ~ 'pg_current_snapshot'";
    let mut pid = None;
    wait_until("a snapshot is held", async || {
        pid = value::<Option<i32>>(&client, holder).await;
        pid.is_some()
    })
    .await;
    (bench, pid.expect("a backend"))
}

/// Has a trigger tamper with the third settlement of whatever benchmark runs next.
async fn tamper(db: &TestDb, when: &str, how: &str) {
    let sql = format!(
        "CREATE SEQUENCE public.settlements;
         CREATE FUNCTION public.tamper() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF nextval('public.settlements') = 3 THEN {how} END IF;
             RETURN NEW;
         END $$;
         CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$
         DECLARE made text;
         BEGIN
             SELECT regexp_replace(object_identity, '__account$', '__settlement') INTO made
                 FROM pg_event_trigger_ddl_commands() WHERE object_identity ~ '__account$';
             IF made IS NOT NULL THEN
                 EXECUTE 'CREATE TRIGGER tamper {when} INSERT ON ' || made
                     || ' FOR EACH ROW EXECUTE FUNCTION public.tamper()';
             END IF;
         END $$;
         CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
             EXECUTE FUNCTION public.watch()"
    );
    db.client().await.batch_execute(&sql).await.expect("tamper");
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
    let report = report(&db, "drain --messages 20000 --hosts 2 --isolation batch --baseline").await;
    assert_eq!(report["workload"], "drain");
    assert_eq!(report["messages"], 20_000);
    positive(&report, &["seconds", "messages_per_second", "wal_bytes_per_message"]);
    positive(&report, &["commits_per_message", "messages_per_lease", "disk_bytes_max"]);
    positive(&report, &["copy_in_per_second", "read_out_per_second", "share_of_read_out"]);
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
    assert_eq!(report["interference"], serde_json::json!(["snapshot", "xid", "lock", "handler"]));
    positive(&report, &["messages", "first_rate", "last_rate", "last_to_first"]);
}

#[tokio::test]
async fn a_run_can_begin_in_any_state() {
    let db = TestDb::new().await;
    let state = "--waiting 300 --leased 2500 --settled 200 --scheduled 100";
    let report = report(&db, &format!("steady --seconds 2 --batch 10 --rate 500 {state}")).await;
    let before = ["waiting_before", "leased_before", "settled_before", "scheduled_before"];
    assert_eq!(before.map(|field| report[field].as_u64()), [300, 2500, 200, 100].map(Some));
    // The counters include the messages that waited.
    assert_eq!(report["wal_bytes_per_message"], Value::Null);
}

#[tokio::test]
async fn latency_times_every_message() {
    let db = TestDb::new().await;
    let report = report(&db, "latency --seconds 2 --rate 100").await;
    assert_eq!(report["messages"], 200);
    positive(&report, &["p50_ms", "p99_ms", "p999_ms", "max_ms", "due_to_start_p50_ms"]);
}

#[tokio::test]
async fn latency_of_messages_that_were_put_off_is_timed_from_when_they_were_due() {
    let db = TestDb::new().await;
    let report = report(&db, "latency --seconds 2 --rate 100 --delay 2").await;
    assert_eq!(report["messages"], 200);
    positive(&report, &["p50_ms", "p99_ms"]);
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
    assert!(text.starts_with("1 host running here: "), "{text}");
    assert!(host.terminate().await.success());
}

#[tokio::test]
async fn what_should_be_in_the_way_is_there_for_all_of_the_run() {
    let db = TestDb::new().await;
    let (bench, holder) = begin_steady_beside_a_held_snapshot(&db).await;
    let client = db.client().await;
    assert!(value::<bool>(&client, &format!("SELECT pg_terminate_backend({holder})")).await);
    bench.wait_for_log("`--hold snapshot` ended before the run did").await;
    assert_eq!(bench.wait().await.code(), Some(1));
    assert_clean(&db).await;
}

#[tokio::test]
async fn an_interrupted_run_leaves_nothing_behind() {
    let db = TestDb::new().await;
    let (bench, _) = begin_steady_beside_a_held_snapshot(&db).await;
    bench.signal(Signal::SIGINT);
    bench.wait_for_log("interrupted; the benchmark's queue is removed").await;
    assert_eq!(bench.wait().await.code(), Some(1));
    assert_clean(&db).await;
}

#[tokio::test]
async fn a_lost_message_fails_the_run() {
    let db = TestDb::new().await;
    let first = "NEW.settled := NEW.settled
        - int4multirange(int4range(lower(NEW.settled), lower(NEW.settled) + 1));";
    tamper(&db, "BEFORE", first).await;
    let finished = bench(&db, "drain --messages 5000").await;
    let report: Value = serde_json::from_str(finished.stdout.trim()).expect("JSON");
    assert_eq!((&report["lost"], &report["duplicated"]), (&1.into(), &0.into()), "{report}");
    assert_eq!(finished.error(1), "1 message lost, 0 doubled (at least), of 10000");
}

#[tokio::test]
async fn a_doubled_message_fails_the_run() {
    let db = TestDb::new().await;
    let again = "EXECUTE format('INSERT INTO host.%I (lease_id, seq, rest, settled)
        VALUES ($1, -1, 0, ''{[0,1)}'')', TG_TABLE_NAME) USING NEW.lease_id;";
    tamper(&db, "AFTER", again).await;
    let finished = bench(&db, "drain --messages 5000").await;
    let report: Value = serde_json::from_str(finished.stdout.trim()).expect("JSON");
    assert_eq!((&report["lost"], &report["duplicated"]), (&0.into(), &1.into()), "{report}");
    assert_eq!(finished.error(1), "0 messages lost, 1 doubled (at least), of 10000");
}

/// Rotation accounts for what it truncates, with this lock, while the benchmark accounts for what
/// is settled.
#[tokio::test]
async fn the_benchmark_and_rotation_do_not_account_for_the_same_lease() {
    let db = TestDb::new().await;
    let (client, mut rotation) = (db.client().await, db.client().await);
    let rotate = async {
        let queue = "SELECT max(id), coalesce(max(name), '') FROM host.queue";
        let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted
            AND locktype IN ('advisory', 'transactionid'))";
        let mut waited = 0;
        while waited < 3 {
            let found = client.query_one(queue, &[]).await.expect("a row");
            let (Some(id), name) = (found.get::<_, Option<i32>>(0), found.get::<_, &str>(1)) else {
                tokio::task::yield_now().await;
                continue;
            };
            let audit = format!(
                "SELECT pg_advisory_xact_lock({ROTATION_LOCK}, {id});
                 SELECT host.{name}__audit(NULL, 0, p.lease) FROM host.{name}__progress(0) p"
            );
            let transaction = rotation.transaction().await.expect("a transaction");
            // The queue is only about to be made, else.
            if transaction.batch_execute(&audit).await.is_ok() {
                let before = "SELECT count(*) FROM host.{q}__account".replace("{q}", name);
                if transaction.query_one(&before, &[]).await.expect("a row").get::<_, i64>(0) > 0 {
                    wait_until("the benchmark waits", async || value(&client, waits).await).await;
                    waited += 1;
                }
                transaction.commit().await.expect("the account");
            }
        }
    };
    let run = report(&db, "steady --seconds 8 --batch 1 --rate 200");
    tokio::join!(run, rotate);
}

#[tokio::test]
async fn a_run_starts_in_the_state_that_was_asked_for() {
    let db = TestDb::new().await;
    let state = "--waiting 3000 --settled 1000 --scheduled 500 --no-wake-up";
    let args = format!("steady --seconds 1 --rate 1000 {state} --synchronous-commit off");
    let report = report(&db, &args).await;
    for (field, count) in [("waiting", 3_000), ("settled", 1_000), ("scheduled", 500)] {
        assert_eq!(report[format!("{field}_before")], count, "{report}");
    }
    assert_eq!((&report["wake_up"], &report["synchronous_commit"]), (&false.into(), &false.into()));
    // 5,000 warm up; what is on the schedule is not delivered.
    assert!(report["committed"].as_u64() > Some(9_000), "{report}");
}

#[tokio::test]
async fn enqueue_gives_ratios_to_a_bare_table() {
    let db = TestDb::new().await;
    let report = report(&db, "enqueue --seconds 1 --isolation batch").await;
    let rates = report["enqueue"].as_array().expect("rates");
    assert_eq!(rates.len(), 9, "{report}");
    for rates in rates {
        positive(rates, &["bare_per_second", "queue_per_second", "share_of_bare"]);
        positive(rates, &["queue_without_wake_up_per_second", "share_of_without_wake_up"]);
    }
    assert_eq!(report["wal_bytes_per_message"], Value::Null);
}

#[tokio::test]
async fn a_baseline_needs_neither_host_nor_message() {
    let db = TestDb::new().await;
    let text = bench(&db, "baseline --messages 20000").await.ok();
    let report: Value = serde_json::from_str(text.trim()).expect("JSON");
    positive(&report, &["copy_in_per_second", "read_out_per_second", "bare_wal_bytes_per_message"]);
    assert_eq!((&report["messages"], &report["committed"]), (&20_000.into(), &0.into()));
    for field in FIELDS {
        assert!(report.get(field).is_some(), "no {field} in {report}");
    }
    assert_clean(&db).await;
}

#[tokio::test]
async fn map_runs_each_pair_and_draws_them() {
    let db = TestDb::new().await;
    let dir = tempfile::tempdir().expect("a directory");
    let svg = dir.path().join("sweep.svg").display().to_string();
    let axes = "--axis batch=10,100 --axis payload=45 --rate 1000";
    let report = report(&db, &format!("sweep --seconds 1 {axes} --svg {svg}")).await;
    let rates = report["sweep"]["messages_per_second"].as_array().expect("rates");
    assert_eq!(rates.len(), 1, "{report}");
    assert!(rates[0].as_array().is_some_and(|r| r.len() == 2 && r[0].as_f64() > Some(0.0)));
    let drawing = std::fs::read_to_string(svg).expect("a drawing");
    assert!(drawing.starts_with("<svg") && drawing.contains("batch"), "{drawing}");
}
