//! Handlers are deployed anew while messages stream through: none is dropped, none sees two
//! versions.

use crate::harness::{Deployment, Scene, wait_until};

const HOSTS: i64 = 2;

/// The configuration says which version it is; a guest can ask for it at any time.
const VERSIONS: [&[(&str, &str)]; 6] = [
    &[("version", "1")],
    &[("version", "2")],
    &[("version", "3")],
    &[("version", "4")],
    &[("version", "5")],
    &[("version", "6")],
];

async fn deploy(scene: &Scene, version: usize) {
    let config = VERSIONS[version - 1];
    let got =
        scene.deploy("work", "misbehave", Deployment { config, ..Deployment::default() }).await;
    assert_eq!(got, version as i32);
}

/// Messages that put their number on `sink`, with the version before and after a while.
async fn watch(scene: &Scene, from: i64, to: i64, ms: i64) {
    let sql = format!(
        "INSERT INTO queue.work (payload) SELECT jsonb_build_object(
             'do', 'watch', 'ms', {ms}, 'queue', 'sink', 'text', i::text)
         FROM generate_series({from}, {to}) i"
    );
    scene.run(&sql).await;
}

#[tokio::test]
async fn a_redeploy_drops_no_message_and_mixes_no_versions() {
    let scene = Scene::new("").await;
    deploy(&scene, 1).await;
    let hosts = [scene.serve("a", &[]), scene.serve("b", &[])];
    scene.wait_loaded("work", 1, HOSTS).await;
    let mut sent = 0;
    for version in 2..=VERSIONS.len() {
        // Messages before, during and after the swap.
        for _ in 0..5 {
            watch(&scene, sent + 1, sent + 100, 1).await;
            sent += 100;
        }
        deploy(&scene, version).await;
        let loaded = format!("SELECT count(*) FROM host.loaded WHERE version = {version}");
        wait_until(&format!("the hosts run version {version}"), async || {
            watch(&scene, sent + 1, sent + 5, 1).await;
            sent += 5;
            scene.number(&loaded).await == HOSTS
        })
        .await;
    }
    // All before may have run on the version before the last.
    watch(&scene, sent + 1, sent + 5, 1).await;
    sent += 5;
    scene.wait_done("work").await;
    let once = "SELECT count(*) FROM (SELECT FROM queue.sink GROUP BY split_part(payload, ' ', 1) HAVING count(*) = 1) x";
    assert_eq!(scene.number(once).await, sent);
    let mixed = "SELECT payload FROM queue.sink WHERE split_part(payload, ' ', 2) <> split_part(payload, ' ', 3)";
    assert_eq!(scene.texts(mixed).await, Vec::<String>::new());
    let versions = "SELECT DISTINCT split_part(payload, ' ', 2) FROM queue.sink ORDER BY 1";
    assert_eq!(scene.texts(versions).await, ["1", "2", "3", "4", "5", "6"]);
    for host in hosts {
        assert!(host.terminate().await.success());
    }
}

#[tokio::test]
async fn what_is_in_flight_finishes_on_the_version_that_began_it() {
    let scene = Scene::new("").await;
    deploy(&scene, 1).await;
    let _host = scene.serve("a", &[]);
    let session = scene.session("a").await;
    scene.wait_loaded("work", 1, 1).await;
    watch(&scene, 1, 1, 3_000).await;
    scene.wait_held("work", session).await;
    deploy(&scene, 2).await;
    scene.wait_loaded("work", 2, 1).await;
    watch(&scene, 2, 2, 0).await;
    scene.wait_done("work").await;
    let said = "SELECT payload FROM queue.sink ORDER BY 1";
    assert_eq!(scene.texts(said).await, ["1 1 1", "2 2 2"]);
}

#[tokio::test]
async fn a_version_that_cannot_be_loaded_leaves_the_one_before_running() {
    let scene = Scene::new("").await;
    deploy(&scene, 1).await;
    let host = scene.serve("a", &[]);
    scene.wait_loaded("work", 1, 1).await;
    scene.deploy_bytes("work", b"no component", Deployment::default()).await;
    let report = "SELECT error FROM host.loaded WHERE version = 2";
    scene.wait_number(&format!("SELECT count(*) FROM ({report}) x"), 1).await;
    let error = &scene.texts(report).await[0];
    assert!(error.contains("not a WebAssembly"), "{error}");
    host.wait_for_log("cannot load a handler; the version before stays").await;

    watch(&scene, 1, 50, 0).await;
    scene.wait_done("work").await;
    let versions = "SELECT DISTINCT split_part(payload, ' ', 2) FROM queue.sink";
    assert_eq!(scene.texts(versions).await, ["1"]);
    // A host that comes later has no version before; it says so, and waits for one that it can
    // load.
    let late = scene.serve("late", &[]);
    late.wait_for_log("cannot load a handler").await;
    assert!(host.terminate().await.success());
    deploy(&scene, 3).await;
    scene.wait_loaded("work", 3, 1).await;
    watch(&scene, 51, 51, 0).await;
    scene.wait_done("work").await;
    assert_eq!(scene.number("SELECT count(*) FROM queue.sink").await, 51);
}
