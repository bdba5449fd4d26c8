//! Deploying: what is refused stores nothing, hosts are waited for, versions and settings are kept.
//! A host is played by the calls that one makes: a session, and its reports.

use std::process::Output;

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::harness::process::host_command;
use crate::harness::{TestDb, plugin, wait_until};

async fn with_queue() -> TestDb {
    let db = TestDb::new().await;
    db.host(&["queue", "create", "emails"]).await.ok();
    db
}

fn echo() -> String {
    plugin("echo").display().to_string()
}

async fn deploy(db: &TestDb, more: &[&str]) -> Value {
    let echo = echo();
    let args = [&["deploy", "--queue", "emails", &echo, "--json"], more].concat();
    serde_json::from_str(&db.host(&args).await.ok()).expect("JSON")
}

async fn json_of(db: &TestDb, args: &[&str]) -> Value {
    serde_json::from_str(&db.host(args).await.ok()).expect("JSON")
}

/// How many components, handlers and versions there are.
async fn stored(client: &Client) -> [i64; 3] {
    let sql = "SELECT (SELECT count(*) FROM host.component), (SELECT count(*) FROM host.handler),
        (SELECT count(*) FROM host.handler_version)";
    let row = client.query_one(sql, &[]).await.unwrap();
    [row.get(0), row.get(1), row.get(2)]
}

#[tokio::test]
async fn what_is_refused_stores_nothing_and_says_why() {
    let db = with_queue().await;
    let client = db.client().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let text = file("notes.txt", b"hello");
    let core = file("core.wasm", b"\0asm\x01\0\0\0");
    let half = file("half.wasm", &std::fs::read(echo()).unwrap()[..5000]);
    let echo = &echo();
    let big = &plugin("thumbnail").display().to_string();
    for (code, args, said) in [
        (1, vec![&*text], "notes.txt: this is not a WebAssembly component"),
        (
            1,
            vec![&*core],
            "core WebAssembly module, not a component; build it for the target wasm32-wasip2",
        ),
        (1, vec![&*half], "half.wasm: the component is damaged or cut off"),
        (1, vec![big, "--memory", "1MiB"], "deploy it with a higher --memory"),
        (2, vec!["/nowhere.wasm"], "cannot read /nowhere.wasm"),
        (2, vec![echo, "--timeout", "5ms"], "timeout 5ms is out of range: use 10ms to 1h"),
        (2, vec![echo, "--cpu", "2h"], "cpu 2h is out of range: use 10ms to 1h"),
        (
            2,
            vec![echo, "--memory", "5GiB"],
            "memory 5.0 GiB is out of range: use 1.0 MiB to 4.0 GiB",
        ),
        (2, vec![echo, "--concurrency", "0"], "concurrency 0 is out of range: use 1 to 10000"),
        (
            2,
            vec![echo, "--log-bytes", "17MiB"],
            "log-bytes 17.0 MiB is out of range: use 0 B to 16.0 MiB",
        ),
        (
            2,
            vec![echo, "--follow-ups", "100001"],
            "follow-ups 100001 is out of range: use 0 to 100000",
        ),
        (2, vec![echo, "--follow-up-bytes", "65MiB"], "follow-up-bytes 65.0 MiB is out of range"),
        (2, vec![echo, "--isolation", "none"], "message, batch"),
        (2, vec![echo, "--config", "novalue"], "write it as KEY=VALUE"),
        (2, vec![echo, "--name", "No"], "is not a handler name"),
    ] {
        let args = [vec!["deploy", "--queue", "emails"], args].concat();
        let error = db.host(&args).await.error(code);
        assert!(error.contains(said), "{args:?}: {error}");
    }
    let error = db.host(&["deploy", "--queue", "email", echo]).await.error(2);
    assert_eq!(error, "no queue \"email\"; did you mean \"emails\"?");
    assert_eq!(stored(&client).await, [0, 0, 0]);
}

