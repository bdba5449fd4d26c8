//! `host peek`.

use clap::Args;
use serde_json::{Value, json};

use super::show::{self, Column};
use super::{Context, Fail, Global, lookup};
use crate::queue::catalog;
use crate::queue::message::{self, Waiting};

/// Characters of a payload that a table shows.
const PAYLOAD_CHARS: usize = 50;

/// Look at the next messages of a queue, without taking them
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host peek emails -n 3 --json | jq -r .[].payload")]
pub struct Peek {
    /// The queue
    queue: String,
    /// At most so many
    #[arg(short, long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    number: u32,
    /// What waits for this handler; left out: for the only one
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Print JSON, with whole payloads
    #[arg(long)]
    json: bool,
}

impl Peek {
    /// Does it.
    pub async fn run(self, global: &Global) -> Result<(), Fail> {
        super::with(global, async |context: &Context| {
            let client = lookup::client(context).await?;
            let catalog = catalog::load(&client).await?;
            let queue = lookup::queue(&catalog, &self.queue)?;
            let of_queue: Vec<_> =
                catalog.deployments.iter().filter(|d| d.queue == queue.id).collect();
            let handler = match (&self.handler, of_queue.as_slice()) {
                (Some(name), _) => Some(lookup::handler_of(&catalog, queue, name)?),
                (None, [] | [_]) => of_queue.first().copied(),
                (None, several) => {
                    let names: Vec<_> = several.iter().map(|d| d.name.as_str()).collect();
                    return Err(Fail::usage(format!(
                        "queue {} has several handlers, each with its own place: add --handler with one of {}",
                        queue.name,
                        names.join(", ")
                    )));
                }
            };
            let handler = handler.map(|h| h.handler);
            let messages = message::peek(&client, &queue.name, handler, self.number).await?;
            if self.json {
                println!("{}", messages.iter().map(waiting_json).collect::<Value>());
            } else if messages.is_empty() {
                println!("No message waits");
            } else {
                print!("{}", text(&messages));
            }
            Ok(())
        })
        .await
    }
}

fn text(messages: &[Waiting]) -> String {
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
