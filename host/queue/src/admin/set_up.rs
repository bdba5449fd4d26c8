//! Changes of queues, handlers and cron entries that belong together: all of them or none. Decides
//! none of them.

use tokio_postgres::Client;

use super::deployments::{self, NewVersion};
use super::queues;
use crate::cron::{self, NewEntry};
use crate::error::QueueError;
use host_core::id::HandlerId;
use host_core::name::QueueName;
use host_core::policy::queue_settings::QueueSettings;

/// Tries of a transaction that hosts are in the way of, as it is in theirs.
const TRIES_MAX: u32 = 3;

/// A change, in the order in which they are made: those that hold locks on messages come last.
#[derive(Debug)]
pub enum Change<'a> {
    /// A new queue.
    CreateQueue {
        /// Its name.
        name: &'a QueueName,
        /// Its settings.
        settings: &'a QueueSettings,
    },
    /// A version of a handler.
    Deploy(NewVersion<'a>),
    /// A cron entry, in place of the one of that name if there is one.
    PutCron {
        /// The entry.
        entry: &'a NewEntry,
        /// Whether it is not to fire.
        paused: bool,
    },
    /// Removes a cron entry.
    RemoveCron(&'a str),
    /// Removes a handler with its versions.
    RemoveHandler(HandlerId),
    /// Other settings for a queue.
    ChangeQueue {
        /// The queue.
        name: &'a QueueName,
        /// What it has.
        before: &'a QueueSettings,
        /// What it is to have.
        wanted: &'a QueueSettings,
    },
    /// Drops a queue; with messages only if `force`.
    DropQueue {
        /// The queue.
        name: &'a QueueName,
        /// Whether to drop its messages with it.
        force: bool,
    },
}

impl Change<'_> {
    const fn rank(&self) -> u8 {
        match self {
            Self::CreateQueue { .. } => 0,
            Self::Deploy(_) => 1,
            Self::PutCron { .. } => 2,
            Self::RemoveCron(_) => 3,
            Self::RemoveHandler(_) => 4,
            Self::ChangeQueue { .. } => 5,
            Self::DropQueue { .. } => 6,
        }
    }
}

/// Makes all of them in one transaction.
///
/// # Errors
/// If any of them was refused: then none was made.
pub async fn apply(client: &mut Client, changes: &[Change<'_>]) -> Result<(), QueueError> {
    let mut ordered: Vec<&Change<'_>> = changes.iter().collect();
    ordered.sort_by_key(|change| change.rank());
    let mut tries = 1;
    loop {
        match try_once(client, &ordered).await {
            Err(QueueError::Busy(_)) if tries < TRIES_MAX => tries += 1,
            done => return done,
        }
    }
}

async fn try_once(client: &mut Client, changes: &[&Change<'_>]) -> Result<(), QueueError> {
    let transaction = client.transaction().await?;
    for change in changes {
        make(transaction.client(), change).await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn make(client: &Client, change: &Change<'_>) -> Result<(), QueueError> {
    match change {
        Change::CreateQueue { name, settings } => {
            queues::create_within(client, name, settings).await
        }
        Change::Deploy(new) => deployments::deploy_within(client, new).await.map(|_| ()),
        Change::PutCron { entry, paused } => {
            cron::add(client, entry, true).await?;
            if *paused {
                cron::pause(client, entry.name.as_str()).await?;
            }
            Ok(())
        }
        Change::RemoveCron(name) => cron::remove(client, name).await.map(|_| ()),
        Change::RemoveHandler(handler) => deployments::remove(client, *handler).await,
        Change::ChangeQueue { name, before, wanted } => {
            queues::change_within(client, name, before, wanted).await
        }
        Change::DropQueue { name, force } => {
            let call = "SELECT host.drop_queue($1, $2)";
            client.execute(call, &[&name.as_str(), force]).await?;
            Ok(())
        }
    }
}
