//! `host enqueue`.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::{Global, key_value};
use crate::{lookup, show};
use host_core::format;
use host_core::limits;
use host_core::message::PayloadType;
use host_core::message::lane::Priority;
use host_queue::catalog::Queue;
use host_queue::connect::Pooled;
use host_queue::producer::{self, Batch, Enqueued, Envelope, When};

/// Enqueue a message, or one for each line of a file or of standard input
///
/// Many messages go by COPY in one transaction: all are enqueued, or none. Blank lines are skipped.
/// If the queue drops a duplicate, the command succeeds. If the queue refuses it, the exit code is
/// 1.
#[derive(Debug, Args)]
#[command(override_usage = "host enqueue [OPTIONS] <QUEUE> <PAYLOAD | - | --file FILE>")]
#[command(group = clap::ArgGroup::new("source").required(true).args(["payload", "file"]))]
#[command(after_help = "\
Examples:
  host enqueue emails '{\"to\": \"ada@example.com\"}' --header source=shell --delay 5m
  host enqueue emails --file people.jsonl
  host enqueue reports '{}' --unique-key daily-2030-01-31
  seq 1000 | host enqueue emails -
  host enqueue thumbnails --file photo.jpg")]
pub(crate) struct Enqueue {
    /// The queue
    queue: String,
    /// The message's payload, or - to read one message from each line of standard input
    payload: Option<String>,
    /// Read one message from each line of this file; on a bytea queue the whole file is one message
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Read one message from each line on a bytea queue, too
    #[arg(long)]
    lines: bool,
    /// A header for each message; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    header: Vec<(String, String)>,
    /// Deliver after this time, such as 90s or 1h 30m
    #[arg(long, value_name = "TIME", conflicts_with = "run_at")]
    delay: Option<humantime::Duration>,
    /// Deliver at this time, such as 2030-01-31T08:00:00Z or 2030-01-31T08:00:00+01:00
    #[arg(long, value_name = "TIME", value_parser = format::parse_time)]
    run_at: Option<SystemTime>,
    /// Dead-letter the message if it has not started after this time
    #[arg(long, value_name = "TIME")]
    expires_in: Option<humantime::Duration>,
    /// Run it before or after others; only on a queue with priorities
    #[arg(long, value_name = "PRIORITY", value_parser = priority())]
    priority: Option<Priority>,
    /// The message's key: an ordered queue runs the messages of a key in order, a queue made with
    /// --per-key applies its limits to each key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Enqueue it only if no other message holds this key; for one message, on a queue with unique
    /// keys
    #[arg(long, value_name = "KEY")]
    unique_key: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What came of many.
struct Counts {
    messages: u64,
    blank_lines: u64,
}

impl Enqueue {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        crate::context::with(global, async |context: &CommandContext| {
            let (mut client, catalog) = lookup::client_and_catalog(context).await?;
            let queue = lookup::queue(&catalog, &self.queue)?;
            self.check_lane(queue)?;
            if self.unique_key.is_some() && queue.settings.unique.is_none() {
                let set = format!("to change that: host queue set {} --unique 1h", queue.name);
                return Err(CommandError::failed(format!(
                    "queue {} takes no unique keys; {set}",
                    queue.name
                )));
            }
            if let Some(payload) = self.whole(queue.settings.payload_type).await? {
                return self.enqueue_one(&client, queue, &payload).await;
            }
            if self.unique_key.is_some() {
                return Err(CommandError::usage(
                    "--unique-key works for one message only, not with --file, --lines or -",
                ));
            }
            let counts = self.enqueue_lines(&mut client, queue).await?;
            self.report(queue, &counts);
            Ok(())
        })
        .await
    }

    /// The payload, if there is just one.
    async fn whole(&self, payload_type: PayloadType) -> Result<Option<Vec<u8>>, CommandError> {
        let one = payload_type == PayloadType::Bytea && !self.lines;
        match (&self.file, self.payload.as_deref()) {
            (Some(file), _) if one => {
                Ok(Some(tokio::fs::read(file).await.map_err(|e| unreadable(file, &e))?))
            }
            (None, Some("-")) if one => {
                let mut bytes = Vec::new();
                tokio::io::stdin().read_to_end(&mut bytes).await.map_err(anyhow::Error::from)?;
                Ok(Some(bytes))
            }
            (Some(_), _) | (None, None | Some("-")) => Ok(None),
            (None, Some(payload)) => Ok(Some(payload.as_bytes().to_vec())),
        }
    }

    /// Says what is wrong before Postgres does, which would not say what to do.
    fn check_lane(&self, queue: &Queue) -> Result<(), CommandError> {
        let lack = queue.settings.lanes.lack(self.key.is_some(), self.priority.is_some());
        lack.map_or(Ok(()), |lack| Err(CommandError::usage(format!("queue {} {lack}", queue.name))))
    }

