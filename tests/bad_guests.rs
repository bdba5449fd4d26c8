//! Hundreds of bad guests at once beside a good queue: they neither stop it, nor fill the host's
//! memory, nor take the processors that it needs.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::server::scratch_dir;
use crate::harness::{Deployment, Scene, TestDb, wait_until};

/// As many sandboxes as a host can be expected to have, that do nothing but harm.
const THOUSAND: i64 = 1_000;
/// Enough of them for each run of the tests.
const SOME: i64 = 200;
/// What the threads of calls that are long or fail are called, as the system shows it.
const LOW_THREADS: &str = "(long-calls) ";
/// How it schedules them: only where no other wants to run. See sched(7).
const SCHED_IDLE: i64 = 5;

/// A queue whose handler is good.
async fn scene() -> Scene {
    let scene = Scene::of(TestDb::new().await).await;
    scene.queue("good", "").await;
    scene.queue("sink", "p_payload_type => 'text'").await;
    scene.deploy("good", "misbehave", Deployment::default()).await;
    scene
}

/// Adds one whose handler may have so many sandboxes, small ones.
async fn add_bad(scene: &Scene, bad: i64, cpu_ms: i64) {
    scene.queue("work", "p_max_attempts => 1").await;
    let how = Deployment {
        concurrency: bad as i32,
        memory_bytes: 2 << 20,
        cpu_ms,
        log_bytes: 1_000,
        ..Deployment::default()
    };
    scene.deploy("work", "misbehave", how).await;
}

async fn enqueue(scene: &Scene, command: &Value, n: i64) {
    let insert = "INSERT INTO queue.work (payload) SELECT $1 FROM generate_series(1, $2::bigint)";
    scene.client.execute(insert, &[command, &n]).await.expect("enqueue");
}

async fn wait_in_flight(scene: &Scene, n: i64) {
    wait_until("so many are in flight", async || scene.in_flight("work").await >= n).await;
}

fn hoard() -> Value {
    json!({"do": "hoard", "n": 500_000, "ms": 3_600_000})
}

/// The most memory that a process has had, in bytes.
fn memory_peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Scheduling policy and time on a processor, in the system's ticks, of each thread of low
/// priority.
fn low_threads(pid: u32) -> Vec<(i64, i64)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let stats = threads.filter_map(|t| fs::read_to_string(t.ok()?.path().join("stat")).ok());
    let of = |stat: String| {
        let (_, rest) = stat.split_once(LOW_THREADS)?;
        // From the third on, see proc(5).
        let fields: Vec<i64> = rest.split(' ').map(|f| f.parse().unwrap_or_default()).collect();
        Some((fields[38], fields[11] + fields[12]))
    };
    stats.filter_map(of).collect()
}

/// Room for them and for the good queue.
fn concurrency(bad: i64) -> String {
    (bad + 100).to_string()
}

#[tokio::test]
async fn bad_guests_neither_stop_a_good_queue_nor_fill_the_memory() {
    contain(SOME, 500).await;
}

/// By hand: `cargo test --release -- --ignored a_thousand_bad_guests`.
#[tokio::test]
#[ignore = "takes long where others need the processors"]
async fn a_thousand_bad_guests_neither_stop_a_good_queue_nor_fill_the_memory() {
    contain(THOUSAND, 2_000).await;
}

/// Of `bad` guests three fifths keep their memory for as long as this takes, and the others attack
/// in each way.
async fn contain(bad: i64, good: i64) {
    let hoarders = bad * 3 / 5;
    let scene = scene().await;
    add_bad(&scene, bad, 50).await;
    let host = scene.serve("host", &["--concurrency", &concurrency(bad)]);
    let session = scene.session("host").await;
    enqueue(&scene, &hoard(), hoarders).await;
    wait_in_flight(&scene, hoarders).await;
    let attacks = [
        json!({"do": "loop"}),
        json!({"do": "allocate"}),
        json!({"do": "stack"}),
        json!({"do": "trap"}),
        json!({"do": "leak", "n": 1_000_000}),
        json!({"do": "alias", "n": 50_000}),
        json!({"do": "random", "n": 1_000_000}),
        json!({"do": "log"}),
    ];
    let of_each = (bad - hoarders) / attacks.len() as i64;
    for attack in &attacks {
        enqueue(&scene, attack, of_each).await;
    }
    let numbers = "INSERT INTO queue.good (payload)
         SELECT jsonb_build_object('do', 'enqueue', 'n', 1, 'queue', 'sink', 'text', i::text)
         FROM generate_series(1, $1::bigint) i";
    scene.client.execute(numbers, &[&good]).await.expect("enqueue");
    scene.wait_done("good").await;
    let dead = "SELECT count(*) FROM host.work__dead_letter";
    scene.wait_number(dead, of_each * attacks.len() as i64).await;

    let once =
        "SELECT count(*) FROM (SELECT FROM queue.sink GROUP BY payload HAVING count(*) = 1) x";
    assert_eq!(scene.number(once).await, good);
    assert_eq!(scene.in_flight("work").await, hoarders, "the hoarders are where they were");
    assert_eq!(scene.session("host").await, session);
    let bound = (bad as u64 * (2 << 20)) + (512 << 20);
    assert!(memory_peak(host.pid()) < bound, "{} of {bound}", memory_peak(host.pid()));
    // Those that burned what they had did so on what the others left.
    let threads = low_threads(host.pid());
    assert!(
        !threads.is_empty() && threads.iter().all(|(policy, _)| *policy == SCHED_IDLE),
        "{threads:?}"
    );
    assert!(threads.iter().map(|(_, ticks)| ticks).sum::<i64>() > 0, "{threads:?}");
}

