//! The catalog: which queues and handlers there are. Hosts read it whenever its version has changed,
//! and say what they made of it. Never changes a queue or a handler.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use tokio_postgres::Client;
use tokio_postgres::types::{Json, ToSql};

use super::error::QueueError;
use crate::digest::Digest;
use crate::grant::HttpGrant;
use crate::id::{HandlerId, MessageId, QueueId, SessionId};
use crate::lane::Lanes;
use crate::limits::{COMPONENT_BYTES_MAX, CONCURRENCY_DEFAULT, Isolation, Limits};
use crate::message::{PayloadType, QueueShape};
use crate::name::{HandlerName, QueueName};
use crate::outcome::{Backoff, RetryPolicy};
use crate::secret::SecretName;
use crate::throttle::{Rate, Throttle};
use crate::unique::{OnDuplicate, Unique};

/// All queues and all deployments, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Catalog {
    /// Raised by every change of a queue, a handler or a deployment, and by the end of a session.
    pub version: i64,
    /// In order of the name.
    pub queues: Vec<Queue>,
    /// The version in force of each handler, in order of the handler's id.
    pub deployments: Vec<Deployment>,
    /// What an operator has told handlers; of those that are told nothing, nothing.
    pub told: Vec<Told>,
}

/// What an operator has told a handler: nothing of it has to do with a version.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "ToldRow")]
pub struct Told {
    /// The handler.
    pub handler: HandlerId,
    /// Whether it is to lease no messages.
    pub paused: bool,
    /// Messages that it is not to run.
    pub cancelled: Arc<HashSet<MessageId>>,
}

/// A queue, as its operator made it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "QueueRow")]
pub struct Queue {
    /// Never changes, and is never given to another.
    pub id: QueueId,
    /// The name of its table.
    pub name: QueueName,
    /// What its `payload` column holds.
    pub payload_type: PayloadType,
    /// Its largest payload, in bytes.
    pub payload_bytes_max: u64,
    /// How often and when it retries.
    pub policy: RetryPolicy,
    /// A generation ends when its leaf has this many bytes …
    pub rotate_bytes: u64,
    /// … and this age.
    pub rotate_age: Duration,
    /// How long settled messages stay readable, at least; `None`: until their generation is truncated.
    pub keep: Option<Duration>,
    /// Whether an INSERT may wake a sleeping host.
    pub wake_up: bool,
    /// Its strands; never change.
    pub lanes: Lanes,
    /// Whether no messages are leased from it.
    pub paused: bool,
    /// How it takes unique keys, if it does.
    pub unique: Option<Unique>,
    /// Its limits, if it has any.
    pub throttle: Throttle,
}

/// A version of a handler that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "DeploymentRow")]
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
    /// How to run it. One whose row somebody has spoilt is nobody else's trouble.
    pub settings: Result<Settings, Unreadable>,
}

/// Settings that are stored and make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its settings in the database cannot be read: {0}; deploy with --reset, or roll back")]
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
        let Self { payload_type, payload_bytes_max, lanes, .. } = *self;
        QueueShape { payload_type, payload_bytes_max, lanes, is_unique: self.unique.is_some() }
    }
}

/// Reads the catalog, in one round trip and of one moment.
pub async fn load(client: &Client) -> Result<Catalog, QueueError> {
    let row = client.query_one(include_str!("sql/catalog.sql"), &[]).await?;
    let Json(catalog) = row.try_get(0)?;
    Ok(catalog)
}

