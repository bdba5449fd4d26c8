//! `host deploy`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use self::flags::Flags;
use self::made::Made;
use self::waiting::Waiting;
use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::Global;
use crate::{component_file, lookup, show};
use host_core::deployment::digest::Digest;
use host_core::name::HandlerName;
use host_queue::admin::deployments::{self, Component, NewVersion};
use host_queue::catalog;
use host_server::deploy::{self, DeployError, InForce};

pub(crate) mod flags;
pub(crate) mod made;
pub(crate) mod waiting;

/// Upload a handler: check the component, store it, and have all running hosts load it
///
/// A setting that you do not give stays as in the newest version, also after a rollback. The first
/// version gets the defaults. The command says what differs from the version that was in force.
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

impl Deploy {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        let wasm = component_file::read(&self.file).await?;
        crate::context::with(global, async |context: &CommandContext| {
            let (client, (catalog, versions)) = lookup::client_and(context, async |client| {
                let versions = deployments::versions(client, &self.queue, self.name.as_str());
                tokio::try_join!(catalog::load(client), versions)
            })
            .await?;
            let queue = lookup::queue(&catalog, &self.queue)?;
            let name = format!("{}/{}", queue.name, self.name);
            if !versions.is_empty() && self.from.is_some() {
                return Err(CommandError::usage(format!(
                    "handler {name} exists already; --from works only for a new handler"
                )));
            }
            let base = self.settings.base(&versions, &name)?;
            let mut settings = self.settings.over(base.settings.clone()).await?;
            self.settings.check_secrets(&client).await?;
            let named = |error| fail(error, &self.file);
            let checked = deploy::check(&wasm, &settings).await.map_err(named)?;
            self.settings.resolve_batch_size(checked.takes_batches, &mut settings)?;
            let before = versions.iter().find(|v| v.in_force);
            let new = NewVersion {
                queue: &queue.name,
                handler: &self.name,
                component: Component::Uploaded(&wasm),
                settings: &settings,
                made_from: Some(made_from(&versions)),
                from_now: self.from.as_deref() == Some("now"),
            };
            let stored = deploy::store(&client, &new, before).await;
            let in_force = stored.map_err(named)?;
            let label = format!("{name} v{}", in_force.deployed.version);
            let made = Made::new(&base, before, &settings);
            if !self.waiting.json {
                println!("{}", what_happened(&label, in_force, &wasm));
                if !in_force.unchanged {
                    print!("{}", made.text());
                }
            }
            let mut more = json!({
                "queue": queue.name.as_str(),
                "handler": self.name.as_str(),
                "version": in_force.deployed.version,
                "unchanged": in_force.unchanged,
                "sha256": Digest::of(&wasm).as_str(),
                "bytes": wasm.len(),
            });
            made.json(&mut more);
            self.waiting.wait(&client, in_force.deployed, &label, more).await
        })
        .await
    }
}

/// The newest version and the one in force; 0 for none.
pub(crate) fn made_from(versions: &[deployments::Version]) -> (i32, i32) {
    let newest = versions.first().map_or(0, |v| v.deployed.version);
    (newest, versions.iter().find(|v| v.in_force).map_or(0, |v| v.deployed.version))
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
        DeployError::OutOfRange(error) => error.into(),
        DeployError::Refused(error) => CommandError::failed(format!("{}: {error}", file.display())),
        DeployError::Queue(error) => error.into(),
    }
}
