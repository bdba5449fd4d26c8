//! `host cron`.

use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::{Global, key_value};
use crate::lookup;
use crate::show::{self, Column};
use host_core::cron::{HEADERS, Missed, Schedule, ScheduleError};
use host_core::limits;
use host_core::name::CronName;
use host_queue::catalog::{self, Queue};
use host_queue::connect::Pooled;
use host_queue::cron::{self, Entry, NewEntry};

/// Enqueue messages at set times: each once, however many hosts run
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host cron add nightly '30 2 * * *' --queue reports --payload '{}' --tz Europe/Berlin
  host cron list")]
pub(crate) struct Cron {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(Add),
    List(List),
    Pause(Pause),
    Resume(Resume),
    Remove(Remove),
    Run(Run),
}

/// Add an entry: it enqueues a message at each time of a pattern
///
/// The pattern has five fields: MINUTE HOUR DAY MONTH WEEKDAY. Six fields begin with SECOND. A name
/// such as @daily works too. When clocks change, a pattern with fixed hours fires once for each of
/// its times; a time that the change skips fires right after it. A pattern for every hour keeps its
/// pace. A running host fires the entry, by the database's clock. The headers `cron` and `cron-at`
/// tell the handler the entry and the time.
///
/// A firing up to a minute late is on time. A later firing was missed, because all hosts were down.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host cron add nightly '30 2 * * *' --queue reports --payload '{}' --tz Europe/Berlin
  host cron add pulse '*/10 * * * * *' --queue probes --payload '{}' --missed skip")]
struct Add {
    /// Its name: lower-case letters, digits, underscores and hyphens
    name: CronName,
    /// The pattern, as in '*/5 * * * *'
    schedule: String,
    /// The queue
    #[arg(long)]
    queue: String,
    /// The message's payload, or - to read all of standard input
    #[arg(long)]
    payload: String,
    /// A header for each message; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    header: Vec<(String, String)>,
    /// The time zone of the pattern, as in Europe/Berlin
    #[arg(long, value_name = "NAME", default_value = "UTC")]
    tz: String,
    /// What to do about missed firings: skip them, enqueue one message for all, or one for each of
    /// the newest 1,000
    #[arg(long, value_name = "WHAT", default_value = "one", value_parser = Missed::ALL.map(Missed::name))]
    missed: String,
    /// Replace the entry of that name, if there is one
    #[arg(long)]
    replace: bool,
}

/// List the entries with their next firing and their last error
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host cron list --json | jq '.[] | select(.error) | .name'")]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Pause an entry: it stops firing
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host cron pause nightly")]
struct Pause {
    /// The entry
    name: String,
}

/// Resume a paused entry at its next time; firings while it was paused do not count as missed
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host cron resume nightly")]
struct Resume {
    /// The entry
    name: String,
}

/// Remove an entry; the messages it has enqueued stay
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host cron remove nightly")]
struct Remove {
    /// The entry
    name: String,
}

/// Enqueue an entry's message now, even if the entry is paused
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host cron run nightly")]
struct Run {
    /// The entry
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Cron {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        crate::context::with(global, async |context: &CommandContext| {
            let client = lookup::client(context).await?;
            match self.command {
                Command::Add(command) => command.run(&client).await,
                Command::List(command) => command.run(&client).await,
                Command::Pause(command) => command.run(&client).await,
                Command::Resume(command) => command.run(&client).await,
                Command::Remove(command) => command.run(&client).await,
                Command::Run(command) => command.run(&client).await,
            }
        })
        .await
    }
}

impl From<ScheduleError> for CommandError {
    fn from(error: ScheduleError) -> Self {
        Self::usage(error.to_string())
    }
}

impl Add {
    async fn run(self, client: &Pooled) -> Result<(), CommandError> {
        let schedule = Schedule::parse(&self.schedule, &self.tz)?;
        let catalog = catalog::load(client).await?;
        let queue = lookup::queue(&catalog, &self.queue)?;
        let next_at = schedule.next_after(cron::now(client).await?)?;
        let entry = NewEntry {
            payload: self.payload(queue).await?,
            name: self.name,
            queue: queue.name.clone(),
            schedule: self.schedule,
            time_zone: schedule.time_zone().to_owned(),
            missed: Missed::from_name(&self.missed)
                .ok_or_else(|| CommandError::usage("no such policy"))?,
            headers: self.header.into_iter().collect(),
            next_at,
        };
        entry.check_headers().map_err(CommandError::usage)?;
        if let Some(name) = HEADERS.iter().find(|name| entry.headers.contains_key(**name)) {
            return Err(CommandError::usage(format!(
                "the header {name:?} is set by each firing; choose another name"
            )));
        }
        if !cron::add(client, &entry, self.replace).await? {
            let name = entry.name;
            return Err(CommandError::failed(format!(
                "cron entry \"{name}\" exists already; add --replace to replace it"
            )));
        }
        println!("Added cron entry {}: {}", entry.name, next(&schedule, next_at));
        Ok(())
    }

