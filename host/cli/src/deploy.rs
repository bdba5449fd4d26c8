//! `host deploy` and `host rollback`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::{Global, key_value};
use crate::{component_file, lookup, show};
use host_core::digest::Digest;
use host_core::grant::HttpGrant;
use host_core::id::HandlerId;
use host_core::limits::{BATCH_SIZE_DEFAULT, Isolation};
use host_core::name::HandlerName;
use host_core::secret::SecretName;
use host_queue::catalog::{self, Catalog, Deployment, Queue, Settings};
use host_queue::connect::Pooled;
use host_queue::deployments::{self, Deployed};
use host_queue::{inspect, secrets};
use host_sandbox::Checked;
use host_server::deploy::{self, DeployError, InForce, Progress};

/// Upload a handler: check the component, store it, and have all running hosts load it
///
/// A setting that you do not give stays as in the version before. The first version gets the
/// defaults.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host deploy --queue emails target/plugins/email.wasm --timeout 10s --config 'template.bill=Your bill'")]
pub(crate) struct Deploy {
    /// The queue that it handles
    #[arg(long, value_name = "QUEUE")]
    queue: String,
    /// The handler's name: a queue's handlers each get all of its messages
    #[arg(long, value_name = "NAME", default_value = "default")]
    name: HandlerName,
    /// The component, built for wasm32-wasip2
    file: PathBuf,
    /// Where a new handler begins: with the oldest message that is kept, or with those committed
    /// from now on [default: oldest]
    #[arg(long, value_name = "WHERE", value_parser = ["oldest", "now"], hide_possible_values = true)]
    from: Option<String>,
    #[command(flatten)]
    settings: Flags,
    #[command(flatten)]
    waiting: Waiting,
}

/// How it is run.
#[derive(Debug, Args)]
#[command(next_help_heading = "How it is run")]
struct Flags {
    /// A value that the handler can read; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    config: Vec<(String, String)>,
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
    /// repeatable; replaces the grants of the version before
    ///
    /// Without methods, every method is allowed. The host is a name, an address, *.example.com for
    /// all names below one, or * for any name. A name may lead only to public addresses, unless
    /// 'private' follows: 'http://billing.internal:8080 private'.
    #[arg(long, value_name = "GRANT")]
    http: Vec<HttpGrant>,
    /// A secret that the handler may read, see `host secret`; repeatable; replaces the secrets of
    /// the version before
    #[arg(long, value_name = "NAME")]
    secret: Vec<SecretName>,
    /// HTTP requests of one message: at most 10000 [default: 100]
    #[arg(long, value_name = "N")]
    http_requests: Option<u32>,
    /// Bytes of the requests and responses of one message: at most 1GiB [default: 16MiB]
    #[arg(long, value_name = "SIZE")]
    http_bytes: Option<ByteSize>,
    /// Start from the defaults, without config or grants, instead of from the version before
    #[arg(long)]
    reset: bool,
}

