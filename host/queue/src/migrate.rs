//! Brings a database to the schema of this binary, and says whether it has it. The files are in
//! `migrations/`, whose README has the rules. Never touches a message.

use std::fmt;
use std::time::Duration;

use futures_util::future;
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::{Client, GenericClient};

use super::error::QueueError;

pub use self::files::{File, Migrations};
use self::run::Run;
use self::schemas::Schemas;

mod files;
mod parts;
pub mod restore;
mod run;
mod schemas;

/// For how long it waits for one lock, and producers with it, before it gives way and tries again.
pub const LOCK_TIMEOUT: Duration = Duration::from_millis(20);

/// Held while migrating; the number means nothing.
const LOCK: i64 = 7_326_104_881_203;

/// For the connection that migrates: what is parsed here means the same on every server.
const SETTINGS: &str = include_str!("migrate/settings.sql");

/// SQLSTATEs of a call into a schema that is not there, or older than the function.
const NO_SCHEMA: &str = "3F000";
const NO_FUNCTION: &str = "42883";
/// What stands before the digest of the functions until all queues have theirs.
const UNFINISHED: &str = "unfinished ";

/// Why a database was not migrated.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The files do not make sense together.
    #[error("migrations: {0}")]
    Files(String),
    /// An applied migration is not the file of that number here.
    #[error(
        "migration {0} differs from the one that was applied to this database: \
         an applied migration must not change; add a new one"
    )]
    Edited(String),
    /// The database is ahead.
    #[error("{0}")]
    Newer(SchemaState),
    /// A file failed; nothing of it was kept.
    #[error("{file}, line {line}: {source}")]
    Failed {
        /// Its path below `migrations/`.
        file: String,
        /// Where Postgres saw the error; 1 when it did not say.
        line: usize,
        /// What Postgres said.
        source: QueueError,
    },
    /// A queue could not be brought to the schema; those before it are, and the next run goes on
    /// with it.
    #[error("queue {queue:?}: {source}")]
    QueueFailed {
        /// Its name.
        queue: String,
        /// What Postgres said.
        source: QueueError,
    },
    /// Others held locks that it needs, for as long as it tried.
    #[error(
        "{what} could not be changed for {} s: {holders}. End that and run `host migrate` again, which goes on there; \
         or let it, and those who enqueue, wait longer for each lock: --lock-timeout 500ms",
        .waited.as_secs()
    )]
    InTheWay {
        /// What it could not lock.
        what: String,
        /// Who holds which lock, in words.
        holders: String,
        /// For how long it tried.
        waited: Duration,
    },
    /// The server has too little room for locks.
    #[error(
        "{what} has more tables than the server has room for locks: set max_locks_per_transaction = {needed} (it is \
         {now}) in postgresql.conf, restart Postgres, and run `host migrate` again, which goes on there"
    )]
    FewLocks {
        /// What it could not lock.
        what: String,
        /// The setting.
        now: i64,
        /// What it has to be.
        needed: i64,
    },
    /// The database could not be asked.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl MigrateError {
    /// What Postgres said, if it was asked.
    pub(self) const fn postgres(&self) -> Option<&QueueError> {
        match self {
            Self::Failed { source, .. }
            | Self::QueueFailed { source, .. }
            | Self::Queue(source) => Some(source),
            _ => None,
        }
    }
}

impl From<tokio_postgres::Error> for MigrateError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Queue(error.into())
    }
}

/// A database's schema beside this binary's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// The same.
    Current {
        /// Both versions.
        version: i32,
    },
    /// Migrations are missing, or (with equal versions) functions differ.
    Older {
        /// The database's version; 0 when it was never migrated.
        have: i32,
        /// This binary's.
        want: i32,
    },
    /// An upgrade has not reached all queues.
    Unfinished {
        /// Both versions.
        version: i32,
    },
    /// A later release migrated it.
    Newer {
        /// The database's version.
        have: i32,
        /// This binary's.
        want: i32,
    },
}

