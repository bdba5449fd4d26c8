//! A standby takes the primary's place: nothing that was acknowledged is lost, nothing is doubled,
//! and no host takes another's messages.

use std::time::Duration;

use crate::harness::postgres::OwnServer;
use crate::harness::process::{Serve, host_command};
use crate::harness::proxy::{Mode, Proxy};
use crate::harness::server::scratch_dir;
use crate::harness::sql_host::{create_queue, deploy, sqlstate};
use crate::harness::standby::Standby;
use crate::harness::{Deployment, Scene, SqlHost, wait_until};

const MESSAGES: i64 = 6_000;

/// Two servers, a queue, and hosts that are given both addresses.
struct Pair {
    primary: OwnServer,
    standby: Standby,
    /// In front of each.
    ways: [Proxy; 2],
    scene: Scene,
}

impl Pair {
    async fn new() -> Self {
        let primary = OwnServer::start(&scratch_dir(), &[]).await;
        let scene = primary.migrated().await;
        scene.queue("work", "").await;
        scene.queue("sink", "p_payload_type => 'text'").await;
        scene.deploy("work", "misbehave", Deployment::default()).await;
        let standby = Standby::of(&primary).await;
        let ways = [Proxy::to(&primary.socket()).await, Proxy::to(&standby.socket()).await];
        Self { primary, standby, ways, scene }
    }

    fn serve(&self, name: &str) -> Serve {
        let [primary, standby] = &self.ways;
        let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled");
        let mut command = host_command(&["serve", "--name", name, "--cache", cache]);
        let (a, b) = (primary.port, standby.port);
        command.env(
            "DATABASE_URL",
            format!("postgres://postgres@127.0.0.1:{a},127.0.0.1:{b}/postgres"),
        );
        Serve::spawn(command)
    }
}

async fn enqueue_numbers(scene: &Scene, from: i64, to: i64) {
    let sql = format!(
        "INSERT INTO queue.work (payload) SELECT jsonb_build_object(
             'do', 'watch', 'ms', i % 10, 'queue', 'sink', 'text', i::text)
         FROM generate_series({from}, {to}) i"
    );
    scene.run(&sql).await;
}

async fn in_sink(scene: &Scene) -> i64 {
    scene.number("SELECT count(*) FROM queue.sink").await
}

/// Hosts work on the primary, which goes in the midst of it; `lose` says how.
async fn fail_over(lose: impl AsyncFnOnce(&mut Pair)) {
    let mut pair = Pair::new().await;
    let hosts = [pair.serve("a"), pair.serve("b"), pair.serve("c")];
    pair.scene.wait_loaded("work", 1, 3).await;
    enqueue_numbers(&pair.scene, 1, MESSAGES).await;
    wait_until("they are in the midst of it", async || in_sink(&pair.scene).await > 1_000).await;
    lose(&mut pair).await;
    pair.standby.promote().await;

    let scene = pair.standby.scene().await;
    // What was acknowledged is there, done or not.
    enqueue_numbers(&scene, MESSAGES + 1, MESSAGES + 500).await;
    scene.wait_done("work").await;
    let twice = "SELECT payload FROM queue.sink GROUP BY split_part(payload, ' ', 1), payload HAVING count(*) > 1";
    assert_eq!(scene.texts(twice).await, Vec::<String>::new());
    assert_eq!(in_sink(&scene).await, MESSAGES + 500);
    assert_eq!(scene.number("SELECT count(*) FROM host.work__dead_letter").await, 0);
    // They lost their locks all at once. Nobody took that for death.
    assert_eq!(scene.number("SELECT count(*) FROM host.session").await, 3);
    assert_eq!(
        scene.number("SELECT count(*) FROM host.session WHERE ended_at IS NOT NULL").await,
        0
    );
    for host in hosts {
        assert!(host.terminate().await.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_go_on_at_the_standby_when_the_primary_has_crashed() {
    fail_over(async |pair| pair.primary.crash().await).await;
}

/// Its machine is gone: nobody is told, and who tries to connect gets no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_go_on_at_the_standby_when_the_primary_is_silent() {
    fail_over(async |pair| {
        pair.ways[0].set(Mode::Stall);
        pair.primary.crash().await;
    })
    .await;
}

/// A lease waits for nothing, so the standby may not have heard of one. Then its number is given
/// out again, to somebody else; the token tells them apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_the_standby_never_heard_of_is_worth_nothing_there() {
    let mut primary = OwnServer::start(&scratch_dir(), &[]).await;
    let scene = primary.migrated().await;
    create_queue(&scene.client, "q", "").await;
    let handler = deploy(&scene.client, "q", "default").await;
    let standby = Standby::of(&primary).await;
    let before = SqlHost::new(&scene.db, "q", handler).await;
    before.enqueue(1, 10).await;
    standby.replication.set(Mode::Stall);
    let lost = before.must_lease(10).await;
    assert_eq!(before.payloads(&lost).await.len(), 10);
    // What waits for the standby waits for ever.
    let ack = before.settle(&lost, 0, "{[0,10)}", "");
    assert!(tokio::time::timeout(Duration::from_millis(100), ack).await.is_err());
    primary.crash().await;
    standby.promote().await;

    let scene = standby.scene().await;
    let after = SqlHost::new(&scene.db, "q", handler).await;
    let held = after.must_lease(10).await;
    assert_eq!(held.id, lost.id, "the number is given out again");
    let late = before.beside(&scene.db).await;
    assert_eq!(sqlstate(late.settle(&lost, 0, "{[0,10)}", "").await), "HQ002");
    assert_eq!(after.payloads(&held).await, (1..=10).collect::<Vec<_>>());
    after.ack(&held).await;
    assert!(late.lease(10).await.is_none());
}
