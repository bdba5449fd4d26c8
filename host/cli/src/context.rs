//! What a command works with: a database, given or embedded. Never sends a query but to migrate the
//! embedded one.

use std::path::Path;

use crate::error::CommandError;
use crate::global::Global;
use host_embedded::Embedded;
use host_queue::connect::Database;
use host_queue::migrate::{self, Migrations, Report};

/// Where the embedded server lives, below the working directory.
const EMBEDDED_DIR: &str = ".host";
/// Connections that a one-shot command needs at most.
const CONNECTIONS_MAX: usize = 4;

/// A database, and the embedded server if it is on that.
pub(crate) struct CommandContext {
    /// The database.
    pub database: Database,
    /// What was migrated to get here: embedded servers migrate by themselves.
    pub migrated: Option<Report>,
    embedded: Option<Embedded>,
    url: String,
}

impl CommandContext {
    /// How to connect to it, with the password if there is one.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where the embedded server's programs are.
    pub(crate) fn programs(&self) -> Option<&Path> {
        self.embedded.as_ref().map(Embedded::programs)
    }

    /// The embedded server of a folder, started and migrated. A line on standard error tells of the
    /// start.
    pub(crate) async fn embedded(dir: &Path, connections_max: usize) -> Result<Self, CommandError> {
        let embedded = Embedded::start(dir).await?;
        if embedded.started_here() {
            eprintln!("{}", embedded.describe());
        }
        let database = Database::new(embedded.url(), connections_max)?;
        let url = embedded.url().to_owned();
        let mut context = Self { database, migrated: None, embedded: Some(embedded), url };
        match migrate_embedded(&context.database).await {
            Ok(report) => {
                context.migrated = Some(report);
                Ok(context)
            }
            Err(fail) => {
                context.close().await?;
                Err(fail)
            }
        }
    }

    /// Stops the embedded server if this was its last host.
    pub(crate) async fn close(self) -> Result<(), CommandError> {
        drop(self.database);
        if let Some(embedded) = self.embedded {
            embedded.stop_if_last().await?;
        }
        Ok(())
    }
}

/// The database of the URL; without one, the embedded server's, started and migrated.
pub(crate) async fn connect(global: &Global) -> Result<CommandContext, CommandError> {
    connect_with(global, CONNECTIONS_MAX).await
}

/// Like `connect`, for a command that needs more connections.
pub(crate) async fn connect_with(
    global: &Global,
    connections_max: usize,
) -> Result<CommandContext, CommandError> {
    if let Some(url) = &global.database_url {
        return Ok(CommandContext {
            database: Database::new(url, connections_max)?,
            migrated: None,
            embedded: None,
            url: url.clone(),
        });
    }
    CommandContext::embedded(Path::new(EMBEDDED_DIR), connections_max).await
}

/// Connects, lets `work` do its work, and closes whatever came of it.
pub(crate) async fn with<T>(
    global: &Global,
    work: impl AsyncFnOnce(&CommandContext) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let context = connect(global).await?;
    let result = work(&context).await;
    let closed = context.close().await;
    let value = result?;
    closed?;
    Ok(value)
}

async fn migrate_embedded(database: &Database) -> Result<Report, CommandError> {
    let mut alone = database.connect_alone().await?;
    Ok(migrate::migrate(&mut alone.client, &Migrations::embedded()?).await?)
}