    fn envelope(&self) -> Result<Envelope, CommandError> {
        let within = |what, time: Option<humantime::Duration>| match time {
            Some(time) => limits::duration_within(what, *time, &limits::DELAY),
            None => Ok(()),
        };
        within("delay", self.delay)?;
        within("expires-in", self.expires_in)?;
        let when = match (self.delay, self.run_at) {
            (Some(delay), _) => When::After(Duration::from(delay)),
            (None, Some(time)) => When::At(time),
            (None, None) => When::Now,
        };
        let expires = self.expires_in.map(|time| When::After(time.into()));
        let headers = self.header.iter().cloned().collect();
        let (priority, key) = (self.priority, self.key.clone());
        Ok(Envelope { headers, when, expires, priority, key })
    }

    async fn enqueue_one(
        &self,
        client: &Pooled,
        queue: &Queue,
        payload: &[u8],
    ) -> Result<(), CommandError> {
        check(queue, payload, "the message")?;
        let (envelope, key) = (self.envelope()?, self.unique_key.as_deref());
        let enqueued = producer::enqueue(client, queue, envelope, key, payload).await?;
        match (enqueued, self.json) {
            (Enqueued::As(id), false) => println!("{id}"),
            (Enqueued::As(id), true) => println!("{}", json!({ "id": id.to_string() })),
            (Enqueued::DuplicateOf(of), false) => {
                let of = of
                    .map_or_else(|| "of one that is gone".into(), |id| format!("of message {id}"));
                println!("Dropped: a duplicate {of}");
            }
            (Enqueued::DuplicateOf(of), true) => {
                let of = of.map(|id| id.to_string());
                println!("{}", json!({ "id": null, "duplicate_of": of }));
            }
        }
        Ok(())
    }

    async fn enqueue_lines(
        &self,
        client: &mut Pooled,
        queue: &Queue,
    ) -> Result<Counts, CommandError> {
        let (mut input, bar) = self.open().await?;
        let mut batch =
            Batch::begin(client, &queue.name, queue.settings.payload_type, self.envelope()?)
                .await?;
        let (mut line, mut number, mut blank_lines) = (Vec::new(), 0u64, 0u64);
        loop {
            line.clear();
            let read = input.read_until(b'\n', &mut line).await.map_err(anyhow::Error::from)?;
            if read == 0 {
                break;
            }
            number += 1;
            bar.inc(read as u64);
            let payload = line.strip_suffix(b"\n").unwrap_or(&line);
            let payload = payload.strip_suffix(b"\r").unwrap_or(payload);
            if payload.trim_ascii().is_empty() {
                blank_lines += 1;
                continue;
            }
            check(queue, payload, &format!("line {number}"))?;
            batch.add(payload).await?;
        }
        let messages = batch.commit().await?;
        bar.finish_and_clear();
        Ok(Counts { messages, blank_lines })
    }

    /// The lines, and a bar that counts their bytes.
    async fn open(&self) -> Result<(Box<dyn AsyncBufRead + Unpin>, ProgressBar), CommandError> {
        let Some(path) = &self.file else {
            return Ok((Box::new(BufReader::new(tokio::io::stdin())), progress_bar(None)));
        };
        let file = tokio::fs::File::open(path).await.map_err(|e| unreadable(path, &e))?;
        let bytes = file.metadata().await.map_err(|e| unreadable(path, &e))?.len();
        Ok((Box::new(BufReader::new(file)), progress_bar(Some(bytes))))
    }

    fn report(&self, queue: &Queue, counts: &Counts) {
        let Counts { messages, blank_lines } = counts;
        if self.json {
            println!("{}", json!({ "messages": messages, "blank_lines": blank_lines }));
            return;
        }
        let skipped = match blank_lines {
            0 => String::new(),
            n => format!(", skipped {}", show::plural(*n as usize, "blank line")),
        };
        let noun = if *messages == 1 { "message" } else { "messages" };
        println!("Enqueued {} {noun} on queue {}{skipped}", HumanCount(*messages), queue.name);
    }
}

fn priority() -> impl TypedValueParser<Value = Priority> {
    PossibleValuesParser::new(Priority::ALL.map(Priority::name))
        .try_map(|name| Priority::from_name(&name).ok_or("no such priority"))
}

/// Says what is wrong before Postgres does, which would not say where.
fn check(queue: &Queue, payload: &[u8], what: &str) -> Result<(), CommandError> {
    queue.settings.payload_type.check(payload).map(drop).map_err(|why| {
        let kind = queue.settings.payload_type.sql_name();
        CommandError::failed(format!("{what} does not fit queue {} ({kind}): {why}", queue.name))
    })
}

fn unreadable(path: &std::path::Path, error: &std::io::Error) -> CommandError {
    CommandError::usage(format!("cannot read {}: {error}", path.display()))
}

/// Over the bytes of the input, if it is known how many there are.
fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{wide_bar} {bytes}/{total_bytes} {eta}"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {elapsed}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
