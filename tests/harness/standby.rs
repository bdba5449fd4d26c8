//! A streaming standby of a test's own server, which can take its place.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use super::postgres::OwnServer;
use super::proxy::Proxy;
use super::server::{connect, scratch_dir};
use super::watchdog::quit_with_us;
use super::{Scene, TestDb, wait_until};

/// What it is called in the primary's `synchronous_standby_names`.
const NAME: &str = "standby";

/// It follows until it is promoted.
#[derive(Debug)]
pub struct Standby {
    dir: PathBuf,
    url: String,
    /// Between the primary and it: what does not pass here, it never learns.
    pub replication: Proxy,
}

impl Standby {
    /// Copies the primary and follows it. From then on the primary's commits wait for it, but for
    /// those that wait for nothing.
    pub async fn of(primary: &OwnServer) -> Self {
        let replication = Proxy::to(&primary.socket()).await;
        let dir = scratch_dir();
        let standby = Self { url: String::new(), dir, replication };
        let standby = standby.start(primary);
        let on_primary = connect(primary.url()).await;
        let wait = format!("ALTER SYSTEM SET synchronous_standby_names = '{NAME}'");
        on_primary.batch_execute(&wait).await.expect("have commits wait");
        on_primary.batch_execute("SELECT pg_reload_conf()").await.expect("have commits wait");
        let waits = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        wait_until("commits wait for the standby", async || {
            on_primary.query_one(waits, &[]).await.expect("ask").get::<_, i64>(0) == 1
        })
        .await;
        standby
    }

    fn start(mut self, primary: &OwnServer) -> Self {
        let owner = std::fs::metadata(primary.socket()).expect("the socket");
        chown(&self.dir, Some(owner.uid()), Some(owner.gid())).expect("give the folder away");
        let data = self.dir.join("data");
        let as_owner = |program: &str| {
            let mut command = Command::new(primary.programs().join(program));
            command.uid(owner.uid()).gid(owner.gid()).current_dir("/");
            command
        };
        let mut copy = as_owner("pg_basebackup");
        copy.args(["--checkpoint=fast", "--write-recovery-conf", "--no-sync", "-D"]).arg(&data);
        run(copy.args(["-d", primary.url()]));
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).expect("close it");
        let port = free_port();
        let (socket, from) = (self.dir.display(), self.replication.port);
        let settings = format!(
            "port = {port}\nlisten_addresses = ''\nunix_socket_directories = '{socket}'\nfsync = off\nlog_line_prefix = '%m [%p] '\n\
             primary_conninfo = 'host=127.0.0.1 port={from} user=postgres application_name={NAME} sslmode=disable'\n"
        );
        // Read last, so that it wins.
        std::fs::write(data.join("postgresql.auto.conf"), settings).expect("its settings");
        let mut start = as_owner("pg_ctl");
        run(start.arg("-D").arg(&data).arg("-l").arg(self.dir.join("log")).args(["-w", "start"]));
        let pid = std::fs::read_to_string(data.join("postmaster.pid")).expect("its process");
        quit_with_us(pid.lines().next().and_then(|pid| pid.parse().ok()).expect("its process"));
        self.url = format!("postgres://postgres@/postgres?host={socket}&port={port}");
        self
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        let port = self.url.rsplit('=').next().expect("a port");
        self.dir.join(format!(".s.PGSQL.{port}"))
    }

    /// Follows no more; takes writes.
    pub async fn promote(&self) {
        let client = connect(&self.url).await;
        let promoted = client.query_one("SELECT pg_promote()", &[]).await.expect("promote");
        assert!(promoted.get::<_, bool>(0));
    }

    /// Its database, once it has been promoted.
    pub async fn scene(&self) -> Scene {
        Scene::of(TestDb::elsewhere("postgres", &self.url)).await
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            eprintln!("--- log of the standby:\n{log}");
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("run a program of Postgres");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its port").port()
}
