//! The settings of a version as the command line has them: for `host deploy` and `host handlers
//! set`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use crate::error::CommandError;
use crate::global::key_value;
use crate::lookup;
use host_core::deployment::grant::HttpGrant;
use host_core::deployment::secret::SecretName;
use host_core::limits::{BATCH_SIZE_DEFAULT, Isolation};
use host_queue::admin::secrets;
use host_queue::catalog::Settings;
use host_queue::connect::Pooled;

/// The flags that are settings, for a command that needs one of them.
pub(crate) const FLAGS: [&str; 19] = [
    "config",
    "config_file",
    "unset_config",
    "timeout",
    "cpu",
    "memory",
    "isolation",
    "batch_size",
    "concurrency",
    "log_bytes",
    "follow_ups",
    "follow_up_bytes",
    "http",
    "no_http",
    "secret",
    "no_secret",
    "http_requests",
    "http_bytes",
    "reset",
];

/// How it is run.
#[derive(Debug, Args)]
#[command(next_help_heading = "How it is run")]
pub(crate) struct Flags {
    /// A value that the handler can read; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    config: Vec<(String, String)>,
    /// A file with such values: a JSON object of strings. A value of --config wins over it
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Remove a value; repeatable
    #[arg(long, value_name = "KEY")]
    unset_config: Vec<String>,
    /// Time for one message, waiting included: 10ms to 1h [default: 30s]
    #[arg(long, value_name = "TIME")]
    timeout: Option<humantime::Duration>,
    /// Processor time for one message: 10ms to 1h [default: 10s]
    #[arg(long, value_name = "TIME")]
    cpu: Option<humantime::Duration>,
    /// Memory of a sandbox: 1MiB to 4GiB [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// A sandbox for each message, or one for many: message or batch [default: message]
    #[arg(long, value_name = "KIND", value_parser = ["message", "batch"], hide_possible_values = true)]
    isolation: Option<String>,
    /// Messages of a call, for a batch handler: 1 to 1000 [default: 100]
    #[arg(long, value_name = "N")]
    batch_size: Option<u32>,
    /// Sandboxes at once, on each host: 1 to 10000 [default: 64]
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// Log text of one message: at most 16MiB [default: 64KiB]
    #[arg(long, value_name = "SIZE")]
    log_bytes: Option<ByteSize>,
    /// Follow-up messages of one message: at most 100000 [default: 1000]
    #[arg(long, value_name = "N")]
    follow_ups: Option<u32>,
    /// Bytes of the follow-ups of one message: at most 64MiB [default: 4MiB]
    #[arg(long, value_name = "SIZE")]
    follow_up_bytes: Option<ByteSize>,
    /// HTTP requests that the handler may make, such as 'POST,GET https://api.example.com';
    /// repeatable; replaces the grants so far
    ///
    /// Without methods, every method is allowed. The host is a name, an address, *.example.com for
    /// all names below one, or * for any name. A name may lead only to public addresses, unless
    /// 'private' follows: 'http://billing.internal:8080 private'.
    #[arg(long, value_name = "GRANT")]
    http: Vec<HttpGrant>,
    /// Take all HTTP grants away
    #[arg(long, conflicts_with = "http")]
    no_http: bool,
    /// A secret that the handler may read, see `host secret`; repeatable; replaces the secrets so
    /// far
    #[arg(long, value_name = "NAME")]
    secret: Vec<SecretName>,
    /// Take all secrets away
    #[arg(long, conflicts_with = "secret")]
    no_secret: bool,
    /// HTTP requests of one message: at most 10000 [default: 100]
    #[arg(long, value_name = "N")]
    http_requests: Option<u32>,
    /// Bytes of the requests and responses of one message: at most 1GiB [default: 16MiB]
    #[arg(long, value_name = "SIZE")]
    http_bytes: Option<ByteSize>,
    /// Start from the defaults, without config or grants
    #[arg(long)]
    pub(super) reset: bool,
    /// Start from the settings of this version [default: the newest]
    #[arg(long, value_name = "VERSION", conflicts_with = "reset")]
    pub(super) settings_of: Option<i32>,
}