/// Waiting for the hosts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Waiting for the hosts")]
struct Waiting {
    /// Do not wait until the running hosts have loaded it
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for them
    #[arg(long, value_name = "TIME", default_value = "1m")]
    wait: humantime::Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Put an older version of a handler in force again
///
/// A version keeps its number: version 2 is 2 again, and the next deploy gets a new number.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host rollback --queue emails --to 2")]
pub(crate) struct Rollback {
    /// The queue
    #[arg(long, value_name = "QUEUE")]
    queue: String,
    /// The handler's name
    #[arg(long, value_name = "NAME", default_value = "default")]
    name: String,
    /// The version [default: the newest before the one in force]
    #[arg(long, value_name = "VERSION")]
    to: Option<i32>,
    #[command(flatten)]
    waiting: Waiting,
}

impl Flags {
    fn over(&self, before: Option<&Deployment>) -> Result<Settings, CommandError> {
        let mut settings = match before.filter(|_| !self.reset) {
            Some(before) => before.settings.clone().map_err(|error| {
                CommandError::failed(format!(
                    "version {} of {}: {error}",
                    before.version, before.name
                ))
            })?,
            None => Settings::default(),
        };
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
        settings.config.extend(self.config.iter().cloned());
        // Not added: nobody should have to look up what is granted besides.
        set(&mut settings.http, (!self.http.is_empty()).then(|| self.http.clone()));
        let secrets = || self.secret.iter().cloned().collect();
        set(&mut settings.secrets, (!self.secret.is_empty()).then(secrets));
        Ok(settings)
    }
}

impl Flags {
    /// The default for a component that takes batches, unless given; none for any other.
    fn resolve_batch_size(
        &self,
        checked: Checked,
        settings: &mut Settings,
    ) -> Result<(), CommandError> {
        if checked.takes_batches {
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
    async fn check_secrets(&self, client: &Pooled) -> Result<(), CommandError> {
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

impl Deploy {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        let wasm = component_file::read(&self.file).await?;
        crate::context::with(global, async |context: &CommandContext| {
            let client = lookup::client(context).await?;
            let catalog = catalog::load(&client).await?;
            let queue = lookup::queue(&catalog, &self.queue)?;
            let before = catalog.deployment(queue.id, self.name.as_str());
            if before.is_some() && self.from.is_some() {
                return Err(CommandError::usage(format!(
                    "handler {}/{} exists already; --from works only for a new handler",
                    queue.name, self.name
                )));
            }
            let from_now = self.from.as_deref() == Some("now");
            let mut settings = self.settings.over(before)?;
            self.settings.check_secrets(&client).await?;
            let named = |error| fail(error, &self.file);
            let checked = deploy::check(&wasm, &settings).await.map_err(named)?;
            self.settings.resolve_batch_size(checked, &mut settings)?;
            let (database, name) = (&context.database, &self.name);
            let stored = deploy::store(database, queue, name, &wasm, &settings, before, from_now);
            let in_force = stored.await.map_err(named)?;
            let label = format!("{}/{} v{}", queue.name, self.name, in_force.deployed.version);
            if !self.waiting.json {
                println!("{}", what_happened(&label, in_force, &wasm));
            }
            let more = json!({
                "queue": queue.name.as_str(),
                "handler": self.name.as_str(),
                "version": in_force.deployed.version,
                "unchanged": in_force.unchanged,
                "sha256": Digest::of(&wasm).as_str(),
                "bytes": wasm.len(),
            });
            self.waiting.wait(&client, in_force.deployed, &label, more).await
        })
        .await
    }
}

fn what_happened(label: &str, in_force: InForce, wasm: &[u8]) -> String {
    if in_force.unchanged {
        return format!("{label} is in force already, with these settings");
    }
    let digest = Digest::of(wasm);
    format!("Deployed {label} ({}, sha256 {})", show::bytes(wasm.len() as u64), digest.short())
}

fn fail(error: DeployError, file: &Path) -> CommandError {
    match error {
        DeployError::OutOfRange(error) => CommandError::usage(error.to_string()),
        DeployError::Refused(error) => CommandError::failed(format!("{}: {error}", file.display())),
        DeployError::Queue(error) => error.into(),
    }
}

impl Waiting {
    /// Waits, unless told not to, and says how it went; `more` is what JSON begins with.
    async fn wait(
        &self,
        client: &Pooled,
        of: Deployed,
        label: &str,
        mut more: Value,
    ) -> Result<(), CommandError> {
        let started = Instant::now();
        let mut progress = Progress::default();
        if !self.no_wait {
            let bar = progress_bar(label);
            progress = deploy::wait(client, of, self.wait.into(), |progress| {
                bar.set_length(progress.hosts() as u64);
                bar.set_position((progress.running.len() + progress.failed.len()) as u64);
            })
            .await?;
            bar.finish_and_clear();
        }
        if self.json {
            more["running_on"] = json!(progress.running);
            more["failed_on"] =
                progress.failed.iter().cloned().collect::<BTreeMap<_, _>>().into_iter().collect();
            more["silent"] = json!(progress.silent);
            more["waited_ms"] = json!(started.elapsed().as_millis() as u64);
            println!("{more}");
        } else if !self.no_wait && progress.failed.is_empty() && progress.silent.is_empty() {
            println!("{}", all_well(&progress, started.elapsed()));
        }
        not_running(&progress, label).map_or(Ok(()), |text| Err(CommandError::failed(text)))
    }
}

fn progress_bar(label: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} hosts {elapsed}");
    let bar = ProgressBar::new(0).with_message(format!("Loading {label}"));
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

fn all_well(progress: &Progress, took: Duration) -> String {
    match progress.running.len() {
        0 => "No host is running now: `host serve` will load it".into(),
        hosts => {
            format!("{} running it after {}", show::plural(hosts, "host"), show::duration(took))
        }
    }
}

/// Who does not run the version, and why.
fn not_running(progress: &Progress, label: &str) -> Option<String> {
    let failed =
        progress.failed.iter().map(|(host, error)| format!("{host} cannot run it: {error}"));
    let silent = progress
        .silent
        .iter()
        .map(|host| format!("{host} has not reported yet whether it runs it"));
    let all: Vec<String> = failed.chain(silent).collect();
    (!all.is_empty())
        .then(|| format!("{label} is in force, but {}; see `host handlers`", all.join("; ")))
}

impl Rollback {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        crate::context::with(global, async |context: &CommandContext| {
            let client = lookup::client(context).await?;
            let catalog = catalog::load(&client).await?;
            let queue = lookup::queue(&catalog, &self.queue)?;
            let all = inspect::handlers(&client).await?;
            let versions = lookup::versions(&all, queue, &self.name)?;
            let to = self.version(&versions)?;
            let handler = handler_id(&catalog, queue, &self.name)?;
            let deployed = Deployed { handler, version: to };
            let from = versions.iter().find(|v| v.in_force).map_or(0, |v| v.version);
            let label = format!("{}/{} v{to}", queue.name, self.name);
            if from != to {
                deployments::roll_back(&client, deployed).await?;
            }
            if !self.waiting.json {
                println!(
                    "{}",
                    if from == to {
                        format!("{label} is in force already")
                    } else {
                        format!("{label} is in force again, instead of v{from}")
                    }
                );
            }
            let more = json!({
                "queue": queue.name.as_str(),
                "handler": self.name,
                "version": to,
                "version_before": from,
            });
            self.waiting.wait(&client, deployed, &label, more).await
        })
        .await
    }

    fn version(&self, versions: &[&inspect::HandlerVersion]) -> Result<i32, CommandError> {
        let handler = format!("{}/{}", self.queue, self.name);
        let Some(to) = self.to else {
            return deploy::version_before(versions).ok_or_else(|| {
                CommandError::usage(format!("{handler} has no version before the one in force"))
            });
        };
        if versions.iter().any(|v| v.version == to) {
            return Ok(to);
        }
        let nearest = versions.iter().map(|v| v.version).min_by_key(|v| v.abs_diff(to));
        Err(CommandError::usage(format!(
            "{handler} has no version {to}; the nearest is {}",
            nearest.unwrap_or_default()
        )))
    }
}

fn handler_id(catalog: &Catalog, queue: &Queue, name: &str) -> Result<HandlerId, CommandError> {
    catalog
        .deployment(queue.id, name)
        .map(|deployment| deployment.handler)
        .ok_or_else(|| CommandError::unknown("handler", name, []))
}
