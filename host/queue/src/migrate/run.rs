//! One run of the migrations: first what is no queue's, in one transaction; then each queue, in one
//! of its own. Never waits for a lock longer than its limit, since others wait behind it: it gives
//! way, and tries again.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, Transaction};

use super::files::{self, Migrations};
use super::{MigrateError, Report, Step, UNFINISHED, apply, functions_sha256};
use crate::error::QueueError;

/// For so long it tries to lock one thing.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause after a try. It grows, so that others wait for a small part of the time only.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// From then on it says what it waits for, and again after so long.
const SILENCE: Duration = Duration::from_secs(1);
const SILENCE_BETWEEN: Duration = Duration::from_secs(10);
/// The limit for locks that no host and no producer waits for. Longer than after what Postgres
/// interrupts an autovacuum.
const LOCK_TIMEOUT_OF_COMMENTS: Duration = Duration::from_secs(5);

/// What is done in one transaction.
#[derive(Clone, Copy)]
enum Work<'a> {
    /// Numbered migrations and functions that are no queue's.
    Catalog,
    /// A queue's tables, functions and triggers.
    Tables(&'a str),
    /// A queue's comments and privileges.
    Comments(&'a str),
    /// What only earlier releases need goes; hosts are let in.
    Finish,
}

impl Work<'_> {
    const fn queue(&self) -> Option<&str> {
        match self {
            Self::Tables(queue) | Self::Comments(queue) => Some(queue),
            Self::Catalog | Self::Finish => None,
        }
    }

    fn what(&self) -> String {
        self.queue().map_or_else(|| "the schema".to_owned(), |queue| format!("queue {queue:?}"))
    }
}

/// A run, under the runner's advisory lock.
pub(super) struct Run<'a> {
    client: &'a mut Client,
    files: &'a Migrations,
    from: i32,
    lock_timeout: Duration,
    watch: &'a mut (dyn FnMut(Step<'_>) + Send),
}

