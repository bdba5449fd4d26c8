//! A private Postgres below `.host`, for when no database URL is given. Shared by all hosts of the
//! directory; the last one to stop stops it, and a killed one leaves nothing that a later start
//! cannot pick up. Runs Postgres's own commands, never a query.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use self::account::Account;
use self::cluster::Cluster;
pub use self::error::EmbeddedError;
use self::error::failed;
use self::place::Place;

mod account;
mod binaries;
mod cluster;
mod download;
mod error;
mod place;
mod record;

/// The private server, kept running for as long as a host has one of these.
#[derive(Debug)]
pub struct Embedded {
    cluster: Cluster,
    locks: Locks,
    running: cluster::Running,
}

/// The kernel releases both when the process ends, however it ends.
#[derive(Debug)]
struct Locks {
    /// Exclusive while a host starts or stops the server.
    change: (File, PathBuf),
    /// Shared by all hosts that use the server.
    users: (File, PathBuf),
}

impl Embedded {
    /// Finds the server of `dir` running, or starts it; makes it first if there is none.
    pub async fn start(dir: &Path) -> Result<Self, EmbeddedError> {
        Self::start_with(dir, &[]).await
    }

    /// Like `start`, with settings for `postgresql.conf` that win over the usual ones. They hold
    /// from the server's next start.
    pub async fn start_with(dir: &Path, settings: &[(&str, &str)]) -> Result<Self, EmbeddedError> {
        let dir = &place::own(dir)?;
        let locks = Locks::open(dir)?;
        locks.begin_change().await?;
        locks.users.0.lock_shared().map_err(failed("lock", &locks.users.1))?;
        let account = Account::choose(dir)?;
        let place = Place::of(dir, &account).await?;
        let cluster = Cluster::find_or_make(place, account).await?;
        let running = cluster.ensure_running(settings).await?;
        locks.end_change()?;
        Ok(Self { cluster, locks, running })
    }

    /// The superuser's URL, over the Unix socket.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.running.url
    }

    /// One line for people: where it is, and how to connect.
    #[must_use]
    pub fn describe(&self) -> String {
        format!(
            "embedded Postgres {} in {}: psql '{}'  (or 127.0.0.1:{}, password in {})",
            self.cluster.version(),
            self.cluster.place().root().display(),
            self.running.url,
            self.running.port,
            self.cluster.place().password_file().display(),
        )
    }

    /// Whether the server did not run before.
    #[must_use]
    pub const fn started_here(&self) -> bool {
        self.running.started_here
    }

    /// The folder of the server's data, log and socket.
    #[must_use]
    pub fn place(&self) -> &Path {
        self.cluster.place().root()
    }

    /// The folder of the server's programs, `pg_dump` among them.
    #[must_use]
    pub fn programs(&self) -> &Path {
        self.cluster.programs()
    }

    /// The process number of the server's main process.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.running.pid
    }

    /// Stops the server unless another host uses it. True if it was stopped.
    pub async fn stop_if_last(self) -> Result<bool, EmbeddedError> {
        self.locks.begin_change().await?;
        let users = &self.locks.users;
        users.0.unlock().map_err(failed("unlock", &users.1))?;
        let last = users.0.try_lock().is_ok();
        if last {
            self.cluster.stop().await?;
        }
        Ok(last)
    }
}

impl Locks {
    fn open(dir: &Path) -> Result<Self, EmbeddedError> {
        let open = |name| {
            let path = dir.join(name);
            let mut options = File::options();
            options.create(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            let file = options.open(&path);
            Ok((file.map_err(failed("open", &path))?, path))
        };
        Ok(Self { change: open("change.lock")?, users: open("users.lock")? })
    }

    /// Waits for other hosts that start or stop the server, off the async threads.
    async fn begin_change(&self) -> Result<(), EmbeddedError> {
        let (file, path) = &self.change;
        let file = file.try_clone().map_err(failed("open", path))?;
        tokio::task::spawn_blocking(move || file.lock())
            .await
            .unwrap_or_else(|e| Err(io::Error::other(e)))
            .map_err(failed("lock", path))
    }

    fn end_change(&self) -> Result<(), EmbeddedError> {
        self.change.0.unlock().map_err(failed("unlock", &self.change.1))
    }
}
