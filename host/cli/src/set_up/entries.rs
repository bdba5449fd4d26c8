//! What may stand in the file, as it is written. A setting that is left out has its default.

use std::collections::BTreeMap;
use std::path::PathBuf;

use host_core::cron::Missed;
use host_core::deployment::digest::Digest;
use host_core::deployment::grant::HttpGrant;
use host_core::deployment::secret::SecretName;
use host_core::limits::Isolation;
use host_core::message::PayloadType;
use host_core::policy::queue_limits::PerInterval;
use host_core::policy::unique::OnDuplicate;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::values::{Choice, Size, Written};

type Time = Written<humantime::Duration>;

/// Entries by their names.
pub(crate) type Named<T> = BTreeMap<Spanned<String>, T>;

/// A file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entries {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) queues: Named<QueueEntry>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) cron: Named<CronEntry>,
}

/// A queue with its handlers.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct QueueEntry {
    pub(crate) payload: Option<Written<Choice<PayloadType>>>,
    pub(crate) max_bytes: Option<Written<Size>>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) backoff: Option<Time>,
    pub(crate) backoff_cap: Option<Time>,
    pub(crate) delays: Option<Vec<Time>>,
    pub(crate) rotate_size: Option<Written<Size>>,
    pub(crate) rotate_age: Option<Time>,
    pub(crate) keep: Option<Time>,
    pub(crate) wake_up: Option<bool>,
    pub(crate) priorities: Option<bool>,
    pub(crate) ordered: Option<u16>,
    pub(crate) per_key: Option<u16>,
    pub(crate) unique: Option<Time>,
    pub(crate) on_duplicate: Option<Written<Choice<OnDuplicate>>>,
    pub(crate) fleet_concurrency: Option<u32>,
    pub(crate) rate: Option<Written<PerInterval>>,
    pub(crate) burst: Option<u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) handlers: Named<HandlerEntry>,
}

/// A handler of a queue.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct HandlerEntry {
    /// Its component; a relative path begins where the file is.
    pub(crate) file: Option<PathBuf>,
    /// Or one that the database has.
    pub(crate) sha256: Option<Written<Digest>>,
    pub(crate) timeout: Option<Time>,
    pub(crate) cpu: Option<Time>,
    pub(crate) memory: Option<Written<Size>>,
    pub(crate) isolation: Option<Written<Choice<Isolation>>>,
    pub(crate) batch_size: Option<u32>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) log_bytes: Option<Written<Size>>,
    pub(crate) follow_ups: Option<u32>,
    pub(crate) follow_up_bytes: Option<Written<Size>>,
    pub(crate) http_requests: Option<u32>,
    pub(crate) http_bytes: Option<Written<Size>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) http: Vec<Written<HttpGrant>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) secrets: Vec<Written<SecretName>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) config: BTreeMap<String, String>,
}

/// A cron entry.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct CronEntry {
    pub(crate) schedule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_zone: Option<String>,
    pub(crate) queue: String,
    pub(crate) payload: Option<String>,
    /// Or its bytes in hexadecimal, for a payload that is no text.
    pub(crate) payload_hex: Option<String>,
    pub(crate) missed: Option<Written<Choice<Missed>>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, String>,
}
