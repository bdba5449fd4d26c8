//! `host handlers`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::set::Set;
use self::version::Show;
use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::Global;
use crate::lookup;
use crate::show::{self, Column};
use host_queue::admin::deployments;
use host_queue::catalog;
use host_queue::connect::Pooled;
use host_queue::inspect::{self, HandlerVersion};

mod set;
mod version;

/// List, show, change, pause, resume and remove handlers
///
/// Without a command: lists the handlers, their versions, and the hosts that run them. A star marks
/// the version in force.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  host handlers --queue emails
  host handlers show emails
  host handlers pause emails/audit")]
pub(crate) struct Handlers {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only the handlers of this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(Show),
    Set(Box<Set>),
    Pause(Pause),
    Resume(Resume),
    Remove(Remove),
}

/// Pause a handler: messages in flight finish, the queue's other handlers go on
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host handlers pause emails/audit")]
struct Pause {
    /// The handler, as QUEUE/NAME; QUEUE alone is QUEUE/default
    handler: String,
}

/// Resume a paused handler
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host handlers resume emails/audit")]
struct Resume {
    /// The handler, as QUEUE/NAME; QUEUE alone is QUEUE/default
    handler: String,
}

/// Remove a handler with all its versions
///
/// The handler's waiting messages, messages in flight and retries are dropped for this handler
/// only. Its dead letters stay, for `host dead show` and `host dead move`. Other handlers of the
/// queue go on. A queue without a handler keeps its messages for the next one.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host handlers remove emails/audit --dry-run
  host handlers remove emails/audit --yes")]
struct Remove {
    /// The handler, as QUEUE/NAME; QUEUE alone is QUEUE/default
    handler: String,
    /// Show what the handler has, and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Confirm: this cannot be undone
    #[arg(long)]
    yes: bool,
}

impl Handlers {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        crate::context::with(global, async |context: &CommandContext| {
            let client = lookup::client(context).await?;
            match &self.command {
                None => self.list(&client).await,
                Some(Command::Show(command)) => command.run(&client).await,
                Some(Command::Set(command)) => command.run(&client).await,
                Some(Command::Pause(Pause { handler })) => set_paused(&client, handler, true).await,
                Some(Command::Resume(Resume { handler })) => {
                    set_paused(&client, handler, false).await
                }
                Some(Command::Remove(command)) => command.run(&client).await,
            }
        })
        .await
    }

    async fn list(&self, client: &Pooled) -> Result<(), CommandError> {
        if let Some(name) = &self.queue {
            lookup::queue(&catalog::load(client).await?, name)?;
        }
        let mut handlers = inspect::handlers(client).await?;
        handlers.retain(|h| self.queue.as_ref().is_none_or(|queue| h.queue == *queue));
        if self.json {
            println!("{}", handlers.iter().map(version_json).collect::<Value>());
        } else {
            print!("{}", text(&handlers));
        }
        Ok(())
    }
}

async fn set_paused(client: &Pooled, written: &str, paused: bool) -> Result<(), CommandError> {
    let catalog = catalog::load(client).await?;
    let (queue, handler) = lookup::handler(&catalog, written)?;
    let changed = deployments::set_paused(client, handler.handler, paused).await?;
    let already = if changed { "" } else { " already" };
    let state = if paused { "paused" } else { "active" };
    println!("Handler {}/{} is{already} {state}", queue.name, handler.name);
    Ok(())
}

impl Remove {
    async fn run(&self, client: &Pooled) -> Result<(), CommandError> {
        let catalog = catalog::load(client).await?;
        let (queue, handler) = lookup::handler(&catalog, &self.handler)?;
        let lag = inspect::status_of(client, &queue.name).await?.lag;
        let lag = lag.into_iter().find(|l| l.handler == handler.name.as_str());
        let (waiting, in_flight) = lag.map_or((0, 0), |l| (l.waiting, l.in_flight));
        let has = format!("{} waiting and {in_flight} in flight", show::count(waiting));
        let name = format!("{}/{}", queue.name, handler.name);
        if self.dry_run {
            println!("Handler {name} would be removed, with {has} for it");
            return Ok(());
        }
        if !self.yes {
            return Err(CommandError::usage(format!(
                "handler {name} has {has}, which it would never get; confirm with --yes"
            )));
        }
        deployments::remove(client, handler.handler).await?;
        println!("Removed handler {name}, with {has} for it");
        if !catalog.deployments.iter().any(|d| d.queue == queue.id && d.handler != handler.handler)
        {
            println!(
                "Queue {} has no handler now. It keeps its messages for the next one",
                queue.name
            );
        }
        Ok(())
    }
}

/// A version for machines.
pub(crate) fn version_json(h: &HandlerVersion) -> Value {
    json!({
        "queue": h.queue,
        "handler": h.handler,
        "version": h.version,
        "in_force": h.in_force,
        "paused": h.paused,
        "sha256": h.sha256.as_str(),
        "bytes": h.bytes,
        "isolation": h.isolation,
        "concurrency": h.concurrency,
        "batch_size": h.batch_size,
        "http": h.http,
        "secrets": h.secrets,
        "deployed_at": show::time(h.deployed_at),
        "deployed_by": h.deployed_by,
        "runs_on": h.runs_on,
        "failed_on": h.failed_on,
    })
}

fn text(handlers: &[HandlerVersion]) -> String {
    if handlers.is_empty() {
        return "No handlers yet: deploy one with `host deploy --queue QUEUE FILE.wasm`\n".into();
    }
    let columns = [
        Column::Left("HANDLER"),
        Column::Right("VERSION"),
        Column::Left("SHA-256"),
        Column::Right("SIZE"),
        Column::Left("DEPLOYED"),
        Column::Left("BY"),
        Column::Left("RUNS ON"),
    ];
    let rows = handlers.iter().map(|h| {
        let star = if h.in_force { "*" } else { "" };
        let failed = h.failed_on.iter().map(|failure| format!("not on {failure}"));
        let hosts: Vec<String> = h.runs_on.iter().cloned().chain(failed).collect();
        vec![
            format!("{}/{}{}", h.queue, h.handler, if h.paused { " (paused)" } else { "" }),
            format!("{star}{}", h.version),
            h.sha256.short().to_owned(),
            show::bytes(h.bytes),
            show::time(h.deployed_at),
            h.deployed_by.clone(),
            if hosts.is_empty() { "-".to_owned() } else { hosts.join(", ") },
        ]
    });
    show::table(&columns, rows)
}
