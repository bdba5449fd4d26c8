//! What a host keeps in memory when calls have ended, whatever its guests did: the bound that
//! ARCHITECTURE states.

use serde_json::json;

use crate::harness::process::Serve;
use crate::harness::{Deployment, Scene, TestDb, wait_until};

const MIB: u64 = 1 << 20;

/// What may wait to be given back, beside what the host has anyway.
fn waiting_max() -> u64 {
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    // Two kinds of threads run guests, and the one of what is rationed.
    let threads = 2 * processors + 1;
    // The guests of this test are all in one engine.
    processors.min(16) * 126 * MIB + threads * 16 * MIB
}

/// What the host itself and its allocator may take more than before it ran anything.
const HOST_BYTES_MAX: u64 = 64 * MIB;

async fn scene() -> Scene {
    let scene = Scene::of(TestDb::new().await).await;
    scene.queue("work", "p_max_attempts => 1").await;
    scene
}

fn hoarder(isolation: &'static str, concurrency: i32) -> Deployment {
    Deployment { isolation, concurrency, memory_bytes: 512 << 20, ..Deployment::default() }
}

/// Has `n` messages take so much memory each, and end.
async fn hoard(scene: &Scene, queue: &str, n: i64, bytes: u64) {
    let command = json!({"do": "hoard", "n": bytes, "ms": 0});
    let insert = format!(
        "INSERT INTO queue.{queue} (payload) SELECT $1 FROM generate_series(1, $2::bigint)"
    );
    scene.client.execute(&insert, &[&command, &n]).await.expect("enqueue");
    scene.wait_done(queue).await;
    let dead = format!("SELECT count(*) FROM host.{queue}__dead_letter");
    assert_eq!(scene.number(&dead).await, 0, "{bytes} bytes");
}

/// A host that has run a message, and what it has in memory then.
async fn started(scene: &Scene, queue: &str) -> (Serve, u64) {
    let host = scene.serve("host", &[]);
    hoard(scene, queue, 1, 1).await;
    let bytes = host.memory_bytes();
    (host, bytes)
}

/// A sandbox ends a moment after its message is settled.
async fn wait_small(host: &Serve, bytes_max: u64, what: &str) {
    wait_until(&format!("the host has at most {bytes_max} bytes after {what}"), async || {
        host.memory_bytes() <= bytes_max
    })
    .await;
}

#[tokio::test]
async fn memory_of_sandboxes_goes_back_when_calls_end() {
    let scene = scene().await;
    scene.deploy("work", "misbehave", hoarder("message", 4)).await;
    let (host, before) = started(&scene, "work").await;
    let bytes_max = before + waiting_max() + HOST_BYTES_MAX;
    // Few that are big, many of middle size, ordinary ones, and all of them in turn.
    for (n, bytes) in [(16, 200_000_000), (60, 20_000_000), (200, 3_000_000), (400, 600_000)] {
        hoard(&scene, "work", n, bytes).await;
        wait_small(&host, bytes_max, &format!("{n} of {bytes} bytes")).await;
    }
    for bytes in [100_000_000, 1_000, 10_000_000, 1_500_000].repeat(3) {
        hoard(&scene, "work", 2, bytes).await;
    }
    wait_small(&host, bytes_max, "all sizes").await;
    assert!(host.terminate().await.success());
}

#[tokio::test]
async fn memory_goes_back_whichever_handler_had_it() {
    let scene = Scene::of(TestDb::new().await).await;
    let queues: Vec<String> = (0..24).map(|n| format!("q{n}")).collect();
    for queue in &queues {
        scene.queue(queue, "p_max_attempts => 1").await;
        scene.deploy(queue, "misbehave", hoarder("message", 4)).await;
    }
    let (host, before) = started(&scene, "q0").await;
    for queue in &queues {
        hoard(&scene, queue, 2, 100_000_000).await;
    }
    wait_small(&host, before + waiting_max() + HOST_BYTES_MAX, "24 handlers").await;
    assert!(host.terminate().await.success());
}

/// What is kept for the next messages is bounded as well, over all handlers.
#[tokio::test]
async fn sandboxes_that_stay_warm_have_little_memory() {
    const WARM_BYTES_MAX: u64 = 256 * MIB;
    let scene = scene().await;
    scene.deploy("work", "misbehave", hoarder("batch", 16)).await;
    let (host, before) = started(&scene, "work").await;
    let command = json!({"do": "hoard", "n": 100_000_000, "ms": 2_000});
    let insert = "INSERT INTO queue.work (payload) SELECT $1 FROM generate_series(1, 16)";
    scene.client.execute(insert, &[&command]).await.expect("enqueue");
    wait_until("they have much at once", async || {
        host.memory_bytes() > before + 2 * (WARM_BYTES_MAX + waiting_max())
    })
    .await;
    scene.wait_done("work").await;
    let bytes_max = before + WARM_BYTES_MAX + waiting_max() + HOST_BYTES_MAX;
    wait_small(&host, bytes_max, "16 at once").await;
    assert!(host.terminate().await.success());
}