#[tokio::test]
async fn a_redeploy_keeps_what_it_is_not_told_to_change() {
    let db = with_queue().await;
    let client = db.client().await;
    let settings = async || {
        let database = db.database();
        let catalog = host_queue::catalog::load(&database.get().await.unwrap()).await.unwrap();
        catalog.deployments[0].settings.clone().unwrap()
    };
    let first = deploy(&db, &["--timeout", "5s", "--config", "a=1", "--config", "b=2"]).await;
    assert_eq!((&first["version"], &first["unchanged"]), (&json!(1), &json!(false)));
    let before = settings().await;
    assert_eq!((before.concurrency, before.limits.timeout.as_secs()), (64, 5));

    let same = deploy(&db, &[]).await;
    assert_eq!((&same["version"], &same["unchanged"]), (&json!(1), &json!(true)));

    deploy(&db, &["--config", "b=3", "--isolation", "batch"]).await;
    let after = settings().await;
    assert_eq!(after.limits, before.limits);
    assert_eq!(after.isolation.name(), "batch");
    let config: Vec<_> = after.config.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(config, ["a=1", "b=3"]);

    assert_eq!(deploy(&db, &["--reset"]).await["version"], 3);
    let reset = settings().await;
    assert!(reset.config.is_empty());
    assert_eq!(reset.limits, host_core::limits::Limits::default());
    assert_eq!(stored(&client).await, [1, 1, 3], "one component, stored once");
}

#[tokio::test]
async fn a_version_comes_back_under_its_own_number() {
    let db = with_queue().await;
    for concurrency in ["1", "2", "3"] {
        deploy(&db, &["--concurrency", concurrency]).await;
    }
    let in_force = async || {
        let all = json_of(&db, &["handlers", "--json"]).await;
        let all = all.as_array().unwrap();
        assert_eq!(all.len() as i64, all[0]["version"].as_i64().unwrap(), "the newest first");
        let one: Vec<_> = all.iter().filter(|v| v["in_force"] == true).collect();
        (one[0]["version"].clone(), one[0]["concurrency"].clone())
    };
    let rollback = ["rollback", "--queue", "emails"];
    let text = db.host(&rollback).await.ok();
    assert!(text.starts_with("emails/default v2 is in force again, instead of v3\n"), "{text}");
    assert_eq!(in_force().await, (json!(2), json!(2)));
    db.host(&rollback).await.ok();
    assert_eq!(in_force().await, (json!(1), json!(1)));
    let text = db.host(&rollback).await.error(2);
    assert_eq!(text, "emails/default has no version before the one in force");
    db.host(&[&rollback[..], &["--to", "3"]].concat()).await.ok();
    assert_eq!(in_force().await, (json!(3), json!(3)));
    let text = db.host(&[&rollback[..], &["--to", "7"]].concat()).await.error(2);
    assert_eq!(text, "emails/default has no version 7; the nearest is 3");
    let text = db.host(&[&rollback[..], &["--name", "defualt"]].concat()).await.error(2);
    assert_eq!(text, "no handler on queue emails: \"defualt\"; did you mean \"default\"?");
    db.host(&[&rollback[..], &["--to", "1"]].concat()).await.ok();
    assert_eq!(deploy(&db, &["--concurrency", "4"]).await["version"], 4);
}

/// Begins a session, as a host does; it lives as long as the connection.
async fn session(client: &Client, pid: i32) -> i32 {
    let call = "SELECT host.begin_session('machine', $1, '0.1.0')";
    client.query_one(call, &[&pid]).await.unwrap().get(0)
}

async fn report(client: &Client, session: i32, version: i32, error: Option<&str>) {
    let call = "SELECT host.report_loaded($1, ARRAY[(SELECT min(id) FROM host.handler)], ARRAY[$2::int], ARRAY[$3::text])";
    client.execute(call, &[&session, &version, &error]).await.unwrap();
}

async fn wait_for_version(client: &Client, version: i32) {
    wait_until("the version is in force", async || {
        let sql = "SELECT EXISTS (SELECT FROM host.handler WHERE version = $1)";
        client.query_one(sql, &[&version]).await.unwrap().get(0)
    })
    .await;
}

