//! `host dead retry`, `move` and `purge`: which dead letters are meant, and what becomes of them.

use clap::Args;
use serde_json::json;

use crate::error::CommandError;
use crate::{lookup, show};
use host_core::filter::Filter;
use host_core::name::QueueName;
use host_core::policy::outcome::DeadReason;
use host_queue::admin::dead::{self, Fate, Which};
use host_queue::catalog::Catalog;
use host_queue::connect::Pooled;

/// Dead letters of removed handlers that are counted after a retry.
const STAY_MAX: u32 = 1_000;

/// What a user may ask for, and what it is called in SQL.
const REASONS: [&str; 4] = ["rejected", "attempts", "expired", "poison"];

fn reason_in_sql(reason: &str) -> &str {
    let known = [DeadReason::Rejected, DeadReason::Attempts].map(DeadReason::name);
    known.into_iter().find(|name| name.starts_with(reason)).unwrap_or(reason)
}

/// Enqueue dead letters again, with all their attempts available
///
/// A message keeps its id and history, and goes to the handler that gave up on it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host dead retry emails 17 18
  host dead retry emails --where \"error ~ 'timeout' and attempt >= 3 and died_at > now-1h\" --dry-run")]
pub(crate) struct Retry {
    #[command(flatten)]
    which: Selection,
}

/// Move dead letters to another queue, as new messages with their history
///
/// Every handler of that queue gets them.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host dead move emails --to emails_by_hand --reason rejected")]
pub(crate) struct Move {
    #[command(flatten)]
    which: Selection,
    /// The queue to move them to
    #[arg(long, value_name = "QUEUE")]
    to: String,
}

/// Delete dead letters for good
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host dead purge emails 17 18 --yes")]
pub(crate) struct Purge {
    #[command(flatten)]
    which: Selection,
    /// Confirm: this cannot be undone
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
}

/// By what is known of them.
#[derive(Debug, Args)]
pub(crate) struct Narrow {
    /// Only those with this reason
    #[arg(long, value_parser = REASONS)]
    reason: Option<String>,
    /// Only those that match this filter, such as "error ~ 'timeout' and attempt >= 3 and died_at >
    /// now-1h". Fields: id,
    /// message, handler, reason, error, attempt, died_at, enqueued_at
    #[arg(long = "where", value_name = "FILTER", value_parser = Filter::parse)]
    filter: Option<Filter>,
}

impl Narrow {
    /// All that it says.
    pub(crate) fn filter(&self) -> Option<Filter> {
        let reason = self.reason.as_deref().map(|reason| Filter::reason(reason_in_sql(reason)));
        match (reason, self.filter.clone()) {
            (Some(reason), Some(filter)) => Some(reason.and(&filter)),
            (reason, filter) => reason.or(filter),
        }
    }
}

/// Which dead letters are meant.
#[derive(Debug, Args)]
struct Selection {
    /// The queue
    queue: String,
    /// Their IDs, as `host dead list` shows them
    #[arg(value_name = "ID", required_unless_present_any = ["all", "reason", "filter"])]
    ids: Vec<i64>,
    /// All of them
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    narrow: Narrow,
    /// List them, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Retry {
    /// Does it.
    pub(crate) async fn run(&self, client: &Pooled, catalog: &Catalog) -> Result<(), CommandError> {
        self.which.end(client, catalog, Fate::Retry).await
    }
}

impl Move {
    /// Does it.
    pub(crate) async fn run(&self, client: &Pooled, catalog: &Catalog) -> Result<(), CommandError> {
        let to = lookup::queue(catalog, &self.to)?.name.clone();
        if to.as_str() == self.which.queue {
            return Err(CommandError::usage(format!(
                "they are already dead letters of queue {to}; use `host dead retry`"
            )));
        }
        self.which.end(client, catalog, Fate::Move(to)).await
    }
}

impl Purge {
    /// Does it.
    pub(crate) async fn run(&self, client: &Pooled, catalog: &Catalog) -> Result<(), CommandError> {
        if !self.yes && !self.which.dry_run {
            return Err(CommandError::usage(
                "this deletes dead letters for good; confirm with --yes, or look first with --dry-run",
            ));
        }
        self.which.end(client, catalog, Fate::Purge).await
    }
}

impl Selection {
    async fn end(
        &self,
        client: &Pooled,
        catalog: &Catalog,
        fate: Fate,
    ) -> Result<(), CommandError> {
        let queue = &lookup::queue(catalog, &self.queue)?.name;
        let ids = (!self.ids.is_empty()).then(|| self.ids.clone());
        let which = Which { ids, filter: self.narrow.filter() };
        let done = if self.dry_run {
            dead::ids(client, queue, &which).await?
        } else {
            dead::end(client, queue, &which, &fate).await?
        };
        let what = match &fate {
            Fate::Retry => "retried",
            Fate::Move(_) => "moved",
            Fate::Purge => "purged",
        };
        // A filter need not let all of them through.
        let named = if which.filter.is_none() { self.ids.as_slice() } else { &[] };
        let missing: Vec<i64> = named.iter().copied().filter(|id| !done.contains(id)).collect();
        if self.json {
            let what = if self.dry_run { "meant" } else { what };
            println!("{}", json!({ what: done, "unknown": missing }));
        } else if !done.is_empty() || self.ids.is_empty() {
            let would = if self.dry_run { "would be " } else { "" };
            let to =
                if let Fate::Move(to) = &fate { format!(" to queue {to}") } else { String::new() };
            println!("{} {would}{what}{to}", show::plural(done.len(), "dead letter"));
        }
        if fate == Fate::Retry && !self.dry_run {
            say_what_stays(client, queue, &which).await?;
        }
        if missing.is_empty() { Ok(()) } else { Err(none_of(queue, &missing)) }
    }
}

/// Nobody could get those of handlers that were removed.
async fn say_what_stays(
    client: &Pooled,
    queue: &QueueName,
    which: &Which,
) -> Result<(), CommandError> {
    let left = dead::list(client, queue, which, Some(STAY_MAX)).await?;
    let stay = left.iter().filter(|letter| letter.handler.is_none()).count();
    if stay > 0 {
        let stay = show::plural(stay, "dead letter");
        eprintln!("{stay} of handlers that were removed stayed: see `host dead move`");
    }
    Ok(())
}

/// There are no such dead letters.
pub(crate) fn none_of(queue: &QueueName, ids: &[i64]) -> CommandError {
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    CommandError::usage(format!(
        "queue {queue} has no dead letter {}; see `host dead list {queue}`",
        ids.join(", ")
    ))
}
