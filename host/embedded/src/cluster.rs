//! One cluster: made, started, found running, stopped, all through Postgres's own commands. The
//! caller holds the locks.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use super::account::Account;
use super::binaries::{self, Binaries};
use super::download;
use super::error::{EmbeddedError, failed};
use super::place::Place;

/// How long the server may take to start, in seconds: it may have much to recover.
const START_S_MAX: &str = "600";
/// Another process may take the port between our look and the server's start, and what a killed
/// server left behind may need a moment to notice.
const START_ATTEMPTS: u32 = 8;
const START_PAUSE: Duration = Duration::from_millis(250);
/// A number that no kernel gives to a process.
const NO_PROCESS: i32 = i32::MAX;

/// For a small machine that does other work as well. `ALTER SYSTEM` wins over all of it.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("shared_buffers", "256MB"),
    ("max_wal_size", "4GB"),
    ("wal_compression", "on"),
    ("checkpoint_timeout", "15min"),
    ("max_prepared_transactions", "20"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("lc_messages", "C"),
    ("log_line_prefix", "%m [%p] %q%a "),
];

/// The files of a cluster and the programs that fit them.
#[derive(Debug)]
pub(crate) struct Cluster {
    place: Place,
    account: Account,
    binaries: Binaries,
}

/// A server that accepts connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub url: String,
    pub port: u16,
    pub pid: i32,
    /// By us; else it ran already.
    pub started_here: bool,
}

