//! `host queue`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::differs::{Difference, differences};
use self::format::{backoff, described, settings_json, state};
use self::set::Set;
use self::settings::{LimitArgs, SettingArgs, UniqueArgs};
use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::Global;
use crate::lanes::LanesArgs;
use crate::lookup;
use crate::purge::Purge;
use crate::show::{self, Column};
use host_core::message::PayloadType;
use host_core::name::QueueName;
use host_core::policy::queue_settings::QueueSettings;
use host_queue::admin::queues::{self, DropError};
use host_queue::catalog;
use host_queue::inspect;

pub(crate) mod differs;
mod format;
mod set;
mod settings;

/// Create, look at, change, purge and drop queues
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host queue create emails
  host queue list")]
pub(crate) struct QueueCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(Create),
    List(List),
    Show(Show),
    Set(Set),
    Drop(Drop),
    Grant(Grant),
    Pause(Pause),
    Resume(Resume),
    Purge(Purge),
}

/// Create a queue: the table queue.NAME, for producers to INSERT into
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host queue create emails --max-attempts 5 --backoff 10s
  host queue create calls --delays 5s,1m,10m
  host queue create emails --if-not-exists
  psql \"$DATABASE_URL\" -c \"INSERT INTO queue.emails (payload) VALUES ('{}')\"")]
struct Create {
    /// Its name: lower-case letters, digits and single underscores
    name: QueueName,
    /// The type of its payload column
    #[arg(long, value_name = "TYPE", default_value = "jsonb", value_parser = payload_type())]
    payload: String,
    #[command(flatten)]
    settings: SettingArgs,
    /// Never NOTIFY on INSERT: hosts poll. For producers that use PREPARE TRANSACTION
    #[arg(long)]
    no_wake_up: bool,
    #[command(flatten)]
    lanes: LanesArgs,
    #[command(flatten)]
    unique: UniqueArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// If there is such a queue with these settings, do nothing. One with other settings is an
    /// error, which names them
    #[arg(long)]
    if_not_exists: bool,
}

/// List the queues
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host queue list --json | jq -r .[].name")]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Show a queue's settings and messages
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host queue show emails")]
struct Show {
    /// The queue
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Drop a queue with its handlers; refused while it has messages, waiting or dead, or cron entries
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host queue drop emails --force")]
struct Drop {
    /// The queue
    name: String,
    /// Also drop the queue's messages and cron entries
    #[arg(long)]
    force: bool,
}

/// Let a role enqueue: it may INSERT the producer's columns and SELECT the id, nothing else
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host queue grant emails webshop")]
struct Grant {
    /// The queue
    name: String,
    /// The role of the database
    role: String,
}

/// Pause a queue: messages in flight finish, INSERT goes on
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host queue pause emails")]
struct Pause {
    /// The queue
    name: String,
}

/// Resume a paused queue
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host queue resume emails")]
struct Resume {
    /// The queue
    name: String,
}

fn payload_type() -> clap::builder::PossibleValuesParser {
    PayloadType::ALL.map(PayloadType::sql_name).into()
}

impl QueueCommand {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        crate::context::with(global, async |context: &CommandContext| match self.command {
            Command::Create(command) => Box::pin(command.run(context)).await,
            Command::List(command) => command.run(context).await,
            Command::Show(command) => command.run(context).await,
            Command::Set(command) => Box::pin(command.run(context)).await,
            Command::Drop(command) => command.run(context).await,
            Command::Grant(command) => command.run(context).await,
            Command::Pause(command) => set_paused(context, &command.name, true).await,
            Command::Resume(command) => set_paused(context, &command.name, false).await,
            Command::Purge(command) => command.run(context).await,
        })
        .await
    }
}

impl Create {
    fn resolve(self) -> Result<QueueSettings, CommandError> {
        let before = QueueSettings::default();
        let payload_type = PayloadType::from_sql_name(&self.payload);
        let settings = QueueSettings {
            payload_type: payload_type
                .ok_or_else(|| CommandError::usage("no such payload type"))?,
            wake_up: !self.no_wake_up,
            lanes: self.lanes.resolve()?,
            unique: self.unique.resolve(None)?,
            limits: self.limits.resolve(before.limits)?,
            ..self.settings.resolve(&before)
        };
        settings.check().map_err(|error| CommandError::usage(error.to_string()))?;
        Ok(settings)
    }

