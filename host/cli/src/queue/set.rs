//! `host queue set`.

use clap::Args;

use super::differs::{self, differences};
use super::settings::{CHANGES, LimitArgs, SettingArgs, UniqueArgs};
use crate::context::CommandContext;
use crate::error::CommandError;
use crate::lookup;
use host_core::policy::queue_settings::QueueSettings;
use host_queue::admin::queues;

/// Change a queue's settings
///
/// All that is given changes at once, or nothing. Hosts and producers go on meanwhile. Messages
/// that wait follow the new settings. A change of unique keys, wake-ups or --max-bytes waits for
/// the producers' open transactions, up to a second. If one stays open longer, the command fails:
/// run it again.
///
/// The payload's type and the kind of queue (--priorities, --ordered, --per-key) cannot change.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true)
    .args(CHANGES).args(["wake_up", "no_wake_up", "payload", "priorities", "ordered", "per_key"]))]
#[command(override_usage = "host queue set <NAME> <OPTION>…")]
#[command(after_help = "\
Examples:
  host queue set emails --max-attempts 5 --delays 5s,1m,10m
  host queue set emails --backoff 10s --backoff-cap 1h
  host queue set emails --max-bytes 4MiB
  host queue set emails --unique 1h --on-duplicate refuse
  host queue set emails --rate 100/1s --burst 20 --fleet-concurrency 8
  host queue set emails --rate off --unique off
  host queue set emails --keep 7d
  host queue set emails --no-wake-up")]
pub(crate) struct Set {
    /// The queue
    name: String,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    unique: UniqueArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// Never NOTIFY on INSERT: hosts poll. For producers that use PREPARE TRANSACTION
    #[arg(long)]
    no_wake_up: bool,
    /// NOTIFY on INSERT while a host sleeps
    #[arg(long, conflicts_with = "no_wake_up")]
    wake_up: bool,
    #[command(flatten)]
    fixed: FixedArgs,
}

/// What a queue is created with, and keeps: taken only to say why it cannot change.
#[derive(Debug, Args)]
struct FixedArgs {
    #[arg(long, hide = true)]
    payload: Option<String>,
    #[arg(long, hide = true)]
    priorities: bool,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "")]
    ordered: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "")]
    per_key: Option<String>,
}

impl FixedArgs {
    fn refuse(&self, name: &str) -> Result<(), CommandError> {
        let (flag, why) = if self.payload.is_some() {
            ("--payload", "its messages are stored with their type")
        } else if self.priorities {
            ("--priorities", STORED_BY_LANE)
        } else if self.ordered.is_some() {
            ("--ordered", STORED_BY_LANE)
        } else if self.per_key.is_some() {
            ("--per-key", STORED_BY_LANE)
        } else {
            return Ok(());
        };
        Err(CommandError::usage(format!(
            "{flag} cannot change once queue {name} exists: {why}. Create another queue with {flag}, \
             let producers and handlers use it, and drop {name} once it is empty"
        )))
    }
}

/// Why the kind of a queue cannot change.
const STORED_BY_LANE: &str = "its messages are stored by kind of queue";

impl Set {
    pub(super) async fn run(self, context: &CommandContext) -> Result<(), CommandError> {
        self.fixed.refuse(&self.name)?;
        let (mut client, catalog) = lookup::client_and_catalog(context).await?;
        let queue = lookup::queue(&catalog, &self.name)?;
        let before = &queue.settings;
        let wanted = QueueSettings {
            unique: self.unique.resolve(before.unique)?,
            limits: self.limits.resolve(before.limits)?,
            wake_up: (before.wake_up || self.wake_up) && !self.no_wake_up,
            ..self.settings.resolve(before)
        };
        wanted.check().map_err(|error| CommandError::usage(error.to_string()))?;
        let changes = differences(before, &wanted);
        if changes.is_empty() {
            println!("Queue {}: nothing to change", queue.name);
            return Ok(());
        }
        queues::change(&mut client, &queue.name, before, &wanted).await?;
        println!("Changed queue {}:", queue.name);
        for line in differs::lines(&changes) {
            println!("  {line}");
        }
        Ok(())
    }
}
