//! One private Postgres for the whole run, and a database of its own for each test. A database goes
//! with its test: hundreds of them do not fit on a small disk.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use host_embedded::Embedded;
use host_queue::connect::Database;
use host_queue::migrate::{Migrations, migrate};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

use super::watchdog;

/// A migrated database that no other test knows.
#[derive(Clone, Debug)]
pub struct TestDb {
    /// Its name.
    pub name: String,
    /// How to reach it as its owner.
    pub url: String,
    /// `None` for one that is not of the common server.
    _claim: Option<Arc<Claim>>,
}

/// Names of databases whose tests are over.
static ENDED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps a database until the last who knows it is gone.
#[derive(Debug)]
struct Claim(String);

impl Drop for Claim {
    fn drop(&mut self) {
        ENDED.lock().expect("names").push(std::mem::take(&mut self.0));
    }
}

impl TestDb {
    /// A database with the current schema.
    pub async fn new() -> Self {
        server().await.create(Some(TEMPLATE)).await
    }

    /// A database without any schema.
    pub async fn empty() -> Self {
        server().await.create(None).await
    }

    /// A database on a server of the test's own.
    pub fn elsewhere(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self { name: name.into(), url: url.into(), _claim: None }
    }

    /// The same database, reached in another way.
    pub fn through(&self, url: String) -> Self {
        assert_ne!(url, self.url);
        Self { url, ..self.clone() }
    }

    /// A connection of the test's own.
    pub async fn client(&self) -> Client {
        connect(&self.url).await
    }

    /// Where one of Postgres's programs is.
    pub async fn program_path(&self, name: &str) -> PathBuf {
        server().await.embedded.programs().join(name)
    }

    /// The output of a Postgres program that runs on this database.
    pub async fn program(&self, name: &str, args: &[&str]) -> String {
        let mut command = Command::new(self.program_path(name).await);
        let output = command.args(args).arg(&self.url).output().expect("run a program of Postgres");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// The same database, seen by a new login role that is a member of a group role and nothing
    /// else.
    pub async fn as_member_of(&self, group: &str) -> Self {
        let role = format!("{group}_{}", self.name);
        let create = format!("CREATE ROLE {role} LOGIN IN ROLE {group}");
        self.client().await.batch_execute(&create).await.expect("create a role");
        let url = self.url.replacen("postgres://postgres@", &format!("postgres://{role}@"), 1);
        self.through(url)
    }

    /// The product's handle.
    pub fn database(&self) -> Database {
        Database::new(&self.url, 16).expect("the test's URL is valid")
    }
}

/// Connects as a producer would.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("connect");
    tokio::spawn(connection);
    client
}

const TEMPLATE: &str = "migrated";

struct Server {
    embedded: Embedded,
    next: AtomicU32,
}

static SERVER: OnceCell<Server> = OnceCell::const_new();

async fn server() -> &'static Server {
    SERVER.get_or_init(Server::start).await
}

impl Server {
    async fn start() -> Self {
        let dir = scratch_dir();
        // These tests end processes, never the machine.
        let settings = [
            ("fsync", "off"),
            ("full_page_writes", "off"),
            ("max_connections", "500"),
            ("max_prepared_transactions", "10"),
        ];
        let embedded = Embedded::start_with(&dir, &settings).await.expect("the tests' Postgres");
        watchdog::quit_with_us(embedded.pid());
        let server = Self { embedded, next: AtomicU32::new(0) };
        let template = server.create(None).await;
        let mut alone = template.database().connect_alone().await.expect("connect");
        let files = Migrations::embedded().expect("the migrations");
        migrate(&mut alone.client, &files).await.expect("migrate");
        let tripwire = include_str!("tripwire.sql");
        alone.client.batch_execute(tripwire).await.expect("lay the tripwire");
        drop(alone);
        let admin = connect(server.embedded.url()).await;
        // The server needs a moment to see that the connection is gone.
        let rename = format!("ALTER DATABASE {} RENAME TO {TEMPLATE}", template.name);
        super::wait_until("the template has no connections", async || {
            admin.batch_execute(&rename).await.is_ok()
        })
        .await;
        server
    }

    async fn create(&self, template: Option<&str>) -> TestDb {
        let name = format!("test_{}", self.next.fetch_add(1, Ordering::Relaxed));
        let admin = match tokio_postgres::connect(self.embedded.url(), NoTls).await {
            Ok((admin, connection)) => {
                tokio::spawn(connection);
                admin
            }
            Err(error) => panic!("the tests' Postgres is gone: {error}\n{}", self.last_words()),
        };
        let ended = std::mem::take(&mut *ENDED.lock().expect("names"));
        for name in ended {
            // One that cannot go, as for a prepared transaction, stays.
            let _ = admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
        let template = template.unwrap_or("template0");
        let create = format!("CREATE DATABASE {name} TEMPLATE {template}");
        admin.batch_execute(&create).await.expect("create the test's database");
        let url = self.embedded.url().replacen("/postgres?", &format!("/{name}?"), 1);
        let claim = Arc::new(Claim(name.clone()));
        TestDb { name, url, _claim: Some(claim) }
    }

    /// The end of the server's log.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.embedded.place().join("log"));
        let log = log.unwrap_or_else(|error| error.to_string());
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// A new folder that the server's user can enter; removed after the run.
pub fn scratch_dir() -> PathBuf {
    let dir = tempfile::Builder::new().prefix("host-tests-").tempdir().expect("a folder").keep();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&dir, open).expect("open the folder");
    watchdog::remove_after_us(&dir);
    dir
}

/// Whether this process is root, who must not run Postgres.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