impl Cluster {
    /// The cluster at a place; made if there is none yet.
    pub(crate) async fn find_or_make(
        place: Place,
        account: Account,
    ) -> Result<Self, EmbeddedError> {
        let major = major_of(&place.data());
        let found = binaries::installed(&account, &place.downloaded(), major).await;
        let binaries = match found {
            Some(binaries) => binaries,
            None => download::download(&account, &place.downloaded(), major).await?,
        };
        let cluster = Self { place, account, binaries };
        if major.is_none() {
            cluster.make().await?;
        }
        Ok(cluster)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn programs(&self) -> &Path {
        &self.binaries.dir
    }

    pub(crate) fn version(&self) -> &str {
        &self.binaries.version
    }

    /// Runs `initdb`. Half a cluster of a start that was killed never gets the right name.
    async fn make(&self) -> Result<(), EmbeddedError> {
        let new = self.place.root().join("data.new");
        if new.exists() {
            fs::remove_dir_all(&new).map_err(failed("remove", &new))?;
        }
        let password_file = self.place.password_file();
        let password = uuid::Uuid::new_v4().simple().to_string();
        self.account.write_private(&password_file, &format!("{password}\n")).await?;
        let mut initdb = self.account.command(self.binaries.program("initdb"));
        initdb.arg("--pgdata").arg(&new).arg("--pwfile").arg(&password_file);
        initdb.args(["--username=postgres", "--encoding=UTF8", "--locale=C"]);
        initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256"]);
        succeed("initdb", &initdb.output().await)?;
        let data = self.place.data();
        fs::rename(&new, &data).map_err(failed("name", &data))
    }

    /// Finds the server running, or starts it.
    pub(crate) async fn ensure_running(
        &self,
        settings: &[(&str, &str)],
    ) -> Result<Running, EmbeddedError> {
        self.disown_stale_pid().await?;
        let mut started_here = false;
        for attempt in 1.. {
            let status = self.pg_ctl(&["status"]).await;
            if status.as_ref().is_ok_and(|output| output.status.success()) {
                break;
            }
            self.configure(settings).await?;
            let log = self.place.log();
            let log = log.to_string_lossy();
            let started = self.pg_ctl(&["start", "-w", "-t", START_S_MAX, "-l", &log]).await;
            match succeed("pg_ctl start", &started) {
                Ok(()) => {
                    started_here = true;
                    break;
                }
                Err(_) if attempt < START_ATTEMPTS => tokio::time::sleep(START_PAUSE).await,
                Err(error) => return Err(self.with_log(error)),
            }
        }
        let running = self.wait_ready().await?;
        Ok(Running { started_here, ..running })
    }

    /// Stops the server; open connections are closed.
    pub(crate) async fn stop(&self) -> Result<(), EmbeddedError> {
        succeed("pg_ctl stop", &self.pg_ctl(&["stop", "-m", "fast", "-w", "-t", START_S_MAX]).await)
    }

    async fn pg_ctl(&self, args: &[&str]) -> std::io::Result<Output> {
        let mut command = self.account.command(self.binaries.program("pg_ctl"));
        command.arg("--pgdata").arg(self.place.data()).args(args).output().await
    }

    /// The number in the pid file may belong to another process by now, or to a zombie that nobody
    /// has reaped; Postgres would take either for the server and refuse to start. The file stays:
    /// by its other lines Postgres makes sure that no orphan still works on the data.
    async fn disown_stale_pid(&self) -> Result<(), EmbeddedError> {
        let data = self.place.data();
        let Some(lines) = pid_file(&data) else { return Ok(()) };
        let linux = Path::new("/proc/self/cmdline").exists();
        let command = fs::read(format!("/proc/{}/cmdline", lines[0])).unwrap_or_default();
        if !linux || String::from_utf8_lossy(&command).contains(&*data.to_string_lossy()) {
            return Ok(());
        }
        let text = format!("{}\n{}\n", NO_PROCESS, lines[1..].join("\n"));
        self.account.write_private(&data.join("postmaster.pid"), &text).await?;
        // Postgres knows these by the same number. The folder is this cluster's alone.
        self.account.remove_sockets(self.place.socket_dir()).await
    }

    /// The cluster is ours alone, so its configuration is written anew at each start.
    async fn configure(&self, settings: &[(&str, &str)]) -> Result<(), EmbeddedError> {
        let port = self.free_port()?.to_string();
        let socket_dir = self.place.socket_dir().to_string_lossy().into_owned();
        let own = [("port", port.as_str()), ("unix_socket_directories", &socket_dir)];
        let mut text =
            "# Written anew at each start. Settings made with ALTER SYSTEM are kept, and win.\n"
                .to_owned();
        for (name, value) in SETTINGS.iter().chain(&own).chain(settings) {
            let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        }
        self.account.write_private(&self.place.data().join("postgresql.conf"), &text).await
    }

    /// The last port if it is still free, so that a connection string lives longer than the server.
    fn free_port(&self) -> Result<u16, EmbeddedError> {
        let text = fs::read_to_string(self.place.data().join("postgresql.conf"));
        let last = text.ok().and_then(|text| {
            let value = text.lines().find_map(|line| line.strip_prefix("port = '"))?;
            value.trim_end_matches('\'').parse::<u16>().ok()
        });
        let free = |port| TcpListener::bind(("127.0.0.1", port)).and_then(|l| l.local_addr());
        last.and_then(|port| free(port).ok())
            .map_or_else(|| free(0), Ok)
            .map(|address| address.port())
            .map_err(failed("find a free port at", Path::new("127.0.0.1")))
    }

    /// Another host's start may have been killed after it launched the server, which may still be
    /// recovering.
    async fn wait_ready(&self) -> Result<Running, EmbeddedError> {
        let started = self.pg_ctl(&["status"]).await;
        succeed("pg_ctl status", &started).map_err(|e| self.with_log(e))?;
        loop {
            if let Some(running) = self.running() {
                return Ok(running);
            }
            let status = self.pg_ctl(&["status"]).await;
            succeed("pg_ctl status", &status).map_err(|e| self.with_log(e))?;
            tokio::time::sleep(START_PAUSE / 5).await;
        }
    }

    /// What `postmaster.pid` says once the server is ready: its lines are process, data, start
    /// time, port, socket folder, address, shared memory and state.
    fn running(&self) -> Option<Running> {
        let lines = pid_file(&self.place.data())?;
        if lines.get(7)?.trim() != "ready" {
            return None;
        }
        let (pid, port) = (lines[0].parse().ok()?, lines[3].parse().ok()?);
        let url = format!("postgres://postgres@/postgres?host={}&port={port}", encode(&lines[4]));
        Some(Running { url, port, pid, started_here: false })
    }

    /// The end of the server's log says more than `pg_ctl` does.
    fn with_log(&self, error: EmbeddedError) -> EmbeddedError {
        let path = self.place.log();
        let text = fs::read_to_string(&path).unwrap_or_default();
        let last = text.lines().rev().find(|line| line.contains("FATAL") || line.contains("ERROR"));
        match (error, last) {
            (EmbeddedError::Command { command, .. }, Some(line)) => EmbeddedError::Command {
                command,
                output: format!("{line} (more in {})", path.display()),
            },
            (error, _) => error,
        }
    }
}

/// The major version that a cluster was made with; `None` if there is no cluster.
fn major_of(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("PG_VERSION")).ok()?.trim().parse().ok()
}

fn pid_file(data: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    (!lines.is_empty()).then_some(lines)
}

/// Percent-encodes what a URL's parameter cannot hold; slashes are fine there.
fn encode(path: &str) -> String {
    path.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

fn succeed(command: &'static str, output: &std::io::Result<Output>) -> Result<(), EmbeddedError> {
    let output = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => {
            let (out, err) = (&output.stdout, &output.stderr);
            let text = String::from_utf8_lossy(if err.is_empty() { out } else { err }).into_owned();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        }
        Err(error) => error.to_string(),
    };
    Err(EmbeddedError::Command { command, output })
}
