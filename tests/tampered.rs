//! Rows of the database that somebody has tampered with: each is refused by every host, named in
//! its log and in `host handlers`, and no other queue is the worse. Native code never comes out of
//! the database.

use serde_json::Value;

use crate::harness::{Deployment, Scene, plugin};

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(plugin(name)).expect("the plugin")
}

/// What wasmtime makes of a component when it compiles it: what a host must never take from
/// anybody.
pub fn compiled(wasm: &[u8]) -> Vec<u8> {
    wasmtime::Engine::default().precompile_component(wasm).expect("compiled code")
}

#[tokio::test]
async fn what_is_spoilt_in_the_database_is_refused_and_stops_no_other_queue() {
    let scene = Scene::new("").await;
    let deploy = async |queue: &str, wasm: &[u8]| {
        scene.queue(queue, "").await;
        scene.deploy_bytes(queue, wasm, Deployment::default()).await;
    };
    let of = |queue: &str| {
        format!(
            "(SELECT h.id FROM host.handler h JOIN host.queue q ON q.id = h.queue_id AND q.name = '{queue}')"
        )
    };
    deploy("swapped", &bytes("email")).await;
    let swap = "UPDATE host.component SET wasm = $1";
    scene.client.execute(swap, &[&bytes("misbehave")]).await.unwrap();
    deploy("native", &compiled(&bytes("echo"))).await;
    deploy("huge", &vec![0; (64 << 20) + 1]).await;
    for (queue, spoil) in [
        ("granted", "http = '{ftp://elsewhere}'"),
        ("named", "secrets = '{a b}'"),
        ("configured", "config = '{\"a\": 5}'"),
        ("limited", "memory_bytes = -1"),
        ("numbered", "config = '{\"a\": 1e400}'"),
        ("hurried", "timeout_ms = 1"),
    ] {
        deploy(queue, &bytes("echo")).await;
        let handler = of(queue);
        scene
            .run(&format!("UPDATE host.handler_version SET {spoil} WHERE handler_id = {handler}"))
            .await;
    }
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let host = scene.serve("host", &[]);
    scene
        .run("INSERT INTO queue.work (payload) SELECT '\"ack\"' FROM generate_series(1, 100)")
        .await;
    scene.wait_done("work").await;
    let failed = "SELECT count(*) FROM host.loaded WHERE error IS NOT NULL";
    scene.wait_number(failed, 9).await;

    let shown: Value =
        serde_json::from_str(&scene.db.host(&["handlers", "--json"]).await.ok()).unwrap();
    let cannot_read = "its settings in the database cannot be read: ";
    for (queue, why) in [
        ("swapped", "is damaged in the database: what is stored has the digest"),
        ("native", "is not a WebAssembly component but code that was compiled already (.cwasm)"),
        ("huge", "has 67108865 bytes in the database, more than 67108864"),
        ("granted", cannot_read),
        ("named", cannot_read),
        ("configured", cannot_read),
        ("limited", cannot_read),
        ("numbered", cannot_read),
        ("hurried", "timeout 1ms is out of range: use 10ms to 1h"),
    ] {
        let shown = shown.as_array().unwrap().iter().find(|v| v["queue"] == queue).unwrap();
        let said = shown["failed_on"][0].as_str().unwrap_or_default();
        assert!(said.contains(why), "{queue}: {shown}");
        let log = host.log();
        let line = log.lines().find(|line| line.contains(&format!("queue={queue} ")));
        assert!(line.is_some_and(|line| line.contains("cannot load a handler")), "{queue}: {log}");
    }

    // What to do, as it says.
    let echo = plugin("echo").display().to_string();
    let again = ["deploy", "--queue", "granted", &echo];
    let error = scene.db.host(&again).await.error(1);
    assert!(error.contains("cannot be read") && error.contains("--reset"), "{error}");
    scene.db.host(&[&again[..], &["--reset"]].concat()).await.ok();
    scene.wait_loaded("granted", 2, 1).await;
}

/// One row each that no command writes, and that a command looks at among others.
#[tokio::test]
async fn what_only_sql_can_write_blinds_no_command() {
    let scene = Scene::new("").await;
    scene.deploy("work", "echo", Deployment::default()).await;
    let add = ["cron", "add", "odd", "@daily", "--queue", "work", "--payload", "1"];
    scene.db.host(&add).await.ok();
    scene
        .run(
            "SELECT host.pause('work', true);
             UPDATE host.handler_version SET http = ARRAY[NULL], secrets = ARRAY[NULL];
             INSERT INTO host.secret (name, value) VALUES (E'bad\\x1bname', 'x');
             INSERT INTO queue.work (payload, enqueued_at) VALUES ('1', '-infinity'), ('2', 'infinity');
             UPDATE host.cron SET fired_at = 'infinity'",
        )
        .await;
    let shown = scene.db.host(&["secret", "list"]).await.ok();
    assert!(shown.contains("bad\\u001bname"), "{shown}");
    for command in ["status", "handlers", "doctor", "peek work", "secret list", "cron list"] {
        for json in [&[][..], &["--json"]] {
            let words: Vec<&str> = command.split(' ').chain(json.iter().copied()).collect();
            let finished = scene.db.host(&words).await;
            assert!(!finished.stderr.contains("error:"), "{command}: {}", finished.stderr);
            assert!(!finished.stdout.is_empty(), "{command}");
        }
    }
}
