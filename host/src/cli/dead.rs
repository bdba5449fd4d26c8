//! `host dead`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::show::{self, Column};
use super::{Context, Fail, Global, lookup};
use crate::name::QueueName;
use crate::outcome::DeadReason;
use crate::queue::catalog;
use crate::queue::connect::Pooled;
use crate::queue::dead::{self, DeadLetter, Details, Fate, Which};

/// Characters of an error that a list shows.
const ERROR_CHARS: usize = 60;

/// Look at messages that were given up on, try them again, delete them
#[derive(Debug, Args)]
pub struct Dead {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    Show(Show),
    Retry(Retry),
    Purge(Purge),
}

/// List dead letters, newest first
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host dead list emails --reason rejected --limit 5")]
struct List {
    /// The queue
    queue: String,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
    /// Only those that died of this
    #[arg(long, value_parser = REASONS)]
    reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Show a dead letter with its payload and every attempt's error
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host dead show emails 17")]
struct Show {
    /// The queue
    queue: String,
    /// The dead letter's ID, as `host dead list` shows it
    id: i64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Put dead letters on the queue again, with all their attempts before them
///
/// The message keeps its id and history, and goes to the handler that gave up on it.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host dead retry emails --all --reason attempts")]
struct Retry {
    #[command(flatten)]
    which: Selection,
}

/// Delete dead letters for good
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host dead purge emails 17 18 --yes")]
struct Purge {
    #[command(flatten)]
    which: Selection,
    /// Yes, for good
    #[arg(long)]
    yes: bool,
}

/// Which dead letters are meant.
#[derive(Debug, Args)]
struct Selection {
    /// The queue
    queue: String,
    /// Their IDs, as `host dead list` shows them
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<i64>,
    /// All of them
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// With --all: only those that died of this
    #[arg(long, requires = "all", value_parser = REASONS)]
    reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a user may ask for, and what it is called in SQL.
const REASONS: [&str; 4] = ["rejected", "attempts", "expired", "poison"];

fn reason_in_sql(reason: &str) -> String {
    let known = [DeadReason::Rejected, DeadReason::Attempts].map(DeadReason::name);
    known.into_iter().find(|name| name.starts_with(reason)).unwrap_or(reason).to_owned()
}

impl Dead {
    /// Does it.
    pub async fn run(self, global: &Global) -> Result<(), Fail> {
        super::with(global, async |context: &Context| {
            let client = lookup::client(context).await?;
            let name = match &self.command {
                Command::List(List { queue, .. }) | Command::Show(Show { queue, .. }) => queue,
                Command::Retry(Retry { which }) | Command::Purge(Purge { which, .. }) => {
                    &which.queue
                }
            };
            let catalog = catalog::load(&client).await?;
            let queue = &lookup::queue(&catalog, name)?.name;
            match &self.command {
                Command::List(command) => command.run(&client, queue).await,
                Command::Show(command) => command.run(&client, queue).await,
                Command::Retry(command) => command.which.end(&client, queue, Fate::Retry).await,
                Command::Purge(command) => command.run(&client, queue).await,
            }
        })
        .await
    }
}

impl List {
    async fn run(&self, client: &Pooled, queue: &QueueName) -> Result<(), Fail> {
        let reason = self.reason.as_deref().map(reason_in_sql);
        let letters = dead::list(client, queue, self.limit, reason.as_deref()).await?;
        if self.json {
            println!("{}", letters.iter().map(letter_json).collect::<Value>());
            return Ok(());
        }
        if letters.is_empty() {
            println!("No dead letters");
            return Ok(());
        }
        let columns = [
            Column::Right("ID"),
            Column::Right("MESSAGE"),
            Column::Left("DIED"),
            Column::Left("HANDLER"),
            Column::Left("REASON"),
            Column::Right("ATTEMPT"),
            Column::Left("ERROR"),
        ];
        let rows = letters.iter().map(|l| {
            vec![
                l.id.to_string(),
                l.message.to_string(),
                show::time(l.died_at),
                l.handler.clone(),
                l.reason.clone(),
                l.attempt.to_string(),
                show::line(&l.error, ERROR_CHARS),
            ]
        });
        print!("{}", show::table(&columns, rows));
        if letters.len() == self.limit as usize {
            println!("(the newest {}; --limit N shows more)", self.limit);
        }
        Ok(())
    }
}

fn letter_json(l: &DeadLetter) -> Value {
    json!({
        "id": l.id,
        "message": l.message.to_string(),
        "handler": l.handler,
        "reason": l.reason,
        "error": l.error,
        "attempt": l.attempt,
        "died_at": show::time(l.died_at),
        "enqueued_at": show::time(l.enqueued_at),
    })
}

impl Show {
    async fn run(&self, client: &Pooled, queue: &QueueName) -> Result<(), Fail> {
        let Some(details) = dead::show(client, queue, self.id).await? else {
            return Err(none_of(queue, &[self.id]));
        };
        if self.json {
            let mut json = letter_json(&details.letter);
            json["headers"] = json!(details.headers);
            json["history"] = json!(details.history);
            json["payload"] = json!(details.payload);
            println!("{json}");
        } else {
            print!("{}", described(&details));
        }
        Ok(())
    }
}

fn described(details: &Details) -> String {
    let l = &details.letter;
    let headers = details.headers.as_ref().map_or("none".to_owned(), Value::to_string);
    let mut text = [
        ("Dead letter", l.id.to_string()),
        ("Message", format!("{}, enqueued {}", l.message, show::time(l.enqueued_at))),
        ("Died", format!("{}, on attempt {}", show::time(l.died_at), l.attempt)),
        ("Handler", l.handler.clone()),
        ("Reason", l.reason.clone()),
        ("Error", l.error.clone()),
        ("Headers", headers),
        ("History", String::new()),
    ]
    .map(|(what, value)| format!("{what:<12} {value}").trim_end().to_owned() + "\n")
    .concat();
    text.extend(details.history.iter().map(|entry| format!("  {}\n", history_line(entry))));
    text + &format!("Payload\n{}\n", details.payload)
}

/// An attempt's error, after whatever else is known of the attempt.
fn history_line(entry: &Value) -> String {
    let error = entry["error"].as_str().unwrap_or_default();
    let known =
        ["attempt", "started", "at", "host", "version"].iter().filter_map(|key| {
            match &entry[key] {
                Value::Null => None,
                Value::String(text) => Some(format!("{key} {text}")),
                value => Some(format!("{key} {value}")),
            }
        });
    format!("{}: {error}", known.collect::<Vec<_>>().join(", "))
}

impl Purge {
    async fn run(&self, client: &Pooled, queue: &QueueName) -> Result<(), Fail> {
        if !self.yes {
            return Err(Fail::usage(
                "this deletes dead letters for good: add --yes if that is meant",
            ));
        }
        self.which.end(client, queue, Fate::Purge).await
    }
}

impl Selection {
    fn which(&self) -> Which {
        if self.all {
            return Which::All { reason: self.reason.as_deref().map(reason_in_sql) };
        }
        Which::Ids(self.ids.clone())
    }

    async fn end(&self, client: &Pooled, queue: &QueueName, fate: Fate) -> Result<(), Fail> {
        let done = dead::end(client, queue, &self.which(), fate).await?;
        let missing: Vec<i64> = self.ids.iter().copied().filter(|id| !done.contains(id)).collect();
        let what = match fate {
            Fate::Retry => "retried",
            Fate::Purge => "purged",
        };
        if self.json {
            println!("{}", json!({ what: done, "unknown": missing }));
        } else if !done.is_empty() || self.all {
            println!("{} {what}", show::plural(done.len(), "dead letter"));
        }
        if missing.is_empty() { Ok(()) } else { Err(none_of(queue, &missing)) }
    }
}

fn none_of(queue: &QueueName, ids: &[i64]) -> Fail {
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    Fail::usage(format!(
        "queue {queue} has no dead letter {}; see `host dead list {queue}`",
        ids.join(", ")
    ))
}
