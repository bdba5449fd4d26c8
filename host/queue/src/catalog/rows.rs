//! The catalog's document as the database writes it, read row by row: a row that makes no sense is
//! left out, and spoils no other. Never does I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Catalog, Deployment, Instructions, Queue, Settings, Unreadable};
use host_core::deployment::digest::Digest;
use host_core::deployment::grant::HttpGrant;
use host_core::deployment::secret::SecretName;
use host_core::id::{HandlerId, MessageId, QueueId};
use host_core::limits::{BATCH_SIZE, CONCURRENCY, Isolation, Limits, OutOfRange, count_within};
use host_core::message::PayloadType;
use host_core::message::lane::Lanes;
use host_core::name::{HandlerName, QueueName};
use host_core::policy::queue_limits::{QueueLimits, Rate};
use host_core::policy::queue_settings::QueueSettings;
use host_core::policy::retry::{Backoff, RetryPolicy};
use host_core::policy::unique::{OnDuplicate, Unique};

/// Reads the document.
pub(super) fn catalog(text: &str) -> Result<Catalog, serde_json::Error> {
    let read: CatalogRow<'_> = serde_json::from_str(text)?;
    let mut left_out = Vec::new();
    let queues = each(&read.queues, "queue", &mut left_out);
    let deployments = each(&read.deployments, "handler", &mut left_out);
    let CatalogRow { version, sessions_ended, instructions, .. } = read;
    Ok(Catalog { version, sessions_ended, queues, deployments, instructions, left_out })
}

fn each<'a, T: Deserialize<'a>>(
    rows: &[&'a RawValue],
    what: &str,
    left_out: &mut Vec<String>,
) -> Vec<T> {
    let mut read = Vec::with_capacity(rows.len());
    for row in rows {
        match serde_json::from_str(row.get()) {
            Ok(it) => read.push(it),
            Err(error) => left_out.push(format!("{what} {}: {error}", name_of(row))),
        }
    }
    read
}

fn name_of(row: &RawValue) -> String {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_str(row.get()).map_or_else(|_| "of no name".to_owned(), |n: Named| n.name)
}

#[derive(Deserialize)]
pub(super) struct QueueRow {
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
        let settings = QueueSettings {
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
            unique: row.unique_ms.map(|ms| Unique {
                window: Duration::from_millis(ms),
                on_duplicate: row.on_duplicate,
            }),
            limits: QueueLimits { fleet_concurrency: row.fleet_concurrency, rate },
        };
        Self { id: QueueId::new(row.id), name: row.name, settings, paused: row.paused }
    }
}

#[derive(Deserialize)]
pub(super) struct InstructionsRow {
    handler: i32,
    paused: bool,
    cancelled: Vec<i64>,
}

impl From<InstructionsRow> for Instructions {
    fn from(row: InstructionsRow) -> Self {
        Self {
            handler: HandlerId::new(row.handler),
            paused: row.paused,
            cancelled: Arc::new(row.cancelled.into_iter().map(MessageId::new).collect()),
        }
    }
}

/// The document, not read further than its rows.
#[derive(Deserialize)]
struct CatalogRow<'a> {
    version: i64,
    sessions_ended: i64,
    #[serde(borrow)]
    queues: Vec<&'a RawValue>,
    #[serde(borrow)]
    deployments: Vec<&'a RawValue>,
    #[serde(rename = "told")]
    instructions: Vec<Instructions>,
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

impl<'de> Deserialize<'de> for Deployment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Twice: settings that cannot be read are said of the handler, which is known.
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let row: DeploymentRow = serde_json::from_str(raw).map_err(serde::de::Error::custom)?;
        Ok(Self {
            handler: HandlerId::new(row.handler),
            queue: QueueId::new(row.queue),
            name: row.name,
            version: row.version,
            sha256: row.sha256,
            settings: settings(raw),
        })
    }
}

/// The settings of a version as the database writes them.
pub(crate) fn settings(text: &str) -> Result<Settings, Unreadable> {
    let row: SettingsRow =
        serde_json::from_str(text).map_err(|error| Unreadable(error.to_string()))?;
    row.checked().map_err(|error| Unreadable(error.to_string()))
}

impl SettingsRow {
    /// The settings, if they are such as `host deploy` takes: SQL can store others.
    fn checked(self) -> Result<Settings, OutOfRange> {
        let settings = Settings::from(self);
        settings.limits.check()?;
        count_within("concurrency", settings.concurrency, &CONCURRENCY)?;
        if let Some(batch_size) = settings.batch_size {
            count_within("batch-size", batch_size, &BATCH_SIZE)?;
        }
        Ok(settings)
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
fn from_text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_makes_no_sense_is_left_out_and_named() {
        let queue = |name: &str, max_attempts: &str| {
            format!(
                r#"{{"id": 1, "name": "{name}", "payload_type": "jsonb", "payload_bytes_max": 1,
                "max_attempts": {max_attempts}, "backoff_base_ms": 1, "backoff_cap_ms": 1, "delays_ms": null,
                "rotate_bytes": 1, "rotate_age_ms": 1, "keep_ms": null, "wake_up": true, "priorities": false,
                "ordered_lanes": null, "keyed_lanes": null, "paused": false, "unique_ms": null,
                "on_duplicate": "drop", "fleet_concurrency": null, "rate_count": null, "rate_ms": null,
                "rate_burst": null}}"#
            )
        };
        let deployment = |name: &str, config: &str, timeout_ms: &str| {
            format!(
                r#"{{"handler": 1, "queue": 1, "name": "{name}", "version": 1, "sha256": "{}",
                "config": {config}, "isolation": "message", "concurrency": 1, "memory_bytes": 67108864,
                "timeout_ms": {timeout_ms}, "cpu_ms": 1000, "log_bytes": 0, "follow_ups": 0,
                "follow_up_bytes": 0, "http": [], "secrets": [], "http_requests": 0, "http_bytes": 0,
                "batch_size": null}}"#,
                "0".repeat(64)
            )
        };
        let deep = format!(r#"{{"a": {}{}}}"#, "[".repeat(200), "]".repeat(200));
        let text = format!(
            r#"{{"version": 7, "sessions_ended": 0, "told": [], "queues": [{}, {}], "deployments": [{}, {}, {}, {}, {}]}}"#,
            queue("good", "3"),
            queue("bad", "1e400"),
            deployment("good", "{}", "1000"),
            deployment("huge", r#"{"a": 1e400}"#, "1000"),
            deployment("deep", &deep, "1000"),
            deployment("quick", "{}", "1"),
            deployment("No Name", "{}", "1000"),
        );
        let catalog = catalog(&text).unwrap();
        let names: Vec<_> = catalog.queues.iter().map(|q| q.name.as_str()).collect();
        assert_eq!(names, ["good"]);
        let settings =
            |name| &catalog.deployments.iter().find(|d| d.name.as_str() == name).unwrap().settings;
        assert!(settings("good").is_ok());
        assert!(settings("huge").is_err() && settings("deep").is_err());
        let quick = settings("quick").as_ref().unwrap_err().to_string();
        assert!(quick.contains("timeout 1ms is out of range: use 10ms to 1h"), "{quick}");
        assert_eq!(catalog.left_out.len(), 2);
        assert!(catalog.left_out[0].starts_with("queue bad: "), "{:?}", catalog.left_out);
        assert!(catalog.left_out[1].starts_with("handler No Name: "), "{:?}", catalog.left_out);
    }
}
