//! The embedded Postgres: shared, stopped by the last, found again after any kill, and possible for
//! root, for anybody, and below a folder that Postgres's user cannot enter.

use std::fs::{Permissions, metadata, set_permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use futures_util::future::join_all;
use host::embedded::Embedded;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};

use crate::harness::process::{finish, host_command};
use crate::harness::server::{connect, is_root, scratch_dir};
use crate::harness::{wait_until, watchdog};

async fn start(dir: &Path) -> Embedded {
    let embedded = Embedded::start(dir).await.unwrap();
    watchdog::quit_with_us(embedded.pid());
    embedded
}

/// A zombie that nobody has reaped yet has no program any more.
fn runs(pid: i32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

#[tokio::test]
async fn hosts_share_it_and_the_last_one_stops_it() {
    let dir = scratch_dir();
    let mut hosts = join_all((0..4).map(|_| start(&dir))).await;
    let last = hosts.pop().unwrap();
    for host in hosts {
        assert_eq!((host.pid(), host.url()), (last.pid(), last.url()));
        assert!(!host.stop_if_last().await.unwrap());
    }
    let pid = last.pid();
    let client = connect(last.url()).await;
    client.batch_execute("CREATE TABLE kept (a int)").await.unwrap();
    assert!(last.stop_if_last().await.unwrap());
    // It has let go of its data before it is gone.
    wait_until("the server is gone", async || !runs(pid)).await;

    let again = start(&dir).await;
    connect(again.url()).await.batch_execute("SELECT * FROM kept").await.unwrap();
    again.stop_if_last().await.unwrap();
}

#[tokio::test]
async fn a_killed_host_leaves_a_server_that_the_next_one_finds() {
    let dir = scratch_dir();
    let killed = start(&dir).await;
    let pid = killed.pid();
    // What a kill leaves: the kernel closes the files, and nobody stops the server.
    drop(killed);
    let next = start(&dir).await;
    assert_eq!(next.pid(), pid);
    assert!(next.stop_if_last().await.unwrap());
}

#[tokio::test]
async fn a_killed_server_recovers() {
    let dir = scratch_dir();
    let host = start(&dir).await;
    let client = connect(host.url()).await;
    client.batch_execute("CREATE TABLE kept (a int)").await.unwrap();
    let pid = host.pid();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    wait_until("the server is gone", async || !runs(pid)).await;
    drop(host);

    let next = start(&dir).await;
    assert_ne!(next.pid(), pid);
    connect(next.url()).await.batch_execute("SELECT * FROM kept").await.unwrap();
    next.stop_if_last().await.unwrap();
}

#[tokio::test]
async fn a_pid_file_from_before_a_reboot_is_no_obstacle() {
    let dir = scratch_dir();
    let host = start(&dir).await;
    let data = host.place().join("data");
    let pid_file = std::fs::read_to_string(data.join("postmaster.pid")).unwrap();
    host.stop_if_last().await.unwrap();
    // The number now belongs to a process that is no server: this one.
    let (_, rest) = pid_file.split_once('\n').unwrap();
    let stale = format!("{}\n{rest}", std::process::id());
    std::fs::write(data.join("postmaster.pid"), stale).unwrap();
    start(&dir).await.stop_if_last().await.unwrap();
}

#[tokio::test]
async fn the_socket_is_private_and_the_port_needs_the_password() {
    let dir = scratch_dir();
    let host = start(&dir).await;
    let place = metadata(host.place()).unwrap();
    assert_eq!(place.mode() & 0o077, 0, "others can enter");
    let port = host.url().rsplit_once("port=").unwrap().1;
    let url =
        |credentials: &str| format!("postgres://postgres{credentials}@127.0.0.1:{port}/postgres");
    let refused = tokio_postgres::connect(&url(""), tokio_postgres::NoTls).await;
    assert!(refused.is_err(), "let in without a password");
    let password = std::fs::read_to_string(host.place().join("password")).unwrap();
    let client = connect(&url(&format!(":{}", password.trim()))).await;
    client.batch_execute("SELECT 1").await.unwrap();
    host.stop_if_last().await.unwrap();
}

#[tokio::test]
async fn a_deep_folder_gets_its_socket_elsewhere() {
    let dir = scratch_dir().join("a folder's name, with all that is allowed in one, ".repeat(2));
    let host = start(&dir).await;
    connect(host.url()).await.batch_execute("SELECT 1").await.unwrap();
    assert!(!host.url().contains("allowed"), "{}", host.url());
    host.stop_if_last().await.unwrap();
}

#[tokio::test]
async fn root_below_a_closed_folder_gets_it_elsewhere() {
    if !is_root() {
        return;
    }
    let closed = scratch_dir();
    set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let dir = closed.join(".host");
    let host = start(&dir).await;
    watchdog::remove_after_us(host.place());
    let place = host.place().to_owned();
    assert!(!place.starts_with(&closed), "{}", place.display());
    connect(host.url()).await.batch_execute("CREATE TABLE kept (a int)").await.unwrap();
    host.stop_if_last().await.unwrap();

    let again = start(&dir).await;
    assert_eq!(again.place(), place);
    connect(again.url()).await.batch_execute("SELECT * FROM kept").await.unwrap();
    again.stop_if_last().await.unwrap();
}

/// The command as a user would run it, without a URL: as root, and as somebody.
#[tokio::test]
async fn a_command_without_a_url_starts_and_stops_it() {
    let nobody = User::from_name("nobody").unwrap().unwrap();
    for user in [None, Some(nobody)] {
        let dir = scratch_dir();
        // The checkout may be closed to that user.
        let binary = dir.join("host");
        std::fs::copy(env!("CARGO_BIN_EXE_host"), &binary).unwrap();
        let mut command = host_command(&["migrate"]);
        if let Some(user) = user.filter(|_| is_root()) {
            chown(&dir, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
            command = std::process::Command::new(&binary);
            command.arg("migrate").env_remove("DATABASE_URL");
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command.current_dir(&dir);
        let finished = finish(command).await;
        assert!(finished.stderr.contains("embedded Postgres"), "{}", finished.stderr);
        assert!(finished.stderr.contains("psql 'postgres://"), "{}", finished.stderr);
        assert!(finished.ok().starts_with("Migrated from version 0"));
        assert!(!dir.join(".host/postgres/data/postmaster.pid").exists(), "it still runs");
    }
}
