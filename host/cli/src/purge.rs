//! `host queue purge`.

use clap::Args;
use serde_json::json;

use crate::context::CommandContext;
use crate::error::CommandError;
use crate::{lookup, show};
use host_queue::admin::message::{self, Purged};
use host_queue::inspect;

/// Remove the messages that wait on a queue, without running them
///
/// The messages are settled as removed by an operator. Messages in flight finish. Scheduled
/// messages and dead letters stay. The purge works in portions, each a transaction: if you stop it,
/// the rest still waits.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host queue purge emails --dry-run
  host queue purge emails --yes")]
pub(crate) struct Purge {
    /// The queue
    name: String,
    /// Only for this handler; the queue's others keep them
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Show how many are waiting, and remove none
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Confirm: this cannot be undone
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Purge {
    /// Does it.
    pub(crate) async fn run(self, context: &CommandContext) -> Result<(), CommandError> {
        let (client, catalog) = lookup::client_and_catalog(context).await?;
        let queue = lookup::queue(&catalog, &self.name)?;
        let handlers: Vec<_> = match &self.handler {
            Some(name) => vec![lookup::handler_of(&catalog, queue, name)?],
            None => catalog.deployments.iter().filter(|d| d.queue == queue.id).collect(),
        };
        if handlers.is_empty() {
            return Err(CommandError::failed(format!(
                "queue {0} has no handler, so its messages wait for the first one: deploy a handler, or \
                 `host queue drop {0} --force`",
                queue.name
            )));
        }
        if self.dry_run {
            let lag = inspect::status_of(&client, &queue.name).await?.lag;
            for handler in handlers {
                let name = handler.name.as_str();
                let waiting = lag.iter().find(|l| l.handler == name).map_or(0, |l| l.waiting);
                self.say(name, json!({ "waiting": waiting }), || {
                    format!("{} would be removed", show::count(waiting))
                });
            }
            return Ok(());
        }
        if !self.yes {
            return Err(CommandError::usage(
                "this removes messages for good; confirm with --yes, or look first with --dry-run",
            ));
        }
        for handler in handlers {
            let mut purged = Purged::default();
            for lane in 0..queue.settings.lanes.count() {
                let id = handler.handler;
                while message::purge_some(&client, &queue.name, id, lane, &mut purged).await? {}
            }
            let Purged { removed, parked } = purged;
            self.say(
                handler.name.as_str(),
                json!({ "removed": removed, "parked": parked }),
                || {
                    let later = match parked {
                        0 => String::new(),
                        n => format!("; {n} not due yet, now on the schedule"),
                    };
                    format!("{} removed{later}", show::plural(removed as usize, "message"))
                },
            );
        }
        Ok(())
    }

    /// A line for a handler.
    fn say(&self, handler: &str, mut numbers: serde_json::Value, text: impl FnOnce() -> String) {
        if self.json {
            numbers["handler"] = handler.into();
            println!("{numbers}");
        } else {
            println!("{}/{handler}: {}", self.name, text());
        }
    }
}
