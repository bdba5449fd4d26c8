//! A database that is far away: hosts lease before they have a sandbox, and lose, double and
//! reorder nothing by it.

use std::time::Duration;

use crate::harness::postgres::OwnServer;
use crate::harness::process::{Serve, host_command};
use crate::harness::proxy::{Mode, Proxy};
use crate::harness::server::scratch_dir;
use crate::harness::{Deployment, Scene, wait_until};
use crate::order::{assert_in_order, enqueue};

/// A server of its own, whose hosts have it far away.
struct Far {
    scene: Scene,
    way: Proxy,
    _server: OwnServer,
}

impl Far {
    async fn new(work: &str, concurrency: i32) -> Self {
        let server = OwnServer::start(&scratch_dir(), &[]).await;
        let scene = server.migrated().await;
        scene.queue("work", work).await;
        scene.queue("sink", "p_payload_type => 'text'").await;
        scene
            .deploy("work", "misbehave", Deployment { concurrency, ..Deployment::default() })
            .await;
        let way = Proxy::to(&server.socket()).await;
        way.set(Mode::Delay(Duration::from_millis(40)));
        Self { scene, way, _server: server }
    }

    fn serve(&self) -> Serve {
        let mut command = host_command(&["serve", "--drain", "1s"]);
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", self.way.port);
        command.env("DATABASE_URL", url);
        Serve::spawn(command)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_leased_before_there_is_a_sandbox_for_them() {
    const SANDBOXES: i32 = 8;
    let far = Far::new("", SANDBOXES).await;
    let scene = &far.scene;
    scene
        .run(
            "INSERT INTO queue.work (payload) SELECT jsonb_build_object(
                 'do', 'enqueue', 'ms', 50, 'n', 1, 'queue', 'sink', 'text', i::text)
             FROM generate_series(1, 1200) i",
        )
        .await;
    let ahead = async || scene.in_flight("work").await > i64::from(SANDBOXES) * 2;
    let first = far.serve();
    wait_until("more is leased than can run", ahead).await;
    first.kill();
    let second = far.serve();
    wait_until("so it is with its heir", ahead).await;
    scene.wait_done("work").await;
    let once =
        "SELECT count(*) FROM (SELECT FROM queue.sink GROUP BY payload HAVING count(*) = 1) x";
    assert_eq!(scene.number(once).await, 1_200);
    assert!(second.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_keep_their_order() {
    let far =
        Far::new("p_ordered_lanes => 8, p_delays_ms => '{15}', p_max_attempts => 20", 4).await;
    let hosts = [far.serve(), far.serve()];
    enqueue(&far.scene.client, 0..20, 0..12).await;
    far.scene.wait_done("work").await;
    assert_in_order(&far.scene, 20, 12).await;
    for host in hosts {
        assert!(host.terminate().await.success());
    }
}
