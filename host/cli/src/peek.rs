//! `host peek`.

use clap::Args;
use serde_json::{Value, json};

use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::Global;
use crate::lookup;
use crate::show::{self, Column};
use host_queue::admin::message::{self, Scheduled, Settled, Waiting};
use host_queue::catalog::Queue;
use host_queue::connect::Pooled;
use host_queue::inspect::{self, HeldLanes};

/// Characters of a payload that a table shows.
const PAYLOAD_CHARS: usize = 50;
/// Characters of a result, and of the payload beside it.
const RESULT_CHARS: usize = 20;

/// Show the next messages of a queue, without taking them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host peek emails -n 3 --json | jq -r .[].payload
  host peek emails --scheduled
  host peek emails --settled")]
pub(crate) struct Peek {
    /// The queue
    queue: String,
    /// At most so many
    #[arg(short, long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    number: u32,
    /// Show what waits for this handler; not needed if the queue has one handler
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Show messages on the schedule, the first due first: retries with the error of their last
    /// attempt, and what was enqueued for later
    #[arg(long)]
    scheduled: bool,
    /// Show settled messages, newest first, on a queue that keeps them
    #[arg(long, conflicts_with = "scheduled")]
    settled: bool,
    /// Print JSON, with whole payloads
    #[arg(long)]
    json: bool,
}

impl Peek {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        crate::context::with(global, async |context: &CommandContext| {
            let (client, catalog) = lookup::client_and_catalog(context).await?;
            let queue = lookup::queue(&catalog, &self.queue)?;
            let of_queue: Vec<_> =
                catalog.deployments.iter().filter(|d| d.queue == queue.id).collect();
            if self.settled && queue.settings.keep.is_none() {
                return Err(CommandError::usage(format!(
                    "queue {0} keeps no settled messages: `host queue set {0} --keep 7d` keeps them from then on",
                    queue.name
                )));
            }
            let handler = match (&self.handler, of_queue.as_slice()) {
                (Some(name), _) => Some(lookup::handler_of(&catalog, queue, name)?),
                (None, _) if self.settled || self.scheduled => None,
                (None, [] | [_]) => of_queue.first().copied(),
                (None, several) => {
                    let names: Vec<_> = several.iter().map(|d| d.name.as_str()).collect();
                    return Err(CommandError::usage(format!(
                        "queue {} has several handlers: choose one with --handler: {}",
                        queue.name,
                        names.join(", ")
                    )));
                }
            };
            let handler = handler.map(|h| h.handler);
            if self.settled {
                let messages = message::settled(&client, &queue.name, handler, self.number).await?;
                self.show(&messages, "No message is kept", settled_json, settled_text);
                return Ok(());
            }
            if self.scheduled {
                let messages =
                    message::scheduled(&client, &queue.name, handler, self.number).await?;
                self.show(&messages, "No message is scheduled", scheduled_json, scheduled_text);
                return self.show_held(&client, queue).await;
            }
            let messages = message::peek(&client, &queue.name, handler, self.number).await?;
            let mut none = "No message waits".to_owned();
            if messages.is_empty() && !self.json {
                let next = message::scheduled(&client, &queue.name, handler, 1).await?;
                if let Some(Scheduled { due, .. }) = next.first() {
                    let due = show::time(*due);
                    let peek = format!("`host peek {} --scheduled`", queue.name);
                    none = format!("{none}; the next is due at {due}, see {peek}");
                }
            }
            self.show(&messages, &none, waiting_json, waiting_text);
            self.show_held(&client, queue).await
        })
        .await
    }

    /// On a queue that keeps order, a retry is not on the schedule: it holds its lane.
    async fn show_held(&self, client: &Pooled, queue: &Queue) -> Result<(), CommandError> {
        if self.json || queue.settings.lanes.ordered().is_none() {
            return Ok(());
        }
        for lag in inspect::status_of(client, &queue.name).await?.lag {
            let Some(HeldLanes { lanes, until: Some(until) }) = lag.held else { continue };
            let held = show::plural(lanes as usize, "lane");
            println!(
                "! {}/{}: {held} held until {until}: a retry is not due, and the messages of its lane wait behind it",
                queue.name, lag.handler
            );
        }
        Ok(())
    }

    fn show<T>(&self, messages: &[T], none: &str, json: fn(&T) -> Value, text: fn(&[T]) -> String) {
        if self.json {
            println!("{}", messages.iter().map(json).collect::<Value>());
        } else if messages.is_empty() {
            println!("{none}");
        } else {
            print!("{}", text(messages));
        }
    }
}