fn start(db: &TestDb, args: &[&str]) -> tokio::task::JoinHandle<Output> {
    let mut command = host_command(args);
    command.env("DATABASE_URL", &db.url);
    tokio::task::spawn_blocking(move || command.output().expect("host"))
}

#[tokio::test]
async fn it_waits_for_every_host_and_names_one_that_cannot_run_it() {
    let db = with_queue().await;
    let (one, two) = (db.client().await, db.client().await);
    let (a, b) = (session(&one, 1).await, session(&two, 2).await);
    let echo = echo();
    let args = ["deploy", "--queue", "emails", &*echo];

    let running = start(&db, &args);
    wait_for_version(&one, 1).await;
    report(&one, a, 1, None).await;
    assert!(!running.is_finished(), "one host has not said anything");
    report(&two, b, 1, None).await;
    let output = running.await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("2 hosts running it after"), "{text}");

    let running = start(&db, &[&args[..], &["--concurrency", "2"]].concat());
    wait_for_version(&one, 2).await;
    report(&one, a, 2, None).await;
    report(&two, b, 2, Some("no room")).await;
    let output = running.await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("emails/default v2 is in force, but machine/2 cannot run it: no room"),
        "{text}"
    );

    let all = json_of(&db, &["handlers", "--json"]).await;
    assert_eq!(all[0]["runs_on"], json!(["machine/1"]));
    assert_eq!(all[0]["failed_on"], json!(["machine/2: no room"]));
    assert_eq!(all[1]["runs_on"], json!(["machine/2"]));

    // What was said of version 1 the first time does not count after a rollback.
    let rollback = ["rollback", "--queue", "emails", "--wait", "0s"];
    let text = db.host(&rollback).await.error(1);
    assert!(
        text.contains("machine/1 has not reported yet") && text.contains("machine/2 has"),
        "{text}"
    );
    db.host(&["rollback", "--queue", "emails", "--to", "2", "--no-wait"]).await.ok();

    // A host that is gone is not waited for, ended or not.
    drop(two);
    wait_until("the lock of the dead host is free", async || {
        let sql = "SELECT count(*) FROM host.sessions() WHERE connected";
        one.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
    let running = start(&db, &[&args[..], &["--concurrency", "3"]].concat());
    wait_for_version(&one, 3).await;
    report(&one, a, 3, None).await;
    let output = running.await.unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("1 host running it"));
}

#[tokio::test]
async fn the_catalog_is_what_was_deployed_and_its_components_are_checked() {
    use host_core::deployment::digest::Digest;
    use host_queue::catalog;

    let db = with_queue().await;
    let database = db.database();
    let client = database.get().await.unwrap();
    let before = catalog::load(&client).await.unwrap();
    assert!(before.deployments.is_empty());
    deploy(&db, &["--no-wait"]).await;
    let now = catalog::load(&client).await.unwrap();
    assert!(now.version > before.version);
    let queue = now.queue("emails").unwrap();
    let deployment = now.deployment(queue.id, "default").unwrap();
    let wasm = std::fs::read(echo()).unwrap();
    assert_eq!(deployment.sha256, Digest::of(&wasm));
    assert_eq!(catalog::component(&client, &deployment.sha256).await.unwrap(), wasm);

    db.host(&["queue", "pause", "emails"]).await.ok();
    let paused = catalog::load(&client).await.unwrap();
    assert!(paused.version > now.version && paused.queue("emails").unwrap().paused);

    client.execute("UPDATE host.component SET wasm = 'x'", &[]).await.unwrap();
    let error = catalog::component(&client, &deployment.sha256).await.unwrap_err();
    assert!(error.to_string().contains("damaged in the database"), "{error}");
}

#[tokio::test]
async fn handlers_of_one_queue_have_versions_of_their_own() {
    let db = with_queue().await;
    deploy(&db, &[]).await;
    deploy(&db, &["--name", "audit"]).await;
    let text = db.host(&["handlers", "--queue", "emails"]).await.ok();
    let first: Vec<&str> =
        text.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(first, ["HANDLER", "emails/audit", "emails/default"], "{text}");
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
}
