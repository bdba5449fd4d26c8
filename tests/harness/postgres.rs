//! A Postgres of a test's own, for a test that crashes it, fills its disk or replaces it.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use host_embedded::Embedded;
use host_queue::connect::Database;
use host_queue::migrate::{Migrations, migrate};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::watchdog::quit_with_us;
use super::{Scene, TestDb, wait_until};

/// A server. It keeps what it has said is durable: the machine does not go with it.
#[derive(Debug)]
pub struct OwnServer {
    dir: PathBuf,
    settings: Vec<(&'static str, &'static str)>,
    url: String,
    pid: i32,
    running: Option<Embedded>,
}

impl OwnServer {
    /// Makes one in a folder and starts it.
    pub async fn start(dir: &Path, settings: &[(&'static str, &'static str)]) -> Self {
        let settings = [&[("fsync", "off")], settings].concat();
        let (dir, url) = (dir.to_owned(), String::new());
        let mut server = Self { dir, settings, url, pid: 0, running: None };
        server.start_again().await;
        server
    }

    /// The URL of its superuser on the database `postgres`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        let config: tokio_postgres::Config = self.url.parse().expect("a URL");
        let [tokio_postgres::config::Host::Unix(dir)] = config.get_hosts() else {
            panic!("not at a socket: {}", self.url)
        };
        dir.join(format!(".s.PGSQL.{}", config.get_ports()[0]))
    }

    /// The database `postgres`, with the current schema.
    pub async fn migrated(&self) -> Scene {
        let mut alone = Database::new(&self.url, 4).unwrap().connect_alone().await.unwrap();
        migrate(&mut alone.client, &Migrations::embedded().unwrap()).await.unwrap();
        self.scene().await
    }

    /// The database `postgres`, as it is.
    pub async fn scene(&self) -> Scene {
        Scene::of(TestDb::elsewhere("postgres", &self.url)).await
    }

    /// The process number of its main process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        std::fs::read_link(format!("/proc/{}/exe", self.pid)).is_ok()
    }

    /// As `pg_ctl stop -m immediate` does: every backend is gone in an instant. Waits until it is.
    pub async fn crash(&mut self) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGQUIT);
        wait_until("the server is gone", async || !self.runs()).await;
        self.running = None;
    }

    /// Starts it where it was. What it had not finished is replayed from its log.
    pub async fn start_again(&mut self) {
        self.running = None;
        let embedded = Embedded::start_with(&self.dir, &self.settings).await.expect("a server");
        assert!(
            self.url.is_empty() || self.url == embedded.url(),
            "clients look for it where it was"
        );
        quit_with_us(embedded.pid());
        embedded.url().clone_into(&mut self.url);
        self.pid = embedded.pid();
        self.running = Some(embedded);
    }

    /// Crashes it and starts it again by a clock of its own, which shows as much more than the
    /// machine's as the file says (`+3600`, in seconds), and follows it. Needs Debian's
    /// `libfaketime`.
    pub async fn start_by_a_clock(&mut self, library: &Path, file: &Path) {
        let client = super::server::connect(&self.url).await;
        let data = client.query_one("SHOW data_directory", &[]).await.expect("its folder");
        let data: PathBuf = data.get::<_, String>(0).into();
        let owner = std::fs::metadata(&data).expect("its folder");
        let pg_ctl = self.programs().join("pg_ctl");
        self.crash().await;
        let mut start = Command::new(pg_ctl);
        start.uid(owner.uid()).gid(owner.gid()).current_dir("/");
        start.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", file);
        start.env("FAKETIME_NO_CACHE", "1").env("DONT_FAKE_MONOTONIC", "1");
        start.arg("-D").arg(&data).arg("-l").arg(data.join("clock.log")).args(["-w", "start"]);
        let output = start.output().expect("run pg_ctl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // It runs: this only takes it over.
        self.start_again().await;
    }

    /// The folder of the server's programs.
    pub fn programs(&self) -> PathBuf {
        self.running.as_ref().expect("it runs").programs().to_owned()
    }
}