    async fn run(self, context: &CommandContext) -> Result<(), CommandError> {
        let (name, if_not_exists) = (self.name.clone(), self.if_not_exists);
        let settings = self.resolve()?;
        let mut client = lookup::client(context).await?;
        let created = queues::create(&mut client, &name, &settings).await?;
        if !created && if_not_exists {
            let catalog = catalog::load(&client).await?;
            let is = &lookup::queue(&catalog, name.as_str())?.settings;
            let differences = differences(is, &settings);
            if differences.is_empty() {
                println!("Queue {name} exists already, with these settings");
                return Ok(());
            }
            return Err(CommandError::failed(format!(
                "queue {name} exists with other settings: {}; see `host queue set --help` for those that can change",
                differences.iter().map(Difference::phrase).collect::<Vec<_>>().join("; ")
            )));
        }
        if !created {
            return Err(CommandError::failed(format!(
                "queue \"{name}\" exists already; see `host queue show {name}`"
            )));
        }
        println!("Created queue {name}: INSERT INTO queue.{name} (payload) enqueues");
        Ok(())
    }
}

impl List {
    async fn run(self, context: &CommandContext) -> Result<(), CommandError> {
        let client = lookup::client(context).await?;
        let queues = catalog::load(&client).await?.queues;
        if self.json {
            println!("{}", queues.iter().map(settings_json).collect::<Value>());
            return Ok(());
        }
        if queues.is_empty() {
            println!("No queues yet: make one with `host queue create NAME`");
            return Ok(());
        }
        let columns = [
            Column::Left("QUEUE"),
            Column::Left("PAYLOAD"),
            Column::Right("AT MOST"),
            Column::Right("ATTEMPTS"),
            Column::Left("BACKOFF"),
            Column::Left("STATE"),
        ];
        let rows = queues.iter().map(|q| {
            vec![
                q.name.to_string(),
                q.settings.payload_type.sql_name().to_owned(),
                show::bytes(q.settings.payload_bytes_max),
                q.settings.policy.max_attempts.to_string(),
                backoff(&q.settings.policy.backoff),
                state(q.paused).to_owned(),
            ]
        });
        print!("{}", show::table(&columns, rows));
        Ok(())
    }
}

impl Show {
    async fn run(self, context: &CommandContext) -> Result<(), CommandError> {
        let (client, catalog) = lookup::client_and_catalog(context).await?;
        let queue = lookup::queue(&catalog, &self.name)?;
        let status = inspect::status_of(&client, &queue.name).await?;
        if self.json {
            println!(
                "{}",
                json!({
                    "settings": settings_json(queue),
                    "status": super::status::queue_json(&status),
                })
            );
        } else {
            print!("{}", described(queue, &status));
        }
        Ok(())
    }
}

impl Drop {
    async fn run(self, context: &CommandContext) -> Result<(), CommandError> {
        let (client, catalog) = lookup::client_and_catalog(context).await?;
        let queue = lookup::queue(&catalog, &self.name)?;
        queues::drop(&client, &queue.name, self.force).await.map_err(|error| match error {
            DropError::MessagesLeft(error) => CommandError::failed(error.to_string()),
            DropError::Queue(error) => error.into(),
        })?;
        println!("Dropped queue {} with everything in it", queue.name);
        Ok(())
    }
}

impl Grant {
    async fn run(self, context: &CommandContext) -> Result<(), CommandError> {
        let (client, catalog) = lookup::client_and_catalog(context).await?;
        let queue = lookup::queue(&catalog, &self.name)?;
        let roles = queues::roles(&client).await?;
        if !roles.contains(&self.role) {
            return Err(CommandError::unknown(
                "role",
                &self.role,
                roles.iter().map(String::as_str),
            ));
        }
        queues::grant(&client, &queue.name, &self.role).await?;
        println!("Role {} may enqueue on queue {}", self.role, queue.name);
        Ok(())
    }
}

async fn set_paused(
    context: &CommandContext,
    name: &str,
    paused: bool,
) -> Result<(), CommandError> {
    let (client, catalog) = lookup::client_and_catalog(context).await?;
    let queue = lookup::queue(&catalog, name)?;
    let changed = queues::set_paused(&client, &queue.name, paused).await?;
    let already = if changed { "" } else { " already" };
    println!("Queue {} is{already} {}", queue.name, state(paused));
    Ok(())
}