fn scheduled_text(messages: &[Scheduled]) -> String {
    let columns = [
        Column::Right("MESSAGE"),
        Column::Left("DUE"),
        Column::Left("HANDLER"),
        Column::Right("ATTEMPT"),
        Column::Left("LAST ERROR"),
        Column::Left("PAYLOAD"),
    ];
    let rows = messages.iter().map(|m| {
        vec![
            m.id.to_string(),
            show::time(m.due),
            m.handler.clone().unwrap_or_else(|| "all".to_owned()),
            m.attempt.to_string(),
            show::line(m.error.as_deref().unwrap_or_default(), PAYLOAD_CHARS),
            show::line(&m.payload, RESULT_CHARS),
        ]
    });
    show::table(&columns, rows)
}

fn scheduled_json(m: &Scheduled) -> Value {
    json!({
        "id": m.id.to_string(),
        "enqueued_at": show::time(m.enqueued_at),
        "due": show::time(m.due),
        "handler": m.handler,
        "attempt": m.attempt,
        "error": m.error,
        "key": m.key,
        "headers": m.headers,
        "payload": m.payload,
    })
}

fn settled_text(messages: &[Settled]) -> String {
    let columns = [
        Column::Right("MESSAGE"),
        Column::Left("SETTLED"),
        Column::Left("HANDLER"),
        Column::Right("ATTEMPT"),
        Column::Left("RESULT"),
        Column::Left("PAYLOAD"),
    ];
    let rows = messages.iter().map(|m| {
        let result = match &m.result {
            _ if m.removed => "removed".to_owned(),
            Some(result) => show::line(&show::text(result), RESULT_CHARS),
            None => String::new(),
        };
        vec![
            m.id.to_string(),
            show::time(m.settled_at),
            m.handler.clone(),
            m.attempt.to_string(),
            result,
            show::line(&m.payload, RESULT_CHARS),
        ]
    });
    show::table(&columns, rows)
}

fn settled_json(m: &Settled) -> Value {
    json!({
        "id": m.id.to_string(),
        "handler": m.handler,
        "enqueued_at": show::time(m.enqueued_at),
        "settled_at": show::time(m.settled_at),
        "removed": m.removed,
        "attempt": m.attempt,
        "headers": m.headers,
        "payload": m.payload,
        "result": m.result.as_deref().map(show::text),
    })
}

fn waiting_text(messages: &[Waiting]) -> String {
    let columns = [
        Column::Right("MESSAGE"),
        Column::Left("ENQUEUED"),
        Column::Right("ATTEMPT"),
        Column::Left("PAYLOAD"),
    ];
    let rows = messages.iter().map(|m| {
        vec![
            m.id.to_string(),
            show::time(m.enqueued_at),
            m.attempt.to_string(),
            show::line(&m.payload, PAYLOAD_CHARS),
        ]
    });
    show::table(&columns, rows)
}

fn waiting_json(m: &Waiting) -> Value {
    json!({
        "id": m.id.to_string(),
        "enqueued_at": show::time(m.enqueued_at),
        "run_at": m.run_at.map(show::time),
        "attempt": m.attempt,
        "headers": m.headers,
        "payload": m.payload,
    })
}
