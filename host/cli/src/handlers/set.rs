//! `host handlers set`.

use clap::Args;
use serde_json::json;

use crate::deploy::flags::{FLAGS, Flags};
use crate::deploy::made::Made;
use crate::deploy::made_from;
use crate::deploy::waiting::Waiting;
use crate::error::CommandError;
use crate::lookup;
use host_queue::admin::deployments::{self, Component, NewVersion, Version};
use host_queue::catalog;
use host_queue::connect::Pooled;
use host_server::deploy::{self, DeployError};

/// Change a handler's config, limits or grants: a new version with the same component
///
/// It reaches the running hosts as a deployment does, and `host rollback` takes it back. What you
/// do not give stays. After a rollback, say with --settings-of which version's settings to change.
#[derive(Debug, Args)]
#[command(override_usage = "host handlers set [OPTIONS] <HANDLER>")]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true).args(FLAGS).arg("settings_of"))]
#[command(after_help = "\
Examples:
  host handlers set emails --config from=shop@example.com --unset-config footer
  host handlers set emails --config-file config.json
  host handlers set emails/audit --timeout 1m --concurrency 8
  host handlers set emails --http 'POST https://api.example.com' --secret api-key")]
pub(super) struct Set {
    /// The handler, as QUEUE/NAME; QUEUE alone is QUEUE/default
    handler: String,
    #[command(flatten)]
    settings: Flags,
    #[command(flatten)]
    waiting: Waiting,
}

impl Set {
    pub(super) async fn run(&self, client: &Pooled) -> Result<(), CommandError> {
        let catalog = catalog::load(client).await?;
        let (queue, handler) = lookup::handler(&catalog, &self.handler)?;
        let name = format!("{}/{}", queue.name, handler.name);
        let versions =
            deployments::versions(client, queue.name.as_str(), handler.name.as_str()).await?;
        let before = lookup::version(&versions, handler.version, &name)?;
        self.settings.refuse_a_choice(&versions, before, &name)?;
        let base = self.settings.base(&versions, &name)?;
        let mut settings = self.settings.over(base.settings.clone()).await?;
        self.settings.check_secrets(client).await?;
        let takes_batches = check(client, &name, before, &settings).await?;
        self.settings.resolve_batch_size(takes_batches, &mut settings)?;
        deploy::check_settings(&settings).map_err(|e| CommandError::usage(e.to_string()))?;
        let new = NewVersion {
            queue: &queue.name,
            handler: &handler.name,
            component: Component::Stored(&before.sha256),
            settings: &settings,
            made_from: Some(made_from(&versions)),
            from_now: false,
        };
        let in_force = deploy::store(client, &new, Some(before)).await;
        let in_force = in_force.map_err(|error| fail(error, &name))?;
        let label = format!("{name} v{}", in_force.deployed.version);
        let made = Made::new(&base, Some(before), &settings);
        if !self.waiting.json {
            if in_force.unchanged {
                println!("{label} is in force already, with these settings");
            } else {
                println!("Deployed {label}, with the component of v{}", handler.version);
                print!("{}", made.text());
            }
        }
        let mut more = json!({
            "queue": queue.name.as_str(),
            "handler": handler.name.as_str(),
            "version": in_force.deployed.version,
            "unchanged": in_force.unchanged,
        });
        made.json(&mut more);
        self.waiting.wait(client, in_force.deployed, &label, more).await
    }
}

impl Flags {
    /// Refuses to choose between what runs and what is newer, where a rollback has left both.
    fn refuse_a_choice(
        &self,
        versions: &[Version],
        in_force: &Version,
        name: &str,
    ) -> Result<(), CommandError> {
        let Some(newest) = versions.first().filter(|v| v.settings != in_force.settings) else {
            return Ok(());
        };
        if self.says_where_to_start() {
            return Ok(());
        }
        let (newest, now) = (newest.deployed.version, in_force.deployed.version);
        Err(CommandError::usage(format!(
            "{name} v{now} is in force, and v{newest} is newer with other settings: say which to change, with \
             --settings-of {now} or --settings-of {newest}"
        )))
    }
}

/// Whether the component takes batches. One that needs more memory, or other grants, is refused.
async fn check(
    client: &Pooled,
    name: &str,
    before: &Version,
    settings: &host_queue::catalog::Settings,
) -> Result<bool, CommandError> {
    if let Ok(was) = &before.settings
        && (was.limits.memory_bytes, &was.http) == (settings.limits.memory_bytes, &settings.http)
    {
        // It was checked with these.
        return Ok(was.batch_size.is_some());
    }
    let wasm = catalog::component(client, &before.sha256).await?;
    let checked = deploy::check(&wasm, settings).await.map_err(|error| fail(error, name))?;
    Ok(checked.takes_batches)
}

fn fail(error: DeployError, name: &str) -> CommandError {
    match error {
        DeployError::OutOfRange(error) => CommandError::usage(error.to_string()),
        DeployError::Refused(error) => CommandError::failed(format!("{name}: {error}")),
        DeployError::Queue(error) => error.into(),
    }
}