impl Flags {
    /// Whether they say which settings to start from.
    pub(crate) const fn says_where_to_start(&self) -> bool {
        self.reset || self.settings_of.is_some()
    }

    /// The settings of `base`, changed as the flags say.
    pub(crate) async fn over(&self, base: Settings) -> Result<Settings, CommandError> {
        let mut settings = base;
        let limits = &mut settings.limits;
        set(&mut limits.timeout, self.timeout.map(Duration::from));
        set(&mut limits.cpu, self.cpu.map(Duration::from));
        set(&mut limits.memory_bytes, self.memory.map(|size| size.as_u64()));
        set(&mut limits.log_bytes, self.log_bytes.map(|size| size.as_u64()));
        set(&mut limits.follow_ups, self.follow_ups);
        set(&mut limits.follow_up_bytes, self.follow_up_bytes.map(|size| size.as_u64()));
        set(&mut limits.http_requests, self.http_requests);
        set(&mut limits.http_bytes, self.http_bytes.map(|size| size.as_u64()));
        set(&mut settings.isolation, self.isolation.as_deref().and_then(Isolation::from_name));
        set(&mut settings.concurrency, self.concurrency);
        set(&mut settings.batch_size, self.batch_size.map(Some));
        for key in &self.unset_config {
            if settings.config.remove(key).is_none() {
                let known = settings.config.keys().map(String::as_str);
                return Err(CommandError::unknown("config key", key, known));
            }
        }
        if let Some(file) = &self.config_file {
            settings.config.extend(read_config(file).await?);
        }
        settings.config.extend(self.config.iter().cloned());
        // Not added: nobody should have to look up what is granted besides.
        if self.no_http || !self.http.is_empty() {
            settings.http.clone_from(&self.http);
        }
        if self.no_secret || !self.secret.is_empty() {
            settings.secrets = self.secret.iter().cloned().collect();
        }
        Ok(settings)
    }

    /// The default for a component that takes batches, unless given; none for any other.
    pub(crate) fn resolve_batch_size(
        &self,
        takes_batches: bool,
        settings: &mut Settings,
    ) -> Result<(), CommandError> {
        if takes_batches {
            settings.batch_size.get_or_insert(BATCH_SIZE_DEFAULT);
        } else if self.batch_size.is_some() {
            return Err(CommandError::usage(
                "--batch-size is for a component that exports `handle-batch`: this one takes one message a call",
            ));
        } else {
            settings.batch_size = None;
        }
        Ok(())
    }

    /// Refuses a secret that nobody has set.
    pub(crate) async fn check_secrets(&self, client: &Pooled) -> Result<(), CommandError> {
        if self.secret.is_empty() {
            return Ok(());
        }
        let known = secrets::list(client).await?;
        for name in &self.secret {
            lookup::secret(&known, name)?;
        }
        Ok(())
    }
}

fn set<T>(value: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *value = given;
    }
}

async fn read_config(file: &Path) -> Result<Vec<(String, String)>, CommandError> {
    let text = tokio::fs::read(file)
        .await
        .map_err(|error| CommandError::usage(format!("cannot read {}: {error}", file.display())))?;
    config_of(&text).map_err(|error| CommandError::usage(format!("{}: {error}", file.display())))
}

fn config_of(text: &[u8]) -> Result<Vec<(String, String)>, String> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text)
        .map_err(|error| format!("this is no JSON object of strings: {error}"))?;
    let pair = |(key, value)| match value {
        serde_json::Value::String(value) => Ok((key, value)),
        other => Err(format!("{key:?} is {other}: write each value as a string")),
    };
    object.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_file_has_strings_and_nothing_else() {
        let pairs = config_of(br#"{"bill": "Dear {name},\n\nhello", "x": ""}"#).unwrap();
        assert_eq!(pairs[0], ("bill".into(), "Dear {name},\n\nhello".into()));
        assert_eq!(
            config_of(br#"{"a": 1}"#).unwrap_err(),
            "\"a\" is 1: write each value as a string"
        );
        for bad in [&b"[]"[..], b"a=1", b"", b"{\"a\": \"\xff\"}"] {
            assert!(config_of(bad).unwrap_err().starts_with("this is no JSON object"), "{bad:?}");
        }
    }
}
