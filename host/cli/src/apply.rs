//! `host apply`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::Global;
use crate::set_up::file::SetUpFile;
use crate::set_up::plan::{Planned, Present, Step, Wanted, WantedHandler};
use crate::{deploy as deploying, lookup, show};
use host_core::limits::BATCH_SIZE_DEFAULT;
use host_core::name::QueueName;
use host_queue::admin::deployments::{self, Component, NewVersion};
use host_queue::admin::secrets;
use host_queue::admin::set_up::{self, Change};
use host_queue::catalog::{self, Catalog};
use host_queue::connect::Pooled;
use host_queue::cron::{self, NewEntry};
use host_queue::inspect;
use host_server::deploy::{self, DeployError};

/// Bring queues, handlers and cron entries to what a file says
///
/// Prints what differs, and changes that alone: in one transaction, so all of it or nothing. What a
/// file leaves out of a queue, handler or entry has its default. What the database has and the file
/// does not stays, unless you say --prune. `host export` writes such a file.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[command(after_help = "\
Examples:
  host apply host.toml --dry-run
  host apply host.toml --prune")]
pub(crate) struct Apply {
    /// The file, in TOML, or - for standard input
    file: PathBuf,
    /// Check everything and print what differs, but change nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove queues, handlers and cron entries that the file does not have
    #[arg(long)]
    prune: bool,
    /// With --prune, also drop queues with messages
    #[arg(long, requires = "prune")]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Apply {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        let file = SetUpFile::read(&self.file).await?;
        let wanted = Wanted::of(&file).await?;
        crate::context::with(global, async |context: &CommandContext| {
            Box::pin(self.bring(context, &file, wanted)).await
        })
        .await
    }

    async fn bring(
        &self,
        context: &CommandContext,
        file: &SetUpFile,
        wanted: Wanted,
    ) -> Result<(), CommandError> {
        let (mut client, (catalog, entries)) = lookup::client_and(context, async |client| {
            tokio::try_join!(catalog::load(client), cron::settings(client))
        })
        .await?;
        if let Some(unreadable) = catalog.left_out.first() {
            return Err(CommandError::failed(format!("the database cannot be read: {unreadable}")));
        }
        let mut wanted = wanted.with_cron(file, &catalog)?;
        check_secrets(&client, file, &wanted).await?;
        for handler in &mut wanted.handlers {
            complete(&client, file, &catalog, handler).await?;
        }
        let present = Present { catalog: &catalog, cron: &entries };
        let mut steps = wanted.steps(file, &present)?;
        let removals = wanted.removals(&present);
        let mut kept = Vec::new();
        if self.prune {
            self.check_removals(&client, &removals).await?;
            steps.extend(removals);
        } else {
            kept = removals.iter().map(Step::subject).collect();
        }
        if !self.dry_run && !steps.is_empty() {
            self.make(&mut client, &wanted, &steps).await?;
        }
        self.say(&steps, &kept);
        Ok(())
    }

    /// Refuses to drop messages, unless forced.
    async fn check_removals(&self, client: &Pooled, steps: &[Step]) -> Result<(), CommandError> {
        for step in steps {
            let Planned::DropQueue(name) = &step.change else { continue };
            let status = inspect::status_of(client, name).await?;
            let messages = status.waiting + status.in_flight + status.scheduled + status.dead;
            if messages > 0 && !self.force {
                return Err(CommandError::failed(format!(
                    "queue {name} is not in the file, and has messages: {} waiting, {} in flight, {} scheduled, \
                     {} dead; to drop them with it, add --force",
                    status.waiting, status.in_flight, status.scheduled, status.dead
                )));
            }
        }
        Ok(())
    }

    async fn make(
        &self,
        client: &mut Pooled,
        wanted: &Wanted,
        steps: &[Step],
    ) -> Result<(), CommandError> {
        let mut made_from = Vec::with_capacity(wanted.handlers.len());
        for handler in &wanted.handlers {
            let versions =
                deployments::versions(client, handler.queue.as_str(), handler.name.as_str());
            made_from.push(deploying::made_from(&versions.await?));
        }
        let now = cron::now(client).await?;
        let mut entries = Vec::with_capacity(wanted.cron.len());
        for entry in &wanted.cron {
            let settings = &entry.settings;
            let queue: QueueName = settings.queue.parse().map_err(|error| {
                CommandError::failed(format!("cron entry {}: {error}", entry.name))
            })?;
            let missed = host_core::cron::Missed::from_name(&settings.missed);
            let new = NewEntry {
                name: entry.name.clone(),
                queue,
                schedule: settings.schedule.clone(),
                time_zone: settings.time_zone.clone(),
                missed: missed.ok_or_else(|| CommandError::usage("no such policy"))?,
                payload: settings.payload.clone(),
                headers: settings.headers.clone(),
                next_at: entry.schedule.next_after(now)?,
            };
            new.check_headers().map_err(CommandError::usage)?;
            entries.push(new);
        }
        let changes = steps.iter().map(|step| match &step.change {
            Planned::CreateQueue { name, settings } => Change::CreateQueue { name, settings },
            Planned::ChangeQueue { name, before, wanted } => {
                Change::ChangeQueue { name, before, wanted }
            }
            Planned::Deploy(n) => {
                let handler = &wanted.handlers[*n];
                Change::Deploy(NewVersion {
                    queue: &handler.queue,
                    handler: &handler.name,
                    component: handler
                        .wasm
                        .as_deref()
                        .map_or(Component::Stored(&handler.sha256), Component::Uploaded),
                    settings: &handler.settings,
                    made_from: Some(made_from[*n]),
                    from_now: false,
                })
            }
            Planned::PutCron(n, paused) => Change::PutCron { entry: &entries[*n], paused: *paused },
            Planned::RemoveCron(name) => Change::RemoveCron(name),
            Planned::RemoveHandler(handler) => Change::RemoveHandler(*handler),
            Planned::DropQueue(name) => Change::DropQueue { name, force: self.force },
        });
        set_up::apply(client, &changes.collect::<Vec<_>>()).await?;
        Ok(())
    }

    fn say(&self, steps: &[Step], kept: &[String]) {
        if self.json {
            let changes = steps.iter().map(Step::json).collect::<Value>();
            println!(
                "{}",
                json!({ "dry_run": self.dry_run, "changes": changes, "not_in_file": kept })
            );
            return;
        }
        for step in steps {
            print!("{}", step.text());
        }
        if !kept.is_empty() {
            println!("Not in the file, and kept without --prune: {}", kept.join(", "));
        }
        match (steps.len(), self.dry_run) {
            (0, _) => println!("Nothing to change"),
            (n, true) => println!("{} to make; nothing is changed", show::plural(n, "change")),
            (n, false) => println!("Made {}", show::plural(n, "change")),
        }
    }
}

