//! `host handlers`.

use clap::Args;
use serde_json::{Value, json};

use super::show::{self, Column};
use super::{Context, Fail, Global, lookup};
use crate::queue::catalog;
use crate::queue::inspect::{self, HandlerVersion};

/// List handlers: their versions, and which hosts run them
///
/// A star marks the version in force.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host handlers --queue emails")]
pub struct Handlers {
    /// Only those of this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Handlers {
    /// Does it.
    pub async fn run(self, global: &Global) -> Result<(), Fail> {
        super::with(global, async |context: &Context| {
            let client = lookup::client(context).await?;
            if let Some(name) = &self.queue {
                lookup::queue(&catalog::load(&client).await?, name)?;
            }
            let mut handlers = inspect::handlers(&client).await?;
            handlers.retain(|h| self.queue.as_ref().is_none_or(|queue| h.queue == *queue));
            if self.json {
                println!("{}", handlers.iter().map(version_json).collect::<Value>());
            } else {
                print!("{}", text(&handlers));
            }
            Ok(())
        })
        .await
    }
}

/// A version for machines.
pub fn version_json(h: &HandlerVersion) -> Value {
    json!({
        "queue": h.queue,
        "handler": h.handler,
        "version": h.version,
        "in_force": h.in_force,
        "sha256": h.sha256.as_str(),
        "bytes": h.bytes,
        "isolation": h.isolation,
        "concurrency": h.concurrency,
        "http": h.http,
        "secrets": h.secrets,
        "deployed_at": show::time(h.deployed_at),
        "deployed_by": h.deployed_by,
        "runs_on": h.runs_on,
        "failed_on": h.failed_on,
    })
}

fn text(handlers: &[HandlerVersion]) -> String {
    if handlers.is_empty() {
        return "No handlers yet: deploy one with `host deploy --queue QUEUE FILE.wasm`\n".into();
    }
    let columns = [
        Column::Left("HANDLER"),
        Column::Right("VERSION"),
        Column::Left("SHA-256"),
        Column::Right("SIZE"),
        Column::Left("DEPLOYED"),
        Column::Left("BY"),
        Column::Left("RUNS ON"),
    ];
    let rows = handlers.iter().map(|h| {
        let star = if h.in_force { "*" } else { "" };
        let failed = h.failed_on.iter().map(|failure| format!("not on {failure}"));
        let hosts: Vec<String> = h.runs_on.iter().cloned().chain(failed).collect();
        vec![
            format!("{}/{}", h.queue, h.handler),
            format!("{star}{}", h.version),
            h.sha256.short().to_owned(),
            show::bytes(h.bytes),
            show::time(h.deployed_at),
            h.deployed_by.clone(),
            if hosts.is_empty() { "-".to_owned() } else { hosts.join(", ") },
        ]
    });
    show::table(&columns, rows)
}
