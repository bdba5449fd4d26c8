//! `host export`.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::Global;
use crate::lookup;
use crate::set_up::entries::{CronEntry, Entries, HandlerEntry, QueueEntry};
use crate::set_up::wanted::{ComponentSource, key};
use host_queue::catalog::{self, Deployment};
use host_queue::connect::Pooled;
use host_queue::cron;

/// Write queues, handlers and cron entries as a file for `host apply`
///
/// It has what differs from the defaults. Messages, versions that are not in force, values of
/// secrets, and what is paused are not in it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host export >host.toml
  host export --components components >host.toml")]
pub(crate) struct Export {
    /// Write the components into this folder, which is made, so that another database can have
    /// them [default: name them by digest]
    #[arg(long, value_name = "DIR")]
    components: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is left out has its default, as in a file.
fn leave_out_nulls(json: &mut Value) {
    if let Value::Object(fields) = json {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(leave_out_nulls);
    }
}

impl Export {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        crate::context::with(global, async |context: &CommandContext| {
            Box::pin(self.write(context)).await
        })
        .await
    }

    async fn write(&self, context: &CommandContext) -> Result<(), CommandError> {
        let (client, (catalog, cron)) = lookup::client_and(context, async |client| {
            tokio::try_join!(catalog::load(client), cron::settings(client))
        })
        .await?;
        if let Some(unreadable) = catalog.left_out.first() {
            return Err(CommandError::failed(format!("the database cannot be read: {unreadable}")));
        }
        let mut entries = Entries::default();
        for queue in &catalog.queues {
            let mut entry = QueueEntry::of(&queue.settings);
            for deployment in catalog.deployments.iter().filter(|d| d.queue == queue.id) {
                let settings = deployment.settings.as_ref().map_err(|error| {
                    CommandError::failed(format!("{}/{}: {error}", queue.name, deployment.name))
                })?;
                let source = self.source(&client, deployment).await?;
                let handler = HandlerEntry::of(settings, source);
                entry.handlers.insert(key(deployment.name.as_str()), handler);
            }
            entries.queues.insert(key(queue.name.as_str()), entry);
        }
        for (name, (settings, _)) in &cron {
            entries.cron.insert(key(name), CronEntry::of(settings)?);
        }
        if self.json {
            let mut json = serde_json::to_value(&entries).map_err(anyhow::Error::from)?;
            leave_out_nulls(&mut json);
            println!("{json}");
            return Ok(());
        }
        let text = toml::to_string_pretty(&entries).map_err(anyhow::Error::from)?;
        println!("# Written by `host export`; `host apply FILE` brings a database to it.");
        if !text.is_empty() {
            println!("\n{}", text.trim_end());
        }
        Ok(())
    }

    async fn source(
        &self,
        client: &Pooled,
        deployment: &Deployment,
    ) -> Result<ComponentSource, CommandError> {
        let Some(dir) = &self.components else {
            return Ok(ComponentSource::Stored(deployment.sha256.clone()));
        };
        let wasm = catalog::component(client, &deployment.sha256).await?;
        let file = dir.join(format!("{}.wasm", deployment.sha256.short()));
        let named =
            |error| CommandError::failed(format!("cannot write {}: {error}", file.display()));
        tokio::fs::create_dir_all(dir).await.map_err(named)?;
        tokio::fs::write(&file, wasm).await.map_err(named)?;
        Ok(ComponentSource::File(file))
    }
}