/// The bytes of an uploaded component, checked against its digest.
pub async fn component(client: &Client, sha256: &Digest) -> Result<Vec<u8>, QueueError> {
    let parameters: [&(dyn ToSql + Sync); 2] = [&sha256.as_str(), &(COMPONENT_BYTES_MAX as i64)];
    let row = client.query_opt(include_str!("sql/component.sql"), &parameters).await?;
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

/// Says what a session has made of a deployment: it runs, or why it cannot.
pub async fn report_loaded(
    client: &Client,
    session: SessionId,
    handler: HandlerId,
    version: i32,
    error: Option<&str>,
) -> Result<(), QueueError> {
    let call = "SELECT host.report_loaded($1, $2, $3, $4)";
    client.execute(call, &[&session.get(), &handler.get(), &version, &error]).await?;
    Ok(())
}

#[derive(Deserialize)]
struct QueueRow {
    id: i32,
    #[serde(deserialize_with = "from_text")]
    name: QueueName,
    #[serde(deserialize_with = "payload_type")]
    payload_type: PayloadType,
    payload_bytes_max: u64,
    max_attempts: u32,
    backoff_base_ms: u64,
    backoff_cap_ms: u64,
    delays_ms: Option<Vec<u64>>,
    rotate_bytes: u64,
    rotate_age_ms: u64,
    keep_ms: Option<u64>,
    wake_up: bool,
    priorities: bool,
    ordered_lanes: Option<u16>,
    keyed_lanes: Option<u16>,
    paused: bool,
    unique_ms: Option<u64>,
    #[serde(deserialize_with = "on_duplicate")]
    on_duplicate: OnDuplicate,
    fleet_concurrency: Option<u32>,
    rate_count: Option<u32>,
    rate_ms: Option<u64>,
    rate_burst: Option<u32>,
}

impl From<QueueRow> for Queue {
    fn from(row: QueueRow) -> Self {
        let rate =
            |((count, ms), burst)| Rate { count, interval: Duration::from_millis(ms), burst };
        let rate = row.rate_count.zip(row.rate_ms).zip(row.rate_burst).map(rate);
        Self {
            id: QueueId::new(row.id),
            name: row.name,
            payload_type: row.payload_type,
            payload_bytes_max: row.payload_bytes_max,
            policy: RetryPolicy {
                max_attempts: row.max_attempts,
                backoff: match row.delays_ms {
                    Some(delays) => {
                        Backoff::Delays(delays.into_iter().map(Duration::from_millis).collect())
                    }
                    None => Backoff::Exponential {
                        base: Duration::from_millis(row.backoff_base_ms),
                        cap: Duration::from_millis(row.backoff_cap_ms),
                    },
                },
            },
            rotate_bytes: row.rotate_bytes,
            rotate_age: Duration::from_millis(row.rotate_age_ms),
            keep: row.keep_ms.map(Duration::from_millis),
            wake_up: row.wake_up,
            lanes: Lanes::of(row.priorities, row.ordered_lanes, row.keyed_lanes),
            paused: row.paused,
            unique: row.unique_ms.map(|ms| Unique {
                window: Duration::from_millis(ms),
                on_duplicate: row.on_duplicate,
            }),
            throttle: Throttle { fleet_concurrency: row.fleet_concurrency, rate },
        }
    }
}

#[derive(Deserialize)]
struct ToldRow {
    handler: i32,
    paused: bool,
    cancelled: Vec<i64>,
}

impl From<ToldRow> for Told {
    fn from(row: ToldRow) -> Self {
        Self {
            handler: HandlerId::new(row.handler),
            paused: row.paused,
            cancelled: Arc::new(row.cancelled.into_iter().map(MessageId::new).collect()),
        }
    }
}

#[derive(Deserialize)]
struct DeploymentRow {
    handler: i32,
    queue: i32,
    #[serde(deserialize_with = "from_text")]
    name: HandlerName,
    version: i32,
    #[serde(deserialize_with = "from_text")]
    sha256: Digest,
    #[serde(flatten)]
    settings: serde_json::Map<String, serde_json::Value>,
}

/// The settings of a version as the database writes them.
#[derive(Deserialize)]
struct SettingsRow {
    config: BTreeMap<String, String>,
    batch_size: Option<u32>,
    #[serde(deserialize_with = "isolation")]
    isolation: Isolation,
    concurrency: u32,
    memory_bytes: u64,
    timeout_ms: u64,
    cpu_ms: u64,
    log_bytes: u64,
    follow_ups: u32,
    follow_up_bytes: u64,
    #[serde(deserialize_with = "from_texts")]
    http: Vec<HttpGrant>,
    #[serde(deserialize_with = "from_texts")]
    secrets: BTreeSet<SecretName>,
    http_requests: u32,
    http_bytes: u64,
}

impl From<DeploymentRow> for Deployment {
    fn from(row: DeploymentRow) -> Self {
        let settings = serde_json::from_value(row.settings.into()).map(SettingsRow::into);
        Self {
            handler: HandlerId::new(row.handler),
            queue: QueueId::new(row.queue),
            name: row.name,
            version: row.version,
            sha256: row.sha256,
            settings: settings.map_err(|error| Unreadable(error.to_string())),
        }
    }
}

impl From<SettingsRow> for Settings {
    fn from(row: SettingsRow) -> Self {
        Self {
            limits: Limits {
                memory_bytes: row.memory_bytes,
                timeout: Duration::from_millis(row.timeout_ms),
                cpu: Duration::from_millis(row.cpu_ms),
                log_bytes: row.log_bytes,
                follow_ups: row.follow_ups,
                follow_up_bytes: row.follow_up_bytes,
                http_requests: row.http_requests,
                http_bytes: row.http_bytes,
            },
            batch_size: row.batch_size,
            isolation: row.isolation,
            concurrency: row.concurrency,
            config: row.config,
            http: row.http,
            secrets: row.secrets,
        }
    }
}

/// A value whose text form is the database's.
pub(super) fn from_text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: std::fmt::Display>,
    D: Deserializer<'de>,
{
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

/// The same for several.
fn from_texts<'de, T, C, D>(deserializer: D) -> Result<C, D::Error>
where
    T: FromStr<Err: std::fmt::Display>,
    C: FromIterator<T>,
    D: Deserializer<'de>,
{
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
}

fn payload_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PayloadType, D::Error> {
    let name = String::deserialize(deserializer)?;
    PayloadType::from_sql_name(&name)
        .ok_or_else(|| serde::de::Error::custom(format!("no payload type {name:?}")))
}

fn on_duplicate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OnDuplicate, D::Error> {
    let name = String::deserialize(deserializer)?;
    OnDuplicate::from_name(&name)
        .ok_or_else(|| serde::de::Error::custom(format!("no way with duplicates {name:?}")))
}

fn isolation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Isolation, D::Error> {
    let name = String::deserialize(deserializer)?;
    Isolation::from_name(&name)
        .ok_or_else(|| serde::de::Error::custom(format!("no isolation {name:?}")))
}