async fn check_secrets(
    client: &Pooled,
    file: &SetUpFile,
    wanted: &Wanted,
) -> Result<(), CommandError> {
    let known = secrets::list(client).await?;
    for handler in &wanted.handlers {
        for name in &handler.settings.secrets {
            if !known.iter().any(|secret| secret.name == name.as_str()) {
                return Err(file.error(
                    handler.at.clone(),
                    format!(
                        "handler {}: secret {name} has no value yet: host secret set {name} <FILE",
                        handler.label()
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// Checks the component of a handler that is new or differs, and decides how many messages a call
/// of it has.
async fn complete(
    client: &Pooled,
    file: &SetUpFile,
    catalog: &Catalog,
    handler: &mut WantedHandler,
) -> Result<(), CommandError> {
    let there = catalog
        .queue(handler.queue.as_str())
        .and_then(|queue| catalog.deployment(queue.id, handler.name.as_str()))
        .filter(|there| there.sha256 == handler.sha256);
    if let Some(Ok(before)) = there.map(|there| &there.settings) {
        let mut settings = handler.settings.clone();
        settings.batch_size = settings.batch_size.or(before.batch_size.map(|_| BATCH_SIZE_DEFAULT));
        if settings == *before {
            handler.settings = settings;
            return Ok(());
        }
    }
    let (at, label) = (handler.at.clone(), handler.label());
    let refused =
        |error: &dyn std::fmt::Display| file.error(at.clone(), format!("handler {label}: {error}"));
    let stored;
    let wasm = if let Some(wasm) = &handler.wasm {
        wasm
    } else {
        stored = catalog::component(client, &handler.sha256).await.map_err(|error| {
            refused(&format!("{error}; give its file instead, as host export --components does"))
        })?;
        &stored
    };
    let checked = deploy::check(wasm, &handler.settings).await.map_err(|error| match error {
        DeployError::OutOfRange(error) => refused(&error),
        DeployError::Refused(error) => refused(&error),
        DeployError::Queue(error) => error.into(),
    })?;
    let settings = &mut handler.settings;
    if checked.takes_batches {
        settings.batch_size.get_or_insert(BATCH_SIZE_DEFAULT);
    } else if settings.batch_size.is_some() {
        return Err(refused(&"batch-size is for a component that exports `handle-batch`"));
    }
    Ok(())
}
