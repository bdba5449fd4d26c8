//! A host goes on, however many handlers and however few connections it has. One whose loops stand
//! still does not look alive: it says so, ends its session, and others have its messages.

use std::time::{Duration, Instant};

use host_core::health::progress::Progress;
use host_server::serve::{ServeConfig, Shutdown, serve};
use nix::sys::signal::Signal;
use tokio_util::sync::CancellationToken;

use crate::harness::postgres::OwnServer;
use crate::harness::process::{Serve, host_command};
use crate::harness::proxy::{Mode, Proxy};
use crate::harness::server::scratch_dir;
use crate::harness::sql_host::{create_queue, deploy, value};
use crate::harness::{Deployment, Scene, SqlHost, TestDb, plugin, wait_until};

const COMPILED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled");

/// Of the queues below this, each has a component of its own: one with a custom section more. The
/// others share one.
const OWN: i64 = 12;

/// A server of its own, queues with a handler each, and a slow way to it.
struct Many {
    scene: Scene,
    way: Proxy,
    queues: i64,
    _server: OwnServer,
}

impl Many {
    async fn new(queues: i64, round_trip: Duration) -> Self {
        let server = OwnServer::start(&scratch_dir(), &[]).await;
        let scene = server.migrated().await;
        // The first that is loaded.
        scene.queue("work", "").await;
        scene.deploy("work", "misbehave", Deployment::default()).await;
        let echo = std::fs::read(plugin("echo")).unwrap();
        for n in 1..queues {
            let queue = format!("q{n}");
            scene.queue(&queue, "").await;
            let own = if n < OWN { &[0, 2, 1, b'a' + n as u8][..] } else { &[] };
            let wasm = [&echo, own].concat();
            scene.deploy_bytes(&queue, &wasm, Deployment::default()).await;
        }
        let way = Proxy::to(&server.socket()).await;
        way.set(Mode::Delay(round_trip / 2));
        Self { scene, way, queues, _server: server }
    }

    fn serve(&self, args: &[&str]) -> Serve {
        let mut command = host_command(&[&["serve", "--cache", COMPILED], args].concat());
        let port = self.way.port;
        command.env("DATABASE_URL", format!("postgres://postgres@127.0.0.1:{port}/postgres"));
        Serve::spawn(command)
    }

    /// Waits until a session after that one has loaded all handlers; returns it.
    async fn wait_all_loaded(&self, after: i64) -> i64 {
        let loaded = format!(
            "SELECT count(*) FROM host.loaded WHERE error IS NULL
                AND session_id = (SELECT max(id) FROM host.session WHERE id > {after})"
        );
        self.scene.wait_number(&loaded, self.queues).await;
        self.scene.number("SELECT max(id) FROM host.session").await
    }
}

/// Each load and each handler wants a connection, and there are fewer of these.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_start_loads_all_handlers_over_few_connections() {
    let many = Many::new(24, Duration::from_millis(20)).await;
    let mut session = 0;
    for _ in 0..3 {
        let host = many.serve(&["--connections", "2"]);
        session = many.wait_all_loaded(session).await;
        host.kill();
    }
}

/// However many handlers have a component, the host reads and compiles it once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_of_many_handlers_is_compiled_once() {
    let many = Many::new(24, Duration::ZERO).await;
    let host = many.serve(&["--log-level", "debug"]);
    many.wait_all_loaded(0).await;
    let compiled = host.log().matches("load: component compiled").count() as i64;
    // Each of those that have their own, misbehave among them, and the shared one.
    assert_eq!(compiled, OWN + 1, "{}", host.log());
    for n in [1, OWN, OWN + 1] {
        many.scene.run(&format!("INSERT INTO queue.q{n} (payload) VALUES ('1')")).await;
        many.scene.wait_done(&format!("q{n}")).await;
    }
}

/// One that cannot be compiled fails once for all of them, not once for each in turn.
#[tokio::test]
async fn a_component_that_fails_is_tried_once_for_its_handlers() {
    let scene = Scene::new("").await;
    // It begins as a component does.
    let broken = [&std::fs::read(plugin("echo")).unwrap()[..200], b"broken"].concat();
    for n in 1..=12 {
        scene.queue(&format!("q{n}"), "").await;
        scene.deploy_bytes(&format!("q{n}"), &broken, Deployment::default()).await;
    }
    let host = scene.serve("host", &["--log-level", "debug"]);
    let failed = "SELECT count(*) FROM host.loaded WHERE error IS NOT NULL";
    scene.wait_number(failed, 12).await;
    assert_eq!(host.log().matches("component read").count(), 1, "{}", host.log());
    let why = "SELECT DISTINCT error FROM host.loaded";
    assert_eq!(scene.texts(why).await.len(), 1);
}

