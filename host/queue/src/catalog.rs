//! The catalog: which queues and handlers there are. Hosts read it whenever its version has
//! changed, and say what they made of it. Never changes a queue or a handler.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::error::QueueError;
use super::json::Text;
use host_core::deployment::digest::Digest;
use host_core::deployment::grant::HttpGrant;
use host_core::deployment::secret::SecretName;
use host_core::id::{HandlerId, MessageId, QueueId, SessionId};
use host_core::limits::{COMPONENT_BYTES_MAX, CONCURRENCY_DEFAULT, Isolation, Limits};
use host_core::message::QueueShape;
use host_core::name::{HandlerName, QueueName};
use host_core::policy::queue_settings::QueueSettings;

pub(crate) mod rows;

/// All queues and all deployments, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    /// Raised by every change of a queue, a handler or a deployment, and by the end of a session.
    pub version: i64,
    /// How many sessions have ended. Each may have left leases behind.
    pub sessions_ended: i64,
    /// In order of the name.
    pub queues: Vec<Queue>,
    /// The version in force of each handler, in order of the handler's id.
    pub deployments: Vec<Deployment>,
    /// Operators' instructions to handlers. A handler without any is left out.
    pub instructions: Vec<Instructions>,
    /// Queues and deployments that are left out, since their rows make no sense: which, and why.
    pub left_out: Vec<String>,
}

/// An operator's instructions to a handler, whatever its version.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "rows::InstructionsRow")]
pub struct Instructions {
    /// The handler.
    pub handler: HandlerId,
    /// Whether it is to lease no messages.
    pub paused: bool,
    /// Messages that it is not to run.
    pub cancelled: Arc<HashSet<MessageId>>,
}

/// A queue that is there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "rows::QueueRow")]
pub struct Queue {
    /// Never changes, and is never given to another.
    pub id: QueueId,
    /// The name of its table.
    pub name: QueueName,
    /// As its operator made it.
    pub settings: QueueSettings,
    /// Whether no messages are leased from it.
    pub paused: bool,
}

/// A version of a handler that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// The handler; its versions have it in common.
    pub handler: HandlerId,
    /// The queue that it works off.
    pub queue: QueueId,
    /// Its name on that queue.
    pub name: HandlerName,
    /// From 1, one more with each deploy.
    pub version: i32,
    /// What to run.
    pub sha256: Digest,
    /// How to run it. One whose row somebody has spoilt costs no other handler anything.
    pub settings: Result<Settings, Unreadable>,
}

/// Settings that are stored and make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its settings in the database cannot be read: {0}; deploy with --reset or --settings-of, or roll back"
)]
pub struct Unreadable(String);

/// How a version of a handler is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What one call may use.
    pub limits: Limits,
    /// Messages of a call, at most; `None`: the component takes one message a call.
    pub batch_size: Option<u32>,
    /// When a sandbox is thrown away.
    pub isolation: Isolation,
    /// Sandboxes at once, on one host.
    pub concurrency: u32,
    /// What the guest may ask for by key.
    pub config: BTreeMap<String, String>,
    /// The HTTP requests that it may make.
    pub http: Vec<HttpGrant>,
    /// The secrets that it may ask for.
    pub secrets: BTreeSet<SecretName>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            batch_size: None,
            isolation: Isolation::default(),
            concurrency: CONCURRENCY_DEFAULT,
            config: BTreeMap::new(),
            http: Vec::new(),
            secrets: BTreeSet::new(),
        }
    }
}

impl Catalog {
    /// The queue of that name.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<&Queue> {
        self.queues.iter().find(|q| q.name.as_str() == name)
    }

    /// What is deployed on a queue under a name.
    #[must_use]
    pub fn deployment(&self, queue: QueueId, name: &str) -> Option<&Deployment> {
        self.deployments.iter().find(|d| d.queue == queue && d.name.as_str() == name)
    }
}

impl Queue {
    /// What it takes, for checking a follow-up.
    #[must_use]
    pub const fn shape(&self) -> QueueShape {
        let QueueSettings { payload_type, payload_bytes_max, lanes, unique, .. } = self.settings;
        QueueShape { payload_type, payload_bytes_max, lanes, is_unique: unique.is_some() }
    }
}

/// Reads the catalog, in one round trip and of one moment.
pub async fn load(client: &Client) -> Result<Catalog, QueueError> {
    let row = client.query_typed_one(include_str!("catalog/catalog.sql"), &[]).await?;
    let Text(text) = row.try_get(0)?;
    rows::catalog(text)
        .map_err(|error| QueueError::Unexpected(format!("the catalog cannot be read: {error}")))
}

/// The bytes of an uploaded component, checked against its digest.
pub async fn component(client: &Client, sha256: &Digest) -> Result<Vec<u8>, QueueError> {
    let parameters: [&(dyn ToSql + Sync); 2] = [&sha256.as_str(), &(COMPONENT_BYTES_MAX as i64)];
    let row = client.query_opt(include_str!("catalog/component.sql"), &parameters).await?;
    let missing = || QueueError::Unexpected(format!("component {sha256} is not stored"));
    let row = row.ok_or_else(missing)?;
    let (bytes, wasm): (i64, Option<Vec<u8>>) = (row.try_get(0)?, row.try_get(1)?);
    let too_large = || {
        QueueError::Unexpected(format!(
            "component {sha256} has {bytes} bytes in the database, more than {COMPONENT_BYTES_MAX}; deploy it again"
        ))
    };
    let wasm = wasm.ok_or_else(too_large)?;
    let found = Digest::of(&wasm);
    if found != *sha256 {
        return Err(QueueError::Unexpected(format!(
            "component {sha256} is damaged in the database: what is stored has the digest {found}; \
             deploy it again"
        )));
    }
    Ok(wasm)
}

/// What came of loading a version of a handler.
#[derive(Clone, Debug)]
pub struct LoadReport {
    /// The handler.
    pub handler: HandlerId,
    /// The version.
    pub version: i32,
    /// Why it cannot run; `None`: it runs.
    pub error: Option<String>,
}

/// Says what a session has made of deployments. At most one report for each version.
///
/// # Errors
/// If the database does not take them.
pub async fn report_loaded(
    client: &Client,
    session: SessionId,
    reports: &[LoadReport],
) -> Result<(), QueueError> {
    let handlers: Vec<i32> = reports.iter().map(|r| r.handler.get()).collect();
    let versions: Vec<i32> = reports.iter().map(|r| r.version).collect();
    let errors: Vec<Option<&str>> = reports.iter().map(|r| r.error.as_deref()).collect();
    let call = "SELECT host.report_loaded($1, $2, $3, $4)";
    client.execute(call, &[&session.get(), &handlers, &versions, &errors]).await?;
    Ok(())
}
