//! `host rollback`.

use clap::Args;
use serde_json::json;

use crate::context::CommandContext;
use crate::deploy::waiting::Waiting;
use crate::error::CommandError;
use crate::global::Global;
use crate::{lookup, settings};
use host_queue::admin::deployments::{self, Version};
use host_server::deploy;

/// Put an older version of a handler in force again
///
/// A version keeps its number: version 2 is 2 again, and the next deploy gets a new number. The
/// command says what that changes.
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

impl Rollback {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        crate::context::with(global, async |context: &CommandContext| {
            let (client, catalog) = lookup::client_and_catalog(context).await?;
            let queue = lookup::queue(&catalog, &self.queue)?;
            let handler = lookup::handler_of(&catalog, queue, &self.name)?;
            let name = format!("{}/{}", queue.name, handler.name);
            let versions = deployments::versions(&client, queue.name.as_str(), &self.name).await?;
            let to = self.version(&versions, &name)?;
            let version = to.deployed.version;
            let from = versions.iter().find(|v| v.in_force);
            let changes = from.map(|from| settings::changes_between(from, to)).unwrap_or_default();
            let from = from.map_or(0, |from| from.deployed.version);
            let label = format!("{name} v{version}");
            if from != version {
                deployments::roll_back(&client, to.deployed).await?;
            }
            if !self.waiting.json {
                if from == version {
                    println!("{label} is in force already");
                } else {
                    println!("{label} is in force again, instead of v{from}");
                }
                for line in settings::change_lines(&changes, |_| None) {
                    println!("  {line}");
                }
                if let Some(newest) = versions.first().filter(|newest| *newest != to)
                    && newest.settings != to.settings
                {
                    println!(
                        "The next deploy starts from the settings of v{}, the newest, unless you say --settings-of {version}",
                        newest.deployed.version
                    );
                }
            }
            let more = json!({
                "queue": queue.name.as_str(),
                "handler": self.name,
                "version": version,
                "version_before": from,
                "changes": settings::changes_json(&changes),
            });
            self.waiting.wait(&client, to.deployed, &label, more).await
        })
        .await
    }

    fn version<'a>(&self, all: &'a [Version], name: &str) -> Result<&'a Version, CommandError> {
        let to = self.to.or_else(|| deploy::version_before(all)).ok_or_else(|| {
            CommandError::usage(format!("{name} has no version before the one in force"))
        })?;
        lookup::version(all, to, name)
    }
}
