//! `host migrate`.

use clap::Args;

use super::{Context, Fail, Global};
use crate::queue::migrate::{self, Migrations, Report};

/// Bring the database to the schema of this host
///
/// Safe to run at any time and as often as one likes, while hosts and producers work.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host migrate --database-url postgres://me@localhost/jobs")]
pub struct Migrate {
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

impl Migrate {
    /// Does it.
    pub async fn run(self, global: &Global) -> Result<(), Fail> {
        let report = super::with(global, async |context: &Context| {
            if let Some(report) = &context.migrated {
                return Ok(report.clone());
            }
            let mut alone = context.database.connect_alone().await?;
            Ok(migrate::migrate(&mut alone.client, &Migrations::embedded()?).await?)
        })
        .await?;
        if self.json {
            println!("{}", json(&report));
        } else {
            println!("{}", text(&report));
        }
        Ok(())
    }
}

fn json(report: &Report) -> serde_json::Value {
    serde_json::json!({
        "from": report.from,
        "to": report.to,
        "applied": report.applied,
        "functions_replaced": report.functions_replaced,
    })
}

fn text(report: &Report) -> String {
    let Report { from, to, applied, functions_replaced } = report;
    match (applied.is_empty(), functions_replaced) {
        (true, false) => format!("Nothing to do: the schema is current (version {to})"),
        (true, true) => format!("Replaced the functions of schema version {to}"),
        (false, _) => format!(
            "Migrated from version {from} to {to}: applied {}, replaced the functions",
            applied.join(", ")
        ),
    }
}