impl fmt::Display for SchemaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Current { version } => write!(f, "the schema is current (version {version})"),
            Self::Older { have: 0, .. } => {
                write!(f, "this database has no schema yet: run `host migrate`")
            }
            Self::Older { have, want } if have == want => {
                write!(f, "the schema's functions differ from this host's: run `host migrate`")
            }
            Self::Older { have, want } => write!(
                f,
                "the schema has version {have}, this host needs {want}: run `host migrate`"
            ),
            Self::Unfinished { version } => write!(
                f,
                "an upgrade of the schema to version {version} has not reached all queues: run \
                 `host migrate`, which goes on where it stopped"
            ),
            Self::Newer { have, want } => write!(
                f,
                "this host is older than the schema (it knows version {want}, the schema has \
                 {have}): upgrade host"
            ),
        }
    }
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The version before; 0 for a new database.
    pub from: i32,
    /// The version after.
    pub to: i32,
    /// The numbered migrations that were applied, by file name.
    pub applied: Vec<String>,
    /// Whether the functions were replaced.
    pub functions_replaced: bool,
    /// How many privileges the group roles lacked, and were granted.
    pub granted: i32,
    /// The group roles that there are none of, and that the connection's role may not create.
    pub missing_roles: Vec<String>,
}

/// What a run is at, for whoever watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A queue is next: so many of so many are done.
    Queue {
        /// Its name.
        name: &'a str,
        /// Queues that this run has brought to the schema.
        done: usize,
        /// Queues that it found behind.
        of: usize,
    },
    /// Others hold locks that it needs. It tries again.
    Waits {
        /// What it cannot lock, and who holds which lock.
        text: &'a str,
    },
}

/// Applies what is missing. Several may try at once: one works, the others wait and find nothing to
/// do. Needs a connection outside a pool, since it holds a session lock.
pub async fn migrate(client: &mut Client, files: &Migrations) -> Result<Report, MigrateError> {
    migrate_watched(client, files, LOCK_TIMEOUT, &mut |_| {}).await
}

