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
            if !report.missing_roles.is_empty() {
                println!("{}", missing_roles(&report.missing_roles));
            }
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
        "granted": report.granted,
        "missing_roles": report.missing_roles,
    })
}

fn text(report: &Report) -> String {
    let Report { from, to, applied, functions_replaced, granted, .. } = report;
    match (applied.is_empty(), functions_replaced) {
        (true, false) if *granted > 0 => {
            format!(
                "The schema is current (version {to}); granted to the group roles what they lacked"
            )
        }
        (true, false) => format!("Nothing to do: the schema is current (version {to})"),
        (true, true) => format!("Replaced the functions of schema version {to}"),
        (false, _) => format!(
            "Migrated from version {from} to {to}: applied {}, replaced the functions",
            applied.join(", ")
        ),
    }
}

/// Not an error: the owner of the schema needs none of them.
fn missing_roles(roles: &[String]) -> String {
    let create: Vec<_> = roles.iter().map(|role| format!("CREATE ROLE {role} NOLOGIN;")).collect();
    format!(
        "The group roles {} are missing, and this role may not create any. To have them: as a role \
         with CREATEROLE, run {} and then `host migrate` again",
        roles.join(", "),
        create.join(" ")
    )
}
