//! Everything goes wrong at once: hosts are killed, frozen and cut off, Postgres crashes and its
//! disk is full, operators deploy and drop, and producers insert all the while. Then every message
//! is accounted for.
//!
//! A deck of faults is shuffled and played, several at a time; then peace is made, and the account
//! checked. `make soak MINUTES=20` plays one deck after the other.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::StreamExt as _;
use futures_util::future::{join, join_all};
use futures_util::stream;

use self::account::Totals;
use self::producers::Producers;
use self::world::{HOSTS, World};
use crate::harness::plugin;
use crate::harness::proxy::Proxy;
use crate::harness::seed;

mod account;
mod fault_kinds;
mod producers;
mod world;

/// Faults at once, of those that take a while.
const AT_ONCE: usize = 4;

/// Has a handler tell which it is, and which version.
async fn deploy(world: &World, handler: &str, version: u32) {
    let wasm = plugin("misbehave");
    let version = format!("version={handler}-{version}");
    let args = ["deploy", "--queue", "work", "--name", handler, "--config", &version, "--no-wait"];
    let args = [&args[..], &["--timeout", "1h", wasm.to_str().expect("a path")]].concat();
    // Without Postgres it fails, and what was before stays.
    world.operate(&args).await;
}

async fn begin() -> World {
    let world = World::new().await;
    let rotates = "p_rotate_bytes => 8192, p_rotate_age_ms => 1000";
    let retries = "p_max_attempts => 3, p_backoff_base_ms => 50, p_backoff_cap_ms => 500";
    world.run(&format!("SELECT host.create_queue('work', {rotates}, {retries})")).await;
    world.run("SELECT host.create_queue('sink', p_payload_type => 'text')").await;
    deploy(&world, "default", 0).await;
    deploy(&world, "audit", 0).await;
    world.run(account::TABLES).await;
    for place in 0..HOSTS {
        world.slot(place).await.start();
    }
    world
}

/// Plays a deck while producers insert, makes peace, and checks the account.
async fn play(world: &World, rng: &mut Rng, totals: &mut Totals) {
    let producers = Producers::default();
    let urls = [world.proxied_url(), world.url.clone(), world.url.clone()];
    let producing = join_all(urls.map(|url| producers.produce(url, rng.fork())));
    let playing = async {
        let mut pauses = rng.fork();
        let cards = stream::iter(fault_kinds::shuffled(rng)).then(|card| {
            let pause = Duration::from_millis(pauses.u64(100..2_000));
            async move {
                tokio::time::sleep(pause).await;
                card
            }
        });
        cards.for_each_concurrent(AT_ONCE, |card| card.play(world)).await;
        world.proxies.iter().for_each(Proxy::disarm);
        producers.stop.store(true, Ordering::Relaxed);
    };
    join(producing, playing).await;
    account::wait_done(world).await;

    // In peace nothing is handed on: there would be no fault to explain it.
    for _ in 0..20 {
        let client = world.connect().await.expect("peace");
        producers.insert(&client, 50, rng).await.expect("peace");
    }
    account::wait_done(world).await;
    let acknowledged = producers.acknowledged.into_inner().expect("the acknowledged");
    account::check(world, &acknowledged, totals).await;
}

/// Forgets the messages that are accounted for.
async fn forget(world: &World) {
    world.run("TRUNCATE public.sent, public.removed, public.leased, public.settled").await;
    world.operate_patiently(&["dead", "purge", "work", "--all", "--yes"], "no dead letters").await;
    world.operate_patiently(&["queue", "drop", "sink", "--force"], "no queue").await;
    world.operate_patiently(&["queue", "create", "sink", "--payload", "text"], "exists").await;
    // One that has looked in between knows no sink for a moment, and refuses what handlers put
    // there.
    for place in 0..HOSTS {
        let mut slot = world.slot(place).await;
        assert!(slot.take().terminate().await.success(), "{} ends in order", slot.name());
        slot.start();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_every_message_is_accounted_for() {
    let mut rng = Rng::with_seed(seed());
    let world = begin().await;
    let mut totals = Totals::default();
    play(&world, &mut rng, &mut totals).await;
    eprintln!("{}", totals.report());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as it is told to: make soak MINUTES=20"]
async fn soak() {
    let minutes = std::env::var("MINUTES").map_or(20, |m| m.parse().expect("MINUTES is a number"));
    let started = Instant::now();
    let mut rng = Rng::with_seed(seed());
    let world = begin().await;
    let mut totals = Totals::default();
    while started.elapsed() < Duration::from_mins(minutes) {
        play(&world, &mut rng, &mut totals).await;
        eprintln!("after {} s: {}", started.elapsed().as_secs(), totals.report());
        forget(&world).await;
    }
}