    /// Refused here if Postgres would refuse it at each firing.
    async fn payload(&self, queue: &Queue) -> Result<Vec<u8>, CommandError> {
        let mut payload = self.payload.clone().into_bytes();
        if self.payload == "-" {
            payload.clear();
            tokio::io::stdin().read_to_end(&mut payload).await.map_err(anyhow::Error::from)?;
        }
        let kind = queue.settings.payload_type.sql_name();
        let no_payload = |why: String| {
            CommandError::failed(format!(
                "this payload does not fit queue {} ({kind}): {why}",
                queue.name
            ))
        };
        let stored_bytes = queue.settings.payload_type.check(&payload).map_err(no_payload)?;
        let range = 0..=queue.settings.payload_bytes_max;
        limits::bytes_within("size", stored_bytes, &range)
            .map_err(|why| no_payload(why.to_string()))?;
        Ok(payload)
    }
}

fn next(schedule: &Schedule, next_at: SystemTime) -> String {
    format!(
        "it fires next at {} ({} in {})",
        show::time(next_at),
        schedule.local(next_at),
        schedule.time_zone()
    )
}

impl List {
    async fn run(self, client: &Pooled) -> Result<(), CommandError> {
        let entries = cron::list(client).await?;
        if self.json {
            println!("{}", entries.iter().map(entry_json).collect::<Value>());
            return Ok(());
        }
        if entries.is_empty() {
            println!(
                "No cron entries yet: add one with `host cron add NAME SCHEDULE --queue QUEUE`"
            );
            return Ok(());
        }
        let columns = [
            Column::Left("NAME"),
            Column::Left("SCHEDULE"),
            Column::Left("TIME ZONE"),
            Column::Left("QUEUE"),
            Column::Left("MISSED"),
            Column::Left("NEXT"),
            Column::Left("LAST"),
            Column::Right("MESSAGES"),
        ];
        let rows = entries.iter().map(|e| {
            vec![
                e.name.clone(),
                e.schedule.clone(),
                e.time_zone.clone(),
                e.queue.clone(),
                e.missed.clone(),
                if e.paused { "paused".to_owned() } else { show::time(e.next_at) },
                e.fired_at.map_or("never".to_owned(), show::time),
                e.messages.to_string(),
            ]
        });
        print!("{}{}", show::table(&columns, rows), troubles(&entries));
        Ok(())
    }
}

/// A line for each entry that is due and cannot be fired.
pub(crate) fn troubles(entries: &[Entry]) -> String {
    let with_error = |e: &Entry| {
        let (name, due) = (&e.name, show::time(e.next_at));
        e.error.as_ref().map(|error| {
            let error = show::one_line(error);
            format!("! cron {name}: due {due}, cannot fire: {error}\n")
        })
    };
    entries.iter().filter_map(with_error).collect()
}

/// An entry for machines.
pub(crate) fn entry_json(e: &Entry) -> Value {
    json!({
        "name": e.name,
        "schedule": e.schedule,
        "time_zone": e.time_zone,
        "queue": e.queue,
        "missed": e.missed,
        "paused": e.paused,
        "next_at": if e.paused { Value::Null } else { show::time(e.next_at).into() },
        "last_at": e.fired_at.map(show::time),
        "messages": e.messages,
        "error": e.error,
    })
}

impl Pause {
    async fn run(self, client: &Pooled) -> Result<(), CommandError> {
        let entry = find(client, &self.name).await?;
        let changed = cron::pause(client, &entry.name).await?;
        println!("Cron entry {} is{} paused", entry.name, if changed { "" } else { " already" });
        Ok(())
    }
}

impl Resume {
    async fn run(self, client: &Pooled) -> Result<(), CommandError> {
        let entry = find(client, &self.name).await?;
        let schedule = Schedule::parse(&entry.schedule, &entry.time_zone)?;
        let next_at = schedule.next_after(cron::now(client).await?)?;
        if cron::resume(client, &entry.name, next_at).await? {
            println!("Cron entry {} is active: {}", entry.name, next(&schedule, next_at));
        } else {
            let next = next(&schedule, entry.next_at);
            println!("Cron entry {} is already active: {next}", entry.name);
        }
        Ok(())
    }
}

impl Remove {
    async fn run(self, client: &Pooled) -> Result<(), CommandError> {
        let entry = find(client, &self.name).await?;
        cron::remove(client, &entry.name).await?;
        println!("Removed cron entry {}", entry.name);
        Ok(())
    }
}

impl Run {
    async fn run(self, client: &Pooled) -> Result<(), CommandError> {
        let entry = find(client, &self.name).await?;
        let gone =
            || CommandError::failed(format!("cron entry \"{}\" was just removed", entry.name));
        let message = cron::run(client, &entry.name).await?.ok_or_else(gone)?;
        if self.json {
            println!("{}", json!({ "queue": entry.queue, "id": message.to_string() }));
        } else {
            println!("Enqueued message {message} on queue {}", entry.queue);
        }
        Ok(())
    }
}

/// The entry of that name.
async fn find(client: &Pooled, name: &str) -> Result<Entry, CommandError> {
    let mut entries = cron::list(client).await?;
    match entries.iter().position(|entry| entry.name == name) {
        Some(at) => Ok(entries.swap_remove(at)),
        None => Err(CommandError::unknown(
            "cron entry",
            name,
            entries.iter().map(|entry| entry.name.as_str()),
        )),
    }
}
