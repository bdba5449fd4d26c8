//! What the faults befall: a Postgres on a small disk, hosts behind proxies, and the journal of
//! what was done to them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex as StdMutex;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::{Client, NoTls};

use super::fault_kinds::Kind;
use crate::harness::postgres::OwnServer;
use crate::harness::process::{Finished, Serve, finish, host_command};
use crate::harness::proxy::Proxy;
use crate::harness::server::{is_root, scratch_dir};
use crate::harness::watchdog::unmount_after_us;
use crate::harness::{DEADLINE, wait_until};

/// Hosts at once.
pub const HOSTS: usize = 3;
/// Guests trap on command: their last words say nothing new.
const QUIET: &str = "info,guest=off";
const DISK: &str = "size=768m,mode=0755";

/// Everything that a fault can befall.
pub struct World {
    server: Mutex<OwnServer>,
    /// Postgres itself, at its socket.
    pub url: String,
    /// Where Postgres keeps everything, if it could be given a disk of its own.
    pub disk: Option<PathBuf>,
    slots: Vec<Mutex<Slot>>,
    /// In front of each host, and of one producer.
    pub proxies: Vec<Proxy>,
    /// What was done, in the order of its beginning.
    pub journal: StdMutex<Vec<Hit>>,
    /// Held by who uses the queue that comes and goes.
    pub passing: Mutex<()>,
    began: Instant,
}

/// A place for a host: when one ends, another takes it.
pub struct Slot {
    place: usize,
    starts: usize,
    url: String,
    serve: Option<Serve>,
}

/// A fault that was.
#[derive(Clone, Debug)]
pub struct Hit {
    /// Of which kind.
    pub kind: Kind,
    /// The process that it befell; `None`: everybody.
    pub host: Option<String>,
    /// When it began.
    pub begun: SystemTime,
    /// When it was over; `None`: it is not.
    pub over: Option<SystemTime>,
}

impl World {
    /// With no host yet.
    pub async fn new() -> Self {
        let dir = scratch_dir();
        let mount =
            || Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "faults"]).arg(&dir).status();
        let disk = (is_root() && mount().is_ok_and(|s| s.success())).then(|| dir.clone());
        match &disk {
            Some(disk) => unmount_after_us(disk),
            None => eprintln!("no full disk in this run: only root can mount a small one"),
        }
        let settings = [("max_wal_size", "64MB"), ("min_wal_size", "32MB")];
        let server = OwnServer::start(&dir, &settings).await;
        drop(server.migrated().await);
        let mut proxies = Vec::new();
        for _ in 0..=HOSTS {
            proxies.push(Proxy::to(&server.socket()).await);
        }
        let slot = |place: usize| {
            let port = proxies[place].port;
            let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
            Mutex::new(Slot { place, starts: 0, url, serve: None })
        };
        let slots = (0..HOSTS).map(slot).collect();
        let url = server.url().to_owned();
        let (server, journal) = (Mutex::new(server), StdMutex::default());
        let (passing, began) = (Mutex::new(()), Instant::now());
        Self { server, url, disk, slots, proxies, journal, passing, began }
    }

    /// The URL of the producer that has a proxy.
    pub fn proxied_url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.proxies[HOSTS].port)
    }

    /// The place of a host, to the exclusion of other faults there.
    pub async fn slot(&self, place: usize) -> MutexGuard<'_, Slot> {
        self.slots[place].lock().await
    }

    /// Postgres, to the exclusion of other faults of it.
    pub async fn server(&self) -> MutexGuard<'_, OwnServer> {
        self.server.lock().await
    }

    /// Notes that a fault begins. Returns its number.
    pub fn begin(&self, kind: Kind, host: Option<&str>) -> usize {
        let at = self.began.elapsed().as_secs_f32();
        eprintln!("{at:6.1} s  {kind:?} {}", host.unwrap_or_default());
        let (host, begun) = (host.map(str::to_owned), SystemTime::now());
        let mut journal = self.journal.lock().expect("the journal");
        journal.push(Hit { kind, host, begun, over: None });
        journal.len() - 1
    }

    /// Notes that it is over.
    pub fn over(&self, hit: usize) {
        self.journal.lock().expect("the journal")[hit].over = Some(SystemTime::now());
    }

    /// A connection that no fault spares.
    pub async fn connect(&self) -> Option<Client> {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    /// Asks Postgres until it answers.
    pub async fn patiently<T>(
        &self,
        ask: impl AsyncFn(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> T {
        let started = Instant::now();
        loop {
            let error = match self.connect().await {
                None => "no connection".to_owned(),
                Some(client) => match ask(&client).await {
                    Ok(answer) => return answer,
                    Err(error) => format!("{error:?}"),
                },
            };
            assert!(started.elapsed() < DEADLINE, "Postgres does not answer: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A number that SQL says.
    pub async fn number(&self, sql: &str) -> i64 {
        let sql = format!("SELECT ({sql})::bigint");
        self.patiently(async |client| Ok(client.query_one(&sql, &[]).await?.get(0))).await
    }

    /// Runs SQL that can be repeated.
    pub async fn run(&self, sql: &str) {
        self.patiently(async |client| client.batch_execute(sql).await).await;
    }

    /// What an operator's command did.
    pub async fn operate(&self, args: &[&str]) -> Finished {
        let mut command = host_command(args);
        command.env("DATABASE_URL", &self.url);
        finish(command).await
    }

    /// The same until it succeeds, or until its refusal says that it has: a reply may be lost.
    pub async fn operate_patiently(&self, args: &[&str], done_already: &str) {
        let mut last = None;
        let started = Instant::now();
        while started.elapsed() < DEADLINE {
            let done = self.operate(args).await;
            if done.code == 0 || done.stderr.contains(done_already) {
                return;
            }
            last = Some(done);
        }
        panic!("host {} does not succeed: {last:?}", args.join(" "));
    }

    /// The live session of a host, once it has one.
    pub async fn session(&self, host: &str) -> i64 {
        let live =
            format!("SELECT id FROM host.session WHERE host_name = '{host}' AND ended_at IS NULL");
        let sql = format!("coalesce(({live} ORDER BY id DESC LIMIT 1), 0)");
        let mut session = 0;
        wait_until(&format!("host {host} has a session"), async || {
            session = self.number(&sql).await;
            session > 0
        })
        .await;
        session
    }

    /// Waits until another host has found a session dead.
    pub async fn wait_lost(&self, session: i64) {
        let sql = format!("SELECT count(*) FROM host.session WHERE id = {session} AND lost");
        wait_until(&format!("session {session} is held for dead"), async || {
            self.number(&sql).await == 1
        })
        .await;
    }
}

impl Slot {
    /// Starts a host here.
    pub fn start(&mut self) {
        self.starts += 1;
        let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled");
        let mut command = host_command(&[
            "serve",
            "--name",
            &self.name(),
            "--cache",
            cache,
            "--log-level",
            QUIET,
        ]);
        command.env("DATABASE_URL", &self.url);
        self.serve = Some(Serve::spawn(command));
    }

    /// What the process here calls itself.
    pub fn name(&self) -> String {
        format!("h{}-{}", self.place, self.starts)
    }

    /// The process here.
    pub fn host(&self) -> &Serve {
        self.serve.as_ref().expect("a host is here")
    }

    /// Takes it away, to end it.
    pub fn take(&mut self) -> Serve {
        self.serve.take().expect("a host is here")
    }
}