/// As [`migrate`], with a limit of its own for how long it and producers wait for a lock, and
/// somebody who watches.
pub async fn migrate_watched(
    client: &mut Client,
    files: &Migrations,
    lock_timeout: Duration,
    watch: &mut (dyn FnMut(Step<'_>) + Send),
) -> Result<Report, MigrateError> {
    client.batch_execute(SETTINGS).await?;
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    let mut result = migrate_locked(client, files, lock_timeout, watch).await;
    if let Err(error) = &mut result {
        count_locks(client, error).await;
    }
    // After an error the connection may be gone, and its lock with it.
    let unlocked = client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await;
    let report = result?;
    unlocked?;
    Ok(report)
}

/// Where the server had no room for locks, says how much it needs, if it can be asked.
async fn count_locks(client: &Client, error: &mut MigrateError) {
    let few = |text: &str| text.contains("max_locks_per_transaction");
    if !matches!(error.postgres(), Some(QueueError::Unready(text)) if few(text)) {
        return;
    }
    let (queue, what) = match error {
        MigrateError::QueueFailed { queue, .. } => (Some(&*queue), format!("queue {queue:?}")),
        _ => (None, "the schema".to_owned()),
    };
    let call = "SELECT now, needed FROM host.migration_locks($1)";
    if let Ok(row) = client.query_one(call, &[&queue]).await {
        *error = MigrateError::FewLocks { what, now: row.get(0), needed: row.get(1) };
    }
}

async fn migrate_locked(
    client: &mut Client,
    files: &Migrations,
    lock_timeout: Duration,
    watch: &mut (dyn FnMut(Step<'_>) + Send),
) -> Result<Report, MigrateError> {
    let schemas = Schemas::look(client).await?;
    let before = if schemas.has_migrations() { applied(client).await? } else { Vec::new() };
    let from = before.last().map_or(0, |(version, _)| *version);
    if from > files.version() {
        return Err(MigrateError::Newer(SchemaState::Newer { have: from, want: files.version() }));
    }
    if from == 0 {
        schemas.refuse_taken()?;
    }
    for (migration, (_, sha256)) in files.numbered.iter().zip(&before) {
        if !migration.has_been(sha256) {
            return Err(MigrateError::Edited(migration.file.path.clone()));
        }
    }
    apply(client, &files.bootstrap).await?;
    // Somebody else could have made the schema since: then nothing in it is called.
    Schemas::look(client).await?;
    let mut report = Run::new(client, files, from, lock_timeout, watch).all().await?;
    let row = client.query_one("SELECT * FROM host.migration_grant()", &[]).await?;
    (report.granted, report.missing_roles) = (row.get(0), row.get(1));
    Ok(report)
}

async fn apply(client: &impl GenericClient, file: &File) -> Result<(), MigrateError> {
    client.batch_execute(&file.sql).await.map_err(|error| MigrateError::Failed {
        file: file.path.clone(),
        line: line_of(&error, &file.sql),
        source: error.into(),
    })
}

fn line_of(error: &tokio_postgres::Error, sql: &str) -> usize {
    match error.as_db_error().and_then(|db| db.position()) {
        Some(ErrorPosition::Original(at)) => {
            1 + sql.chars().take(*at as usize).filter(|c| *c == '\n').count()
        }
        _ => 1,
    }
}

/// Compares a database with this binary. `host serve` goes on only with `Current`.
pub async fn check(client: &Client, files: &Migrations) -> Result<SchemaState, QueueError> {
    let version = files.version();
    let checked = check_and(client, files, async {}).await?;
    Ok(checked.map_or_else(|state| state, |()| SchemaState::Current { version }))
}

/// The same, and what `question` brings, which goes out in the same round trip as the check. It may
/// call what is in the schemas, since they can be trusted by then, but change nothing: the schema
/// may turn out to be another's. Then that is the answer.
pub async fn check_and<T>(
    client: &Client,
    files: &Migrations,
    question: impl Future<Output = T>,
) -> Result<Result<T, SchemaState>, QueueError> {
    let want = files.version();
    if !Schemas::look(client).await?.has_migrations() {
        return Ok(Err(SchemaState::Older { have: 0, want }));
    }
    let (before, functions, answer) =
        future::join3(applied(client), functions_sha256(client), question).await;
    let have = before?.last().map_or(0, |(version, _)| *version);
    if have > want {
        return Ok(Err(SchemaState::Newer { have, want }));
    } else if have < want {
        return Ok(Err(SchemaState::Older { have, want }));
    }
    Ok(match functions? {
        Some(functions) if functions == files.functions_sha256() => Ok(answer),
        Some(functions) if functions.starts_with(UNFINISHED) => {
            Err(SchemaState::Unfinished { version: want })
        }
        _ => Err(SchemaState::Older { have, want }),
    })
}

/// Version and digest of what was applied, in order; none in a database without our schema.
async fn applied(client: &Client) -> Result<Vec<(i32, String)>, QueueError> {
    match client.query_typed("SELECT * FROM host.migration_applied()", &[]).await {
        Ok(rows) => Ok(rows.iter().map(|row| (row.get(0), row.get(2))).collect()),
        Err(error) => none_without_schema(error.into(), Vec::new()),
    }
}

async fn functions_sha256(client: &impl GenericClient) -> Result<Option<String>, QueueError> {
    match client.query_typed_one("SELECT host.migration_functions_sha256()", &[]).await {
        Ok(row) => Ok(row.get(0)),
        Err(error) => none_without_schema(error.into(), None),
    }
}

fn none_without_schema<T>(error: QueueError, none: T) -> Result<T, QueueError> {
    let missing = error.is_refused_with(NO_SCHEMA) || error.is_refused_with(NO_FUNCTION);
    if missing { Ok(none) } else { Err(error) }
}