/// A host that lost its server loads all handlers at once, beside what it settles and looks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_all_handlers_come_back() {
    let many = Many::new(24, Duration::from_millis(20)).await;
    let host = many.serve(&["--connections", "2"]);
    let session = many.wait_all_loaded(0).await;
    // Until the session is over: then all begins anew.
    many.way.set(Mode::Stall);
    host.wait_for_log("the session is over").await;
    many.way.set(Mode::Delay(Duration::from_millis(10)));
    many.wait_all_loaded(session).await;
    for n in 1..many.queues {
        many.scene.run(&format!("INSERT INTO queue.q{n} (payload) VALUES ('1')")).await;
    }
    for n in 1..many.queues {
        many.scene.wait_done(&format!("q{n}")).await;
    }
    assert!(host.terminate().await.success());
}

/// A draining host drops its loads: they must not keep connections from settlements.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_drains_while_it_loads() {
    let many = Many::new(24, Duration::from_millis(100)).await;
    let sleep = r#"INSERT INTO queue.work (payload) VALUES ('{"do": "sleep", "ms": 200}')"#;
    many.scene.run(sleep).await;
    let host = many.serve(&["--connections", "2", "--name", "host"]);
    let session = many.scene.session("host").await;
    many.scene.wait_held("work", session).await;
    host.signal(Signal::SIGTERM);
    let log = host.ended().await;
    assert!(!log.contains("messages are still in flight"), "{log}");
    assert_eq!(many.scene.unsettled("work").await, 0);
}

fn config(progress: &Progress) -> ServeConfig {
    ServeConfig {
        host_name: "stuck".into(),
        concurrency: 4,
        connections: 4,
        payload_bytes: 64 << 20,
        poll_max: Duration::from_secs(1),
        drain: Duration::from_secs(1),
        cache_dir: None,
        progress: progress.clone(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_whose_loop_stands_still_says_so_and_gives_its_messages_to_others() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", "").await;
    let handler = deploy(&client, "q", "default").await;
    let progress = Progress::default();
    let shutdown = Shutdown { drain: CancellationToken::new(), stop: CancellationToken::new() };
    let database = db.database().serving(4).unwrap();
    // Too large for the stack of a test.
    let serving = Box::pin(serve(&database, config(&progress), shutdown.clone()));
    let watching = Box::pin(async {
        let live = "SELECT coalesce(max(id), 0) FROM host.sessions() WHERE host_name = 'stuck' AND connected";
        wait_until("the host serves", async || value::<i32>(&client, live).await > 0).await;
        let session: i32 = value(&client, live).await;
        // What it has in flight when a loop of it stops.
        let mut theirs = SqlHost::new(&db, "q", handler).await;
        theirs.end(false).await;
        theirs.session = session;
        theirs.enqueue(1, 3).await;
        let held = theirs.must_lease(3).await;
        let stuck = progress.watch("the loop of a test");
        stuck.within(Duration::from_millis(500));

        let says = |text: String| text.contains("the loop of a test makes no progress");
        wait_until("`host status` says so", async || says(db.host(&["status"]).await.ok())).await;
        let doctor = db.host(&["doctor"]).await;
        assert!(says(doctor.stdout.clone()), "{doctor:?}");
        assert_eq!(doctor.code, 6, "{doctor:?}");

        let ended = format!("SELECT count(*) FROM host.session WHERE id = {session} AND NOT lost");
        let ended = format!("{ended} AND ended_at IS NOT NULL");
        wait_until("it ends its session", async || value::<i64>(&client, &ended).await == 1).await;
        let other = SqlHost::new(&db, "q", handler).await;
        assert_eq!(other.strays().await, [held.id]);
        assert!(other.take_over(held.id, 3).await.unwrap().is_some());
        let anew = format!(
            "SELECT count(*) FROM host.sessions() WHERE id > {session}
            AND host_name = 'stuck' AND late IS NULL AND beat_age_ms IS NOT NULL"
        );
        wait_until("it begins anew", async || value::<i64>(&client, &anew).await == 1).await;
        shutdown.drain.cancel();
    });
    let (served, ()) = tokio::join!(serving, watching);
    served.unwrap();
}

/// As long as somebody holds all connections and gives none back, nobody passes.
#[tokio::test]
async fn a_pool_that_gives_out_no_connection_is_late() {
    let db = TestDb::new().await;
    let progress = Progress::default();
    let database = db.database().named_as("test", 1, &progress).unwrap();
    let mut now = Instant::now();
    let mut look = |times: u32| {
        for _ in 0..times {
            now += Duration::from_secs(1);
            progress.look(now);
        }
        progress.late().map(|late| late.name)
    };
    let held = database.get().await.unwrap();
    assert_eq!(look(1_000), None, "nobody waits");
    let mut waiting = Box::pin(database.get());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert_eq!(look(80), None, "an answer may take long");
    assert_eq!(look(20).as_deref(), Some("the pool of connections"));
    drop(held);
    assert_eq!(look(1), None);
    drop(waiting.await.unwrap());
    assert_eq!(look(1_000), None);
}
