//! `host handlers show`.

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use crate::error::CommandError;
use crate::{lookup, settings, show};
use host_queue::admin::deployments::{self, Version};
use host_queue::catalog;
use host_queue::connect::Pooled;

/// Show a version of a handler: its settings, and what differs from the version before
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host handlers show emails
  host handlers show emails/audit --version 2
  host handlers show emails --json | jq .settings.config >config.json")]
pub(super) struct Show {
    /// The handler, as QUEUE/NAME; QUEUE alone is QUEUE/default
    handler: String,
    /// The version [default: the one in force]
    #[arg(long, value_name = "VERSION")]
    version: Option<i32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) async fn run(&self, client: &Pooled) -> Result<(), CommandError> {
        let catalog = catalog::load(client).await?;
        let (queue, handler) = lookup::handler(&catalog, &self.handler)?;
        let name = format!("{}/{}", queue.name, handler.name);
        let versions =
            deployments::versions(client, queue.name.as_str(), handler.name.as_str()).await?;
        let version = lookup::version(&versions, self.version.unwrap_or(handler.version), &name)?;
        let number = version.deployed.version;
        let before = versions.iter().find(|v| v.deployed.version < number);
        let paused = catalog.instructions.iter().any(|t| t.handler == handler.handler && t.paused);
        if self.json {
            let mut all = json!({
                "queue": queue.name.as_str(),
                "handler": handler.name.as_str(),
                "paused": paused,
                "version_before": before.map(|before| before.deployed.version),
                "changes": before.map(|b| {
                    settings::changes_json(&settings::changes_between(b, version))
                }),
            });
            describe_json(version, &mut all);
            println!("{all}");
        } else {
            let state = match (version.in_force, paused) {
                (true, false) => "in force".to_owned(),
                (true, true) => "in force, paused".to_owned(),
                (false, _) => format!("not in force: v{} is", handler.version),
            };
            print!("{}", text(&format!("{name} v{number}, {state}"), version, before));
        }
        Ok(())
    }
}

fn describe_json(version: &Version, all: &mut Value) {
    all["version"] = json!(version.deployed.version);
    all["in_force"] = json!(version.in_force);
    all["sha256"] = json!(version.sha256.as_str());
    all["bytes"] = json!(version.bytes);
    all["deployed_at"] = json!(show::time(version.deployed_at));
    all["deployed_by"] = json!(version.deployed_by);
    match &version.settings {
        Ok(settings) => all["settings"] = settings::json(settings),
        Err(error) => all["error"] = json!(error.to_string()),
    }
}

fn text(headline: &str, version: &Version, before: Option<&Version>) -> String {
    let size = show::bytes(version.bytes);
    let mut rows = vec![
        ("Handler".to_owned(), vec![headline.to_owned()]),
        ("Component".to_owned(), vec![format!("{size}, sha256 {}", version.sha256.short())]),
        (
            "Deployed".to_owned(),
            vec![format!("{} by {}", show::time(version.deployed_at), version.deployed_by)],
        ),
        (
            "Settings".to_owned(),
            match &version.settings {
                Ok(settings) => settings::lines(settings),
                Err(error) => vec![error.to_string()],
            },
        ),
    ];
    if let Some(before) = before {
        let changes = settings::changes_between(before, version);
        let mut lines = settings::change_lines(&changes, |_| None);
        if before.settings.is_err() {
            lines.push("its settings cannot be read".to_owned());
        } else if lines.is_empty() {
            lines.push("nothing changed".to_owned());
        }
        rows.push((format!("Since v{}", before.deployed.version), lines));
    }
    let mut text = String::new();
    for (what, lines) in rows {
        for (at, line) in lines.iter().enumerate() {
            let what = if at == 0 { &*what } else { "" };
            let _ = writeln!(text, "{what:<10} {line}");
        }
    }
    text
}
