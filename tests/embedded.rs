//! The embedded Postgres: shared, stopped by the last, found again after any kill, and possible for
//! root, for anybody, and below a folder that Postgres's user cannot enter.

use std::fs::{Permissions, metadata, set_permissions, symlink_metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use futures_util::future::join_all;
use host_embedded::Embedded;
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

/// Root's file, that somebody would like to have; with its owner, mode and text.
fn precious() -> (std::path::PathBuf, impl Fn() -> (u32, u32, String)) {
    let file = scratch_dir().join("precious");
    std::fs::write(&file, "keep me").unwrap();
    let path = file.clone();
    let state = move || {
        let found = metadata(&path).unwrap();
        (found.uid(), found.mode(), std::fs::read_to_string(&path).unwrap())
    };
    (file, state)
}

async fn refusal(dir: &Path) -> String {
    Embedded::start(dir).await.map(drop).expect_err("it was believed").to_string()
}

#[tokio::test]
async fn root_believes_nothing_that_somebody_else_has_prepared() {
    if !is_root() {
        return;
    }
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let give = |path: &Path| chown(path, Some(nobody.uid.as_raw()), None).unwrap();
    let (file, state) = precious();
    let kept = state();
    let folder = scratch_dir();
    let folder_mode = metadata(&folder).unwrap().mode();

    // A folder `.host` of theirs, in a folder that root may well be in.
    let theirs = scratch_dir().join(".host");
    std::fs::create_dir_all(theirs.join("postgres")).unwrap();
    symlink(&file, theirs.join("postgres/password")).unwrap();
    symlink(&file, theirs.join("change.lock")).unwrap();
    give(&theirs);
    give(&theirs.join("postgres"));
    let text = refusal(&theirs).await;
    assert!(text.contains(&format!("belongs to user {}", nobody.uid)), "{text}");
    std::fs::write(theirs.join("place"), folder.display().to_string()).unwrap();
    refusal(&theirs).await;
    // A link of theirs to a folder of root's.
    let around = scratch_dir();
    symlink(&folder, around.join(".host")).unwrap();
    refusal(&around.join(".host")).await;
    // A folder of root's, that they can exchange for another.
    give(&around);
    let text = refusal(&around.join("mine")).await;
    assert!(text.contains("belongs to user"), "{text}");
    refusal(&around.join("a/b/mine")).await;
    assert_eq!(std::fs::read_dir(&around).unwrap().count(), 1, "refused before anything is made");
    let open = scratch_dir();
    set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    let text = refusal(&open.join(".host")).await;
    assert!(text.contains("everybody can write to"), "{text}");
    assert_eq!(std::fs::read_dir(&open).unwrap().count(), 0, "refused before anything is made");
    // Even root's own word does not make a folder of root's the server's.
    let ours = scratch_dir().join(".host");
    std::fs::create_dir(&ours).unwrap();
    std::fs::write(ours.join("place"), folder.display().to_string()).unwrap();
    let text = refusal(&ours).await;
    assert!(text.contains("belongs to user 0"), "{text}");

    assert_eq!(state(), kept);
    let found = metadata(&folder).unwrap();
    assert_eq!((found.uid(), found.mode()), (0, folder_mode));
}

#[tokio::test]
async fn the_servers_user_cannot_lead_root_out_of_its_folder() {
    if !is_root() {
        return;
    }
    let (file, state) = precious();
    let kept = state();
    let dir = scratch_dir().join(".host");
    let host = start(&dir).await;
    let place = host.place().to_owned();
    host.stop_if_last().await.unwrap();
    let data = place.join("data");
    let plant = |names: &[&str], target: &Path| {
        for name in names {
            let _ = std::fs::remove_file(place.join(name));
            symlink(target, place.join(name)).unwrap();
        }
    };
    let folder = scratch_dir();
    std::fs::write(folder.join(".s.PGSQL.1"), "").unwrap();
    let is_link = |name: &str| symlink_metadata(place.join(name)).unwrap().is_symlink();

    // What the user who owns that folder can do to it, before there are data, and after.
    std::fs::remove_dir_all(&data).unwrap();
    plant(&["password", "password.new"], &file);
    plant(&["data.new"], &folder);
    start(&dir).await.stop_if_last().await.unwrap();
    plant(&["data/postgresql.conf", "data/postgresql.conf.new"], &file);
    start(&dir).await.stop_if_last().await.unwrap();
    assert!(!is_link("password") && !is_link("data/postgresql.conf"));
    // As after a reboot, when old sockets are removed.
    std::fs::remove_dir_all(place.join("socket")).unwrap();
    plant(&["socket"], &folder);
    let pid = format!("{}\n{}\n", std::process::id(), data.display());
    std::fs::write(data.join("postmaster.pid"), pid).unwrap();
    if let Ok(host) = Embedded::start(&dir).await {
        host.stop_if_last().await.unwrap();
    }

    assert_eq!(state(), kept);
    assert!(folder.join(".s.PGSQL.1").exists(), "root has removed it");
    assert_eq!(metadata(&folder).unwrap().uid(), 0);
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

#[tokio::test]
async fn only_the_command_that_starts_it_says_where_it_is() {
    let dir = scratch_dir();
    let list = async || {
        let mut command = host_command(&["queue", "list"]);
        command.current_dir(&dir);
        let finished = finish(command).await;
        finished.stderr.lines().filter(|line| line.contains("embedded Postgres")).count()
    };
    assert_eq!(list().await, 1);
    let running = start(&dir.join(".host")).await;
    assert_eq!(list().await, 0);
    running.stop_if_last().await.unwrap();
}

/// It outlives the command, and whoever shares its user can read its environment.
#[tokio::test]
async fn the_server_sees_little_of_the_environment() {
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "cargo runs the tests");
    let running = start(&scratch_dir()).await;
    let seen = std::fs::read(format!("/proc/{}/environ", running.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&seen).contains("CARGO_MANIFEST_DIR"));
    running.stop_if_last().await.unwrap();
}
