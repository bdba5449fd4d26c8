//! One private Postgres for the whole run, and a database of its own for each test.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use host::embedded::Embedded;
use host::queue::connect::Database;
use host::queue::migrate::{Migrations, migrate};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

/// A migrated database that no other test knows.
#[derive(Clone, Debug)]
pub struct TestDb {
    /// Its name.
    pub name: String,
    /// How to reach it as its owner.
    pub url: String,
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

    /// A connection of the test's own.
    pub async fn client(&self) -> Client {
        connect(&self.url).await
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
        let settings = [("fsync", "off"), ("full_page_writes", "off"), ("max_connections", "500")];
        let embedded = Embedded::start_with(&dir, &settings).await.expect("the tests' Postgres");
        outlive_nobody(embedded.pid(), &[&dir, embedded.place()]);
        let server = Self { embedded, next: AtomicU32::new(0) };
        let template = server.create(None).await;
        let mut alone = template.database().connect_alone().await.expect("connect");
        let files = Migrations::embedded().expect("the migrations");
        migrate(&mut alone.client, &files).await.expect("migrate");
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
        let admin = connect(self.embedded.url()).await;
        let template = template.unwrap_or("template0");
        let create = format!("CREATE DATABASE {name} TEMPLATE {template}");
        admin.batch_execute(&create).await.expect("create the test's database");
        let url = self.embedded.url().replacen("/postgres?", &format!("/{name}?"), 1);
        TestDb { name, url }
    }
}

/// A new folder that the server's user can enter.
pub fn scratch_dir() -> std::path::PathBuf {
    let dir = tempfile::Builder::new().prefix("host-tests-").tempdir().expect("a folder").keep();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&dir, open).expect("open the folder");
    dir
}

/// A shell that waits for its input to end, which happens when this process does, be it by a panic
/// or by kill -9; then it ends what the tests started and removes their folders. What it is told to
/// end is a process number and the program that it must still be running.
const WATCHDOG: &str = r#"
while read -r pid program; do started="$started $pid:$program"; done
for entry in $started; do
    pid=${entry%%:*}
    [ "$(readlink "/proc/$pid/exe")" = "${entry#*:}" ] && kill -9 "$pid"
done
kill -QUIT "$POSTGRES" 2>/dev/null
# Not kill -0: a zombie that nobody has reaped is gone enough.
while [ -n "$(readlink "/proc/$POSTGRES/exe")" ]; do sleep 0.1; done
rm -rf "$@"
"#;

static WATCHDOG_INPUT: Mutex<Option<ChildStdin>> = Mutex::new(None);

fn outlive_nobody(postgres: i32, folders: &[&Path]) {
    let mut watchdog = Command::new("/bin/sh")
        .args(["-c", WATCHDOG, "sh"])
        .args(folders)
        .env("POSTGRES", postgres.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A Ctrl-C at the terminal is for the tests.
        .process_group(0)
        .spawn()
        .expect("the watchdog");
    *WATCHDOG_INPUT.lock().expect("the watchdog's input") = watchdog.stdin.take();
}

/// Has a process ended with this one, should the test not come to it.
pub fn end_with_us(pid: u32, program: &Path) {
    if let Some(input) = WATCHDOG_INPUT.lock().expect("the watchdog's input").as_mut() {
        let _ = writeln!(input, "{pid} {}", program.display());
    }
}

/// Whether a folder belongs to root, for tests that run as anybody.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}
