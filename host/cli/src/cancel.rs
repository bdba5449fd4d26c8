//! `host cancel`.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::message::{place_json, place_text, unknown};
use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::Global;
use crate::lookup;
use host_core::id::MessageId;
use host_core::name::QueueName;
use host_queue::admin::message::{self, State, Whereabouts};
use host_queue::connect::Pooled;

/// How often a look is taken at a message that is in flight.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Cancel a message: waiting, scheduled or in flight
///
/// The message does not run again. If a handler is running it, the host interrupts the handler, and
/// the call has no effect unless it finishes first. A waiting message is settled as removed at its
/// turn, a scheduled message when it is due.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host cancel emails 17")]
pub(crate) struct Cancel {
    /// The queue
    queue: String,
    /// The message's id
    id: i64,
    /// Show where the message is, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// How long to wait for the hosts that are running it
    #[arg(long, value_name = "TIME", default_value = "10s")]
    wait: humantime::Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Cancel {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        crate::context::with(global, async |context: &CommandContext| {
            let (client, catalog) = lookup::client_and_catalog(context).await?;
            let queue = lookup::queue(&catalog, &self.queue)?;
            let id = MessageId::new(self.id);
            if message::find(&client, &queue.name, id).await?.is_none() {
                return Err(unknown(&queue.name, id));
            }
            if !catalog.deployments.iter().any(|d| d.queue == queue.id) {
                return Err(CommandError::failed(format!(
                    "queue {} has no handler, so nothing would run this message; see `host queue purge`",
                    queue.name
                )));
            }
            let mut alive = 0;
            if !self.dry_run {
                alive = message::cancel(&client, &queue.name, id).await?;
            }
            let places = self.settled(&client, &queue.name, id).await?;
            if !self.dry_run {
                message::forget_cancelled(&client, &queue.name, id).await?;
            }
            if self.json {
                let handlers = places.iter().map(place_json).collect::<Value>();
                println!("{}", json!({ "id": id.to_string(), "handlers": handlers }));
            } else {
                for w in &places {
                    println!("{}/{}: {}", queue.name, w.handler, place_text(w));
                }
            }
            if self.dry_run || alive > 0 && places.iter().any(is_cancelled) {
                return Ok(());
            }
            Err(CommandError::failed(format!("message {id} has no run left to cancel")))
        })
        .await
    }

    /// Where it is when no host has it in hand any more, or the time is over.
    async fn settled(
        &self,
        client: &Pooled,
        queue: &QueueName,
        id: MessageId,
    ) -> Result<Vec<Whereabouts>, CommandError> {
        let started = Instant::now();
        loop {
            let places = message::whereabouts(client, queue, id).await?;
            let in_flight = places.iter().any(|w| w.cancelled && w.state == State::InFlight);
            if !in_flight || started.elapsed() > Duration::from(self.wait) {
                return Ok(places);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// It will not run, or was stopped.
fn is_cancelled(w: &Whereabouts) -> bool {
    w.state == State::Removed || w.cancelled && w.state.is_alive()
}