/// How much slower a good queue is beside bad guests, by `TURNS` with and without them: each rate
/// with them as a share of the mean of those just before and just after, without. Prints it; to be
/// run by hand on a machine that does nothing else: `TURNS=15 cargo test --release -- --ignored
/// rate_beside_bad_guests --nocapture`, of one case with `CASE=logs`.
#[tokio::test]
#[ignore = "measures, and asserts nothing"]
async fn rate_beside_bad_guests() {
    let turns = std::env::var("TURNS").map_or(5, |turns| turns.parse().expect("TURNS: a number"));
    let cases = [
        ("that loop for 20 ms", json!({"do": "loop"}), 20),
        ("that loop for 10 s", json!({"do": "loop"}), 10_000),
        ("that trap", json!({"do": "trap"}), 20),
        ("that allocate", json!({"do": "allocate"}), 20),
        ("that write logs", json!({"do": "log"}), 20),
        ("that wait with memory", hoard(), 20),
    ];
    let case = std::env::var("CASE").unwrap_or_default();
    for (what, command, cpu_ms) in cases.into_iter().filter(|(what, ..)| what.contains(&case)) {
        let scene = scene().await;
        let log = File::create(scratch_dir().join("log")).expect("a file");
        let _host = scene.serve_into("host", &["--concurrency", &concurrency(THOUSAND)], log);
        rate(&scene).await;
        let (mut utmost, mut half) = (Vec::new(), Vec::new());
        let mut alone = rate(&scene).await;
        for _ in 0..turns {
            add_bad(&scene, THOUSAND, cpu_ms).await;
            enqueue(&scene, &command, 100 * THOUSAND).await;
            wait_in_flight(&scene, 1).await;
            half.push(kept(&scene, alone / 2.0).await);
            let beside = rate(&scene).await;
            scene.db.host(&["queue", "drop", "work", "--force"]).await.ok();
            let before = std::mem::replace(&mut alone, rate(&scene).await);
            utmost.push(beside / f64::midpoint(before, alone));
        }
        let (utmost, half) = (spread(utmost), spread(half));
        println!(
            "beside {THOUSAND} {what}: of its utmost rate it keeps {utmost}, of half of that {half}"
        );
    }
}

/// Median, quartiles, and all of them in order.
fn spread(mut shares: Vec<f64>) -> String {
    shares.sort_by(f64::total_cmp);
    let at = |n: usize| shares[shares.len() * n / 4];
    format!("{:.2} (half of them {:.2} to {:.2}; {shares:.2?})", at(2), at(1), at(3))
}

async fn rate(scene: &Scene) -> f64 {
    const MESSAGES: i64 = 150_000;
    let done = Done::from_now(scene).await;
    let started = Instant::now();
    enqueue_good(scene, MESSAGES).await;
    done.wait(scene, MESSAGES).await;
    MESSAGES as f64 / started.elapsed().as_secs_f64()
}

/// The share that is done of a rate that comes in all the time.
async fn kept(scene: &Scene, a_second: f64) -> f64 {
    const SECONDS: f64 = 5.0;
    const A_TICK: f64 = 0.02;
    let a_tick = (a_second * A_TICK) as i64;
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(A_TICK));
    let done = Done::from_now(scene).await;
    let (started, mut messages) = (Instant::now(), 0);
    while started.elapsed().as_secs_f64() < SECONDS {
        ticks.tick().await;
        enqueue_good(scene, a_tick).await;
        messages += a_tick;
    }
    let offered = started.elapsed().as_secs_f64();
    done.wait(scene, messages).await;
    offered / started.elapsed().as_secs_f64()
}

async fn enqueue_good(scene: &Scene, n: i64) {
    let insert =
        "INSERT INTO queue.good (payload) SELECT '\"ack\"' FROM generate_series(1, $1::bigint)";
    scene.client.execute(insert, &[&n]).await.expect("enqueue");
}

/// Looks at how many messages of the good queue are done since a moment when none was to be. What
/// `wait_done` asks costs a part of a processor that such a measurement cannot spare.
struct Done {
    /// The last lease before that.
    mark: i64,
}

impl Done {
    async fn from_now(scene: &Scene) -> Self {
        scene.wait_done("good").await;
        let last = "SELECT coalesce(max(lease_id), 0) FROM host.good__settlement";
        Self { mark: scene.number(last).await }
    }

    /// Waits until so many are, or all: rotation takes those away that are.
    async fn wait(&self, scene: &Scene, n: i64) {
        let done = format!(
            "SELECT coalesce(sum(host.positions(settled)), 0)::bigint FROM host.good__settlement
             WHERE lease_id > {}",
            self.mark
        );
        let mut before = -1;
        wait_until("the good queue's messages are done", async || {
            let now = scene.number(&done).await;
            let stands = std::mem::replace(&mut before, now) == now;
            now >= n || stands && scene.unsettled("good").await == 0
        })
        .await;
    }
}
