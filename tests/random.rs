//! Random schedules: whatever producers, hosts and rotation do at the same time, every committed
//! message comes once and no other does.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use tokio_postgres::Client;

use crate::harness::sql_host::{ROTATES_ALWAYS, assert_only_inserted, create_queue, deploy, value};
use crate::harness::{SqlHost, TestDb, plugin, seed, wait_until};

const MESSAGES: i64 = 100_000;
const PRODUCERS: i64 = 6;

/// Holds a transaction open for a random time, mostly a short one.
async fn linger(rng: &mut Rng) {
    let millis = match rng.u8(..100) {
        0..60 => return,
        60..97 => rng.u64(1..20),
        _ => rng.u64(100..500),
    };
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Commits its share of messages, in transactions of every kind, and with that priority. Returns
/// the numbers that it committed.
async fn produce(client: Client, number: i64, priority: &str, mut rng: Rng) -> Vec<i64> {
    let mut next = number * 1_000_000_000;
    let mut committed = Vec::new();
    let run = async |sql: &str| client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{e:?}"));
    let insert = async |range: Range<i64>| {
        run(&format!(
            "INSERT INTO queue.q (payload, priority) SELECT to_jsonb(g), {priority}
             FROM generate_series({}::bigint, {}::bigint) g",
            range.start,
            range.end - 1
        ))
        .await;
    };
    for transaction in 0.. {
        if committed.len() as i64 > MESSAGES / PRODUCERS {
            break;
        }
        let mut inserted = Vec::new();
        run("BEGIN").await;
        for _ in 0..rng.u8(1..5) {
            let many = if rng.u8(..50) == 0 { 3_000 } else { 40 };
            let range = next..next + rng.i64(1..many);
            next = range.end;
            match rng.u8(..10) {
                0 => {
                    run("SAVEPOINT s").await;
                    insert(range).await;
                    linger(&mut rng).await;
                    run("ROLLBACK TO s").await;
                }
                1..4 => {
                    run("SAVEPOINT s").await;
                    insert(range.clone()).await;
                    linger(&mut rng).await;
                    run("RELEASE s").await;
                    inserted.extend(range);
                }
                _ => {
                    insert(range.clone()).await;
                    inserted.extend(range);
                }
            }
            linger(&mut rng).await;
        }
        let kept = rng.u8(..100) >= 15;
        let end = if kept { "COMMIT" } else { "ROLLBACK" };
        if rng.u8(..20) == 0 {
            let name = format!("{number}-{transaction}");
            run(&format!("PREPARE TRANSACTION '{name}'")).await;
            linger(&mut rng).await;
            run(&format!("{end} PREPARED '{name}'")).await;
        } else {
            run(end).await;
        }
        if kept {
            committed.append(&mut inserted);
        }
    }
    committed
}

/// Leases, reads and settles in random portions until nothing is left in any lane. Returns what it
/// was given.
async fn consume(mut hand: SqlHost, lanes: i32, done: &AtomicBool, mut rng: Rng) -> Vec<i64> {
    let mut delivered = Vec::new();
    let mut empty_lanes = 0;
    loop {
        // Looked at before the lease: what was committed by then, the lease finds.
        let last = done.load(Ordering::SeqCst);
        hand.lane = (hand.lane + 1) % lanes;
        let Some(held) = hand.lease(rng.i32(1..700)).await else {
            empty_lanes = if last { empty_lanes + 1 } else { 0 };
            if empty_lanes == lanes {
                return delivered;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        empty_lanes = 0;
        delivered.extend(hand.payloads(&held).await);
        linger(&mut rng).await;
        let mut from = 0;
        for seq in 0.. {
            let to = if rng.u8(..3) > 0 { held.count } else { rng.i32(from..held.count) + 1 };
            assert!(hand.settle(&held, seq, &format!("{{[{from},{to})}}"), "").await.unwrap());
            from = to;
            if from == held.count {
                break;
            }
        }
    }
}

/// Truncates and advances all the time, until told to stop. Returns how often it truncated.
async fn rotate(hand: SqlHost, done: &AtomicBool) -> i32 {
    let mut truncated = 0;
    while !done.load(Ordering::SeqCst) {
        for leaf in 0..3 {
            let in_use: bool =
                hand.query("SELECT host.{q}__leaf_bytes($1) > 0", &[&leaf]).await.unwrap().get(0);
            truncated += i32::from(in_use && hand.truncate(leaf).await.is_none());
        }
        // In the way of a lease for too long: next time.
        let _ = hand.query("SELECT host.{q}__advance()", &[]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    truncated
}

/// What is in one and not in the other, with how often it is there.
fn assert_each_once(delivered: &[i64], committed: &[i64]) {
    let mut times: HashMap<i64, i32> = HashMap::new();
    for message in delivered {
        *times.entry(*message).or_default() += 1;
    }
    let twice = times.values().filter(|n| **n > 1).count();
    let lost: Vec<_> = committed.iter().filter(|m| times.remove(m).is_none()).take(10).collect();
    assert!(lost.is_empty(), "lost: {lost:?} …");
    assert_eq!(twice, 0, "delivered twice");
    assert!(times.is_empty(), "{} were delivered that were never committed", times.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_committed_message_is_delivered_once_while_leaves_come_and_go() {
    delivered_once("", 1, "NULL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_is_on_a_queue_with_priorities() {
    delivered_once(", p_priorities => true", 3, "g % 3 + 1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_is_on_a_queue_that_keeps_order() {
    delivered_once(", p_ordered_lanes => 4", 4, "NULL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_is_on_a_queue_with_limits_per_key() {
    delivered_once(", p_keyed_lanes => 4", 4, "NULL").await;
}

async fn delivered_once(settings: &str, lanes: i32, priority: &str) {
    let mut rng = Rng::with_seed(seed());
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", &format!("{ROTATES_ALWAYS}{settings}")).await;
    let handler = deploy(&client, "q", "default").await;
    drop(client);

    let produced = AtomicBool::new(false);
    let consumed = AtomicBool::new(false);
    let mut consumers = Vec::new();
    for _ in 0..2 {
        let hand = SqlHost::new(&db, "q", handler).await;
        consumers.push((hand.beside(&db).await, rng.fork()));
        consumers.push((hand, rng.fork()));
    }
    let rotator = SqlHost::new(&db, "q", handler).await;
    let mut producers = Vec::new();
    for number in 0..PRODUCERS {
        producers.push(produce(db.client().await, number, priority, rng.fork()));
    }

    let producing = async {
        let committed = join_all(producers).await;
        produced.store(true, Ordering::SeqCst);
        committed.concat()
    };
    let consuming = async {
        let each = consumers.into_iter().map(|(hand, rng)| consume(hand, lanes, &produced, rng));
        let delivered = join_all(each).await;
        consumed.store(true, Ordering::SeqCst);
        delivered.concat()
    };
    let (committed, delivered, truncated) =
        futures_util::join!(producing, consuming, rotate(rotator, &consumed));
    eprintln!("{} committed, {truncated} leaves truncated meanwhile", committed.len());
    assert!(committed.len() as i64 >= MESSAGES);
    assert!(truncated >= 10, "only {truncated} leaves were truncated");
    assert_each_once(&delivered, &committed);
    assert_only_inserted(&db).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_settle_every_committed_message_once() {
    let mut rng = Rng::with_seed(seed());
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", ROTATES_ALWAYS).await;
    // The settlements go with their leaves, so the test keeps its own account of them.
    client
        .batch_execute(
            "CREATE TABLE public.settled (number bigint);
             CREATE FUNCTION public.account() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO public.settled SELECT m.payload::bigint
                    FROM host.q__lease l CROSS JOIN host.q__read(l.session_id, l.seq) m
                    WHERE l.id = NEW.lease_id AND NEW.settled @> m.pos;
                RETURN NULL;
             END $$;
             CREATE TRIGGER account AFTER INSERT ON host.q__settlement
                FOR EACH ROW EXECUTE FUNCTION public.account()",
        )
        .await
        .unwrap();
    let wasm = plugin("echo");
    db.host(&["deploy", "--queue", "q", wasm.to_str().unwrap(), "--no-wait"]).await.ok();
    let hosts = [db.serve(&[]), db.serve(&[])];

    let mut producers = Vec::new();
    for number in 0..PRODUCERS {
        producers.push(produce(db.client().await, number, "NULL", rng.fork()));
    }
    let committed = join_all(producers).await.concat();
    wait_until("everything is settled", async || {
        let settled: i64 = value(&client, "SELECT count(*) FROM public.settled").await;
        settled >= committed.len() as i64
    })
    .await;
    for host in hosts {
        assert!(host.terminate().await.success());
    }
    let generation: i64 =
        value(&client, "SELECT last_value / 100000000000 FROM queue.q_id_seq").await;
    assert!(generation > 2, "only {generation} rotations");
    let rows = client.query("SELECT number FROM public.settled", &[]).await.unwrap();
    let settled: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert_each_once(&settled, &committed);
    drop(client);
    assert_only_inserted(&db).await;
}
