//! `host message`.

use clap::Args;
use serde_json::{Value, json};

use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::Global;
use crate::lookup;
use crate::show;
use host_core::id::MessageId;
use host_core::name::QueueName;
use host_queue::admin::message::{self, Event, Found, State, Whereabouts};

/// Show a message's story: where it is, and what happened to it
///
/// The story of a settled message can be read until its partition is rotated away, or for as long
/// as the queue keeps settled messages (--keep). Failed attempts stay with the message.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host message emails 17")]
pub(crate) struct Message {
    /// The queue
    queue: String,
    /// The message's id
    id: i64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Message {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        crate::context::with(global, async |context: &CommandContext| {
            let (client, catalog) = lookup::client_and_catalog(context).await?;
            let queue = &lookup::queue(&catalog, &self.queue)?.name;
            let id = MessageId::new(self.id);
            let found = message::find(&client, queue, id).await?;
            let found = found.ok_or_else(|| unknown(queue, id))?;
            let places = message::whereabouts(&client, queue, id).await?;
            let story = message::story(&client, queue, id).await?;
            if self.json {
                println!(
                    "{}",
                    json!({
                        "id": id.to_string(),
                        "enqueued_at": show::time(found.enqueued_at),
                        "headers": found.headers,
                        "unique_key": found.unique_key,
                        "payload": found.payload,
                        "handlers": places.iter().map(place_json).collect::<Value>(),
                        "story": story.iter().map(event_json).collect::<Value>(),
                    })
                );
            } else {
                print!("{}", text(queue, id, &found, &places, &story));
            }
            Ok(())
        })
        .await
    }
}

/// There is nothing of a message.
pub(crate) fn unknown(queue: &QueueName, id: MessageId) -> CommandError {
    CommandError::usage(format!(
        "queue {queue} has no message {id}: it never existed, or was settled and rotated away"
    ))
}

/// Where a message is for a handler, for machines.
pub(crate) fn place_json(w: &Whereabouts) -> Value {
    json!({
        "handler": w.handler,
        "state": w.state.name(),
        "at": w.at.map(show::time),
        "whose": w.whose,
        "attempt": w.attempt,
        "cancelled": w.cancelled,
        "result": w.result.as_deref().map(show::text),
    })
}

/// Where a message is for a handler, in words.
pub(crate) fn place_text(w: &Whereabouts) -> String {
    let at = w.at.map(show::time).unwrap_or_default();
    let whose = w.whose.clone().unwrap_or_default();
    let place = match w.state {
        State::InFlight => format!("in flight on {whose} since {at}"),
        State::Waiting => "waiting".to_owned(),
        State::Scheduled => format!("scheduled for {at}"),
        State::Dead => format!("dead letter {whose} since {at}"),
        State::Removed => format!("removed by an operator {at}"),
        State::Settled => format!("settled {at}"),
    };
    if w.cancelled { format!("{place}, cancelled") } else { place.trim_end().to_owned() }
}

fn event_json(e: &Event) -> Value {
    json!({ "at": show::time(e.at), "handler": e.handler, "attempt": e.attempt, "what": e.what })
}

fn text(
    queue: &QueueName,
    id: MessageId,
    found: &Found,
    places: &[Whereabouts],
    story: &[Event],
) -> String {
    let headers =
        found.headers.as_ref().filter(|h| !h.is_null()).map_or("none".to_owned(), Value::to_string);
    let mut lines = vec![
        format!("{:<12} {id} of queue {queue}", "Message"),
        format!("{:<12} {headers}", "Headers"),
    ];
    lines.extend(
        found
            .unique_key
            .as_ref()
            .map(|key| format!("{:<12} {}", "Unique key", show::indented(key, 13))),
    );
    for place in places {
        lines.push(format!("{:<12} {}", place.handler, place_text(place)));
        let result = place.result.as_deref().map(show::text);
        let shown = result.map(|r| format!("{:<12} {}", "Result", show::indented(&r, 13)));
        lines.extend(shown);
    }
    lines.push("Story".to_owned());
    lines.extend(story.iter().map(|e| {
        let handler = e.handler.as_ref().map(|h| format!("  {h}")).unwrap_or_default();
        let attempt = e.attempt.map(|n| format!("  attempt {n}")).unwrap_or_default();
        format!("  {}{handler}{attempt}  {}", show::time(e.at), show::indented(&e.what, 4))
    }));
    lines.push("Payload".to_owned());
    lines.push(found.payload.clone());
    lines.join("\n") + "\n"
}
