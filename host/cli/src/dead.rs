//! `host dead`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::actions::{Move, Narrow, Purge, Retry, none_of};
use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::Global;
use crate::lookup;
use crate::show::{self, Column};
use host_core::name::QueueName;
use host_queue::admin::dead::{self, DeadLetter, Details, Which};
use host_queue::connect::Pooled;

mod actions;

/// Characters of an error that a list shows.
const ERROR_CHARS: usize = 60;

/// List, show, retry, move and delete dead letters: messages that a handler gave up on
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host dead list emails
  host dead retry emails 17")]
pub(crate) struct Dead {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    Show(Show),
    Retry(Retry),
    Move(Move),
    Purge(Purge),
}

/// List dead letters, newest first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host dead list emails --reason rejected --limit 5
  host dead list emails --where \"error ~ 'timeout' and died_at > now-1h\"")]
struct List {
    /// The queue
    queue: String,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    narrow: Narrow,
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

impl Dead {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        crate::context::with(global, async |context: &CommandContext| {
            let (client, catalog) = lookup::client_and_catalog(context).await?;
            let queue = |name| Ok::<_, CommandError>(&lookup::queue(&catalog, name)?.name);
            match &self.command {
                Command::List(command) => command.run(&client, queue(&command.queue)?).await,
                Command::Show(command) => command.run(&client, queue(&command.queue)?).await,
                Command::Retry(command) => command.run(&client, &catalog).await,
                Command::Move(command) => command.run(&client, &catalog).await,
                Command::Purge(command) => command.run(&client, &catalog).await,
            }
        })
        .await
    }
}

impl List {
    async fn run(&self, client: &Pooled, queue: &QueueName) -> Result<(), CommandError> {
        let which = Which { ids: None, filter: self.narrow.filter() };
        let letters = dead::list(client, queue, &which, Some(self.limit)).await?;
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
                handler(l),
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

fn handler(l: &DeadLetter) -> String {
    l.handler.clone().unwrap_or_else(|| "(removed)".to_owned())
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
    async fn run(&self, client: &Pooled, queue: &QueueName) -> Result<(), CommandError> {
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
    let headers = details
        .headers
        .as_ref()
        .filter(|h| !h.is_null())
        .map_or("none".to_owned(), Value::to_string);
    let mut text = [
        ("Dead letter", l.id.to_string()),
        ("Message", format!("{}, enqueued {}", l.message, show::time(l.enqueued_at))),
        ("Died", format!("{}, on attempt {}", show::time(l.died_at), l.attempt)),
        ("Handler", handler(l)),
        ("Reason", l.reason.clone()),
        ("Error", l.error.clone()),
        ("Headers", headers),
        ("History", String::new()),
    ]
    .map(|(what, value)| {
        format!("{what:<12} {}", show::indented(&value, 13)).trim_end().to_owned() + "\n"
    })
    .concat();
    text.extend(
        details
            .history
            .iter()
            .map(|entry| format!("  {}\n", show::indented(&history_line(entry), 4))),
    );
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