impl<'a> Run<'a> {
    /// `from`: the version that the database has.
    pub(super) fn new(
        client: &'a mut Client,
        files: &'a Migrations,
        from: i32,
        lock_timeout: Duration,
        watch: &'a mut (dyn FnMut(Step<'_>) + Send),
    ) -> Self {
        Self { client, files, from, lock_timeout, watch }
    }

    /// All of it. What is done already is passed over.
    pub(super) async fn all(mut self) -> Result<Report, MigrateError> {
        let wanted = self.files.functions_sha256();
        let have = functions_sha256(self.client).await?;
        let mut report = Report { from: self.from, to: self.from, ..Report::default() };
        if self.from == self.files.version() && have.as_deref() == Some(&wanted) {
            return Ok(report);
        }
        let unfinished = have.as_deref() == Some(&format!("{UNFINISHED}{wanted}"));
        if self.from < self.files.version() || !unfinished {
            self.patiently(Work::Catalog).await?;
        }
        let behind = self.client.query("SELECT host.migration_queues()", &[]).await?;
        for (done, row) in behind.iter().enumerate() {
            let name: &str = row.get(0);
            (self.watch)(Step::Queue { name, done, of: behind.len() });
            self.patiently(Work::Tables(name)).await?;
            self.patiently(Work::Comments(name)).await?;
        }
        self.patiently(Work::Finish).await?;
        let missing = self.files.numbered.iter().filter(|m| m.version > self.from);
        report.applied = missing.map(|migration| migration.file.path.clone()).collect();
        report.to = self.files.version();
        report.functions_replaced = have.as_deref() != Some(&wanted);
        Ok(report)
    }

    /// Does something, again and again while locks of others are in its way, up to a limit.
    async fn patiently(&mut self, work: Work<'_>) -> Result<(), MigrateError> {
        let started = Instant::now();
        let (mut pause, mut told) = (PAUSE_MIN, None::<Instant>);
        loop {
            let Err(error) = self.attempt(work).await else { return Ok(()) };
            if !matches!(error.postgres(), Some(QueueError::Busy(_))) {
                return Err(error);
            }
            let waited = started.elapsed();
            if waited >= PATIENCE {
                let (what, holders) = (work.what(), self.holders(work).await?);
                return Err(MigrateError::InTheWay { what, holders, waited });
            }
            if waited >= SILENCE && told.is_none_or(|at| at.elapsed() >= SILENCE_BETWEEN) {
                let text = format!("{}: {}", work.what(), self.holders(work).await?);
                (self.watch)(Step::Waits { text: &text });
                told = Some(Instant::now());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn attempt(&mut self, work: Work<'_>) -> Result<(), MigrateError> {
        let limit = match work {
            Work::Comments(_) => LOCK_TIMEOUT_OF_COMMENTS,
            Work::Catalog | Work::Tables(_) | Work::Finish => self.lock_timeout,
        };
        let transaction = self.client.transaction().await?;
        set_lock_timeout(&transaction, limit).await?;
        match work {
            Work::Catalog => apply_catalog(&transaction, self.files, self.from, limit).await?,
            Work::Tables(queue) => {
                call(&transaction, "SELECT host.upgrade_queue($1)", queue).await?;
            }
            Work::Comments(queue) => {
                call(&transaction, "SELECT host.end_upgrade($1)", queue).await?;
            }
            Work::Finish => {
                if let Some(file) = &self.files.finish {
                    apply(&transaction, file).await?;
                }
                transaction.execute("SELECT host.migration_finish()", &[]).await?;
            }
        }
        Ok(transaction.commit().await?)
    }

    /// Who holds locks that it needs, in words.
    async fn holders(&self, work: Work<'_>) -> Result<String, MigrateError> {
        let call = "SELECT host.migration_waits_for($1)";
        let holders: Option<String> = self.client.query_one(call, &[&work.queue()]).await?.get(0);
        Ok(holders.unwrap_or_else(|| "others hold locks on it, each for a moment".to_owned()))
    }
}

/// Everything that is no queue's. One transaction: between a file that drops a function and the one
/// that makes it anew, running hosts would take their queues for dropped.
async fn apply_catalog(
    transaction: &Transaction<'_>,
    files: &Migrations,
    from: i32,
    lock_timeout: Duration,
) -> Result<(), MigrateError> {
    let digest = files.functions_sha256();
    transaction.execute("SELECT host.migration_begin($1)", &[&digest]).await?;
    for migration in files.numbered.iter().filter(|migration| migration.version > from) {
        apply(transaction, &migration.file).await?;
        // Some of the first set their own.
        set_lock_timeout(transaction, lock_timeout).await?;
        let (name, sha256) = (migration.name(), migration.file.sha256());
        let call = "SELECT host.migration_record($1, $2, $3)";
        transaction.execute(call, &[&migration.version, &name, &sha256]).await?;
    }
    for file in &files.functions {
        apply(transaction, file).await?;
    }
    let names: Vec<&str> = files.templates.iter().map(files::template_name).collect();
    let bodies: Vec<&str> = files.templates.iter().map(|t| t.sql.as_str()).collect();
    let call = "SELECT host.migration_record_functions($1, $2, $3)";
    transaction.execute(call, &[&names, &bodies, &digest]).await?;
    Ok(())
}

async fn set_lock_timeout(
    transaction: &Transaction<'_>,
    limit: Duration,
) -> Result<(), tokio_postgres::Error> {
    let limit = format!("{}ms", limit.as_millis());
    transaction.execute("SELECT set_config('lock_timeout', $1, true)", &[&limit]).await?;
    Ok(())
}

async fn call(transaction: &Transaction<'_>, sql: &str, queue: &str) -> Result<(), MigrateError> {
    let failed = |error: tokio_postgres::Error| MigrateError::QueueFailed {
        queue: queue.to_owned(),
        source: error.into(),
    };
    transaction.execute(sql, &[&queue]).await.map_err(failed)?;
    Ok(())
}
