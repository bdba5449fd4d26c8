//! `host doctor`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::context::CommandContext;
use crate::error::CommandError;
use crate::exit_codes;
use crate::global::Global;
use crate::show;
use host_core::diagnosis::{Finding, Severity, clock_skew, diagnose, held_tables};
use host_queue::connect::Pooled;
use host_queue::connect::pooler;
use host_queue::error::QueueError;
use host_queue::inspect::{doctor, shape};
use host_queue::migrate::{self, Migrations, SchemaState};

/// Find what is wrong or will be, and say what to do
///
/// Doctor changes nothing. It finds: obstacles to rotation, handlers that are behind, hosts without
/// a sign of life, missing roles and grants, harmful settings, a pooler in transaction mode, clocks
/// that differ, a database that was restored.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes, beside those of all commands:
  0  healthy, or only notes
  5  warnings: it works, but not well or not for long
  6  errors: something stands still or may be lost

Example:
  host doctor --json | jq -r '.findings[] | select(.severity == \"error\") | .what'")]
pub(crate) struct Doctor {
    /// Report transactions, leases and waiting messages that are older than this
    #[arg(long, value_name = "TIME", default_value = "1m")]
    patience: humantime::Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<ExitCode, CommandError> {
        let findings = crate::context::with(global, async |context: &CommandContext| {
            Box::pin(self.look(context)).await
        })
        .await?;
        let worst = findings.iter().map(Finding::severity).max();
        if self.json {
            let all: Value = findings.iter().map(finding_json).collect::<Result<_, _>>()?;
            println!("{}", json!({ "healthy": worst.is_none(), "findings": all }));
        } else if findings.is_empty() {
            println!("Nothing is wrong");
        }
        for finding in findings.iter().filter(|_| !self.json) {
            let (what, remedy) = (finding.to_string(), finding.remedy());
            println!("{:<8} {}", name(finding.severity()), show::one_line(&what));
            println!("         -> {}", show::one_line(&remedy));
        }
        Ok(ExitCode::from(match worst {
            None | Some(Severity::Note) => 0,
            Some(Severity::Warning) => exit_codes::DOCTOR_WARNING,
            Some(Severity::Error) => exit_codes::DOCTOR_ERROR,
        }))
    }

    async fn look(&self, context: &CommandContext) -> Result<Vec<Finding>, CommandError> {
        if pooler::is_pooled(&context.database).await? {
            // Prepared statements may not get through either.
            return Ok(vec![Finding::Pooled]);
        }
        let client = context.database.get().await?;
        doctor::wait_for_nobody(&client).await?;
        let state = migrate::check(&client, &Migrations::embedded()?).await?;
        if !matches!(state, SchemaState::Current { .. }) {
            return Ok(vec![Finding::Schema { state: state.to_string() }]);
        }
        let held = doctor::held_tables(&client).await?;
        let mut findings = match Box::pin(self.look_further(context, &client)).await {
            // A lock that kept doctor waiting is a finding, however young it is.
            Ok((further, locked)) => {
                let patience = if locked { Duration::ZERO } else { *self.patience };
                [held_tables(&held, patience), further].concat()
            }
            // What is locked is why.
            Err(_) if !held.is_empty() => held_tables(&held, Duration::ZERO),
            Err(error) => return Err(error),
        };
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
        Ok(findings)
    }

    /// All that reads tables, and whether it could not read some, since they are locked.
    async fn look_further(
        &self,
        context: &CommandContext,
        client: &Pooled,
    ) -> Result<(Vec<Finding>, bool), CommandError> {
        let (ahead_ms, within) = doctor::clock(client).await?;
        let (first, second) = tokio::join!(another(context), another(context));
        let (damage, facts) = tokio::join!(
            shape::damage(first.as_ref().unwrap_or(client), second.as_ref().unwrap_or(client)),
            doctor::facts(&context.database, client)
        );
        let (mut findings, mut locked) = match damage {
            Err(QueueError::Busy(_)) => (Vec::new(), true),
            damage => (damage?, false),
        };
        match facts {
            Ok(facts) => {
                locked |= !facts.locked.is_empty();
                findings.extend(diagnose(&facts, *self.patience, env!("CARGO_PKG_VERSION")));
            }
            // What is missing is why.
            Err(error) if !findings.iter().any(Finding::is_damage) => return Err(error.into()),
            Err(_) => {}
        }
        findings.extend(clock_skew(ahead_ms, within));
        Ok((findings, locked))
    }
}

/// Another connection, so that Postgres can look at several things at once; `None`: there is none
/// to be had, which is no reason to say nothing.
async fn another(context: &CommandContext) -> Option<Pooled> {
    let client = context.database.get().await.ok()?;
    doctor::wait_for_nobody(&client).await.ok()?;
    // It refuses what cannot be trusted, and sets where names are looked up.
    migrate::check(&client, &Migrations::embedded().ok()?).await.ok()?;
    Some(client)
}

const fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn finding_json(finding: &Finding) -> Result<Value, anyhow::Error> {
    let mut value = serde_json::to_value(finding)?;
    value["severity"] = name(finding.severity()).into();
    value["what"] = finding.to_string().into();
    value["remedy"] = finding.remedy().into();
    Ok(value)
}
