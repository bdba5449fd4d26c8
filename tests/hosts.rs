//! A host and what is around it: signals, a log that nobody reads any more, a server that lets
//! nobody in.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::harness::process::{Serve, host_command};
use crate::harness::server::connect;
use crate::harness::watchdog::kill_with_us;
use crate::harness::{Deployment, Scene, wait_until};

/// Where hosts share compiled components.
const COMPILED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled");

const DONE: &str = "SELECT coalesce(sum(host.positions(settled)), 0) FROM host.work__settlement";

/// A message that takes a while.
const SLOW: &str = r#"INSERT INTO queue.work (payload) VALUES ('{"do": "sleep", "ms": 300}')"#;

async fn slow_scene() -> Scene {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    scene
}

/// `tee` ends at Ctrl-C before the host does. Whatever is logged from then on goes nowhere, calls
/// and all.
#[tokio::test]
async fn a_host_whose_log_nobody_reads_any_more_goes_on_and_drains() {
    let scene = slow_scene().await;
    let mut command = host_command(&["serve", "--name", "host", "--log-level", "debug"]);
    command.args(["--cache", COMPILED]);
    command.env("DATABASE_URL", &scene.db.url).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    kill_with_us(child.id(), Path::new(env!("CARGO_BIN_EXE_host")));
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("handler loaded")));
    drop(lines);
    scene.run("INSERT INTO queue.work (payload) VALUES ('{\"do\": \"ack\"}')").await;
    scene.wait_number(DONE, 1).await;
    scene.run(SLOW).await;
    let session = scene.session("host").await;
    scene.wait_held("work", session).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(scene.number(DONE).await, 2);
    assert_eq!(scene.number("SELECT count(*) FROM host.work__dead_letter").await, 0);
}

/// Whether this process ignores a signal, and so do the hosts that it starts.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal as i32 - 1) & 1 == 1
}

#[tokio::test]
async fn every_signal_to_end_drains() {
    let scene = slow_scene().await;
    for (n, signal) in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().enumerate() {
        if is_ignored(signal) {
            eprintln!("{signal} is not tried: whoever runs the tests ignores it, as nohup does");
            continue;
        }
        let host = scene.serve("host", &[]);
        let session = scene.session("host").await;
        scene.run(SLOW).await;
        scene.wait_held("work", session).await;
        host.signal(signal);
        let log = host.ended().await;
        assert!(log.contains("draining"), "{signal}: {log}");
        assert_eq!(scene.number(DONE).await, n as i64 + 1, "{signal}");
    }
}

#[tokio::test]
async fn after_nohup_the_end_of_the_terminal_is_no_reason_to_end() {
    let scene = slow_scene().await;
    let mut command = Command::new("sh");
    let serve = format!(
        "trap '' HUP; exec {} serve --name host --cache {COMPILED}",
        env!("CARGO_BIN_EXE_host")
    );
    command.args(["-c", &serve]).env("DATABASE_URL", &scene.db.url).stdin(Stdio::null());
    let host = Serve::spawn(command);
    scene.wait_loaded("work", 1, 1).await;
    host.signal(Signal::SIGHUP);
    scene.run(SLOW).await;
    scene.wait_number(DONE, 1).await;
    host.signal(Signal::SIGTERM);
    assert!(host.ended().await.contains("stopped"));
}

/// Nobody gets in any more, and those who are in are thrown out: as long as nobody mends that the
/// host tries again, and says why.
#[tokio::test]
async fn a_host_that_is_let_in_no_more_waits_until_it_is() {
    let scene = slow_scene().await;
    let theirs = scene.db.as_member_of("host_serve").await;
    let other = scene.db.url.replacen(&format!("/{}?", scene.db.name), "/postgres?", 1);
    let admin = connect(&other).await;
    let (role, name) = (format!("host_serve_{}", scene.db.name), scene.db.name.clone());
    let renamed = format!("{name}_renamed");
    let cases = [
        (
            format!("ALTER ROLE {role} NOLOGIN"),
            "is not permitted to log in",
            format!("ALTER ROLE {role} LOGIN"),
        ),
        (
            format!("ALTER DATABASE {name} RENAME TO {renamed}"),
            "does not exist",
            format!("ALTER DATABASE {renamed} RENAME TO {name}"),
        ),
    ];
    let owners = scene.db.clone();
    drop(scene);
    for (n, (shut, why, open)) in cases.into_iter().enumerate() {
        let host = Scene::of(theirs.clone()).await.serve("host", &[]);
        host.wait_for_log("handler loaded").await;
        // Its connections are back before it is known that they cannot be.
        wait_until("the door is shut", async || {
            let throw_out =
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
            admin.execute(throw_out, &[&name]).await.unwrap();
            admin.batch_execute(&shut).await.is_ok()
        })
        .await;
        admin
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
                &[&name],
            )
            .await
            .unwrap();
        host.wait_for_log("cannot begin a session; trying again until it works").await;
        assert!(host.log().contains(why), "{}", host.log());
        admin.batch_execute(&open).await.unwrap();
        let scene = Scene::of(owners.clone()).await;
        scene.run(SLOW).await;
        scene.wait_number(DONE, n as i64 + 1).await;
        drop(scene);
        assert!(host.terminate().await.success());
    }
}

/// A lease of a queue in order that is done is over: its lane may have more, and that is the next
/// lease's.
#[tokio::test(flavor = "multi_thread")]
async fn no_lease_is_called_lost_that_is_done() {
    let scene = Scene::new("p_ordered_lanes => 4").await;
    scene.deploy("work", "echo", Deployment::default()).await;
    let insert = "INSERT INTO queue.work (payload, key)
        SELECT to_jsonb(g), (g % 10)::text FROM generate_series(1, 3000) g";
    scene.run(insert).await;
    let host = scene.serve("host", &[]);
    scene.wait_number(DONE, 3_000).await;
    host.signal(Signal::SIGTERM);
    let log = host.ended().await;
    assert!(!log.contains("lease lost"), "{log}");
    let leases =
        "SELECT count(*) FROM host.work__lease WHERE session_id > 0 AND row_count > 0 AND more";
    assert!(scene.number(leases).await > 0, "some lane has had more than one lease");
}
