//! `host migrate`.

use clap::Args;
use serde_json::{Value, json};

use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::Global;
use host_queue::migrate::{self, Migrations, Report};
use host_queue::pooler;
use host_queue::restore::{self, Rebased};

/// Bring the database to the schema of this host
///
/// Safe to run at any time, and again, while hosts and producers work.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host migrate --database-url postgres://me@localhost/jobs
  pg_restore --dbname \"$DATABASE_URL\" jobs.dump && host migrate --restored")]
pub(crate) struct Migrate {
    /// Prepare a restored, copied or upgraded database. Messages that are not settled are kept;
    /// those in flight run again. Hosts refuse to serve the database until you run this
    #[arg(long)]
    restored: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// What became of the question whether the database came from another cluster.
enum Origin {
    /// It did not.
    Here,
    /// It did, and cannot be served yet.
    Elsewhere,
    /// It did, and can.
    Rebased(Vec<Rebased>),
}

impl Migrate {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        let (report, origin) = crate::context::with(global, async |context: &CommandContext| {
            pooler::refuse(&context.database).await?;
            let mut alone = context.database.connect_alone().await?;
            let report = match &context.migrated {
                Some(report) => report.clone(),
                None => migrate::migrate(&mut alone.client, &Migrations::embedded()?).await?,
            };
            let origin = match restore::is_restored(&alone.client).await? {
                false => Origin::Here,
                true if self.restored => Origin::Rebased(restore::rebase(&alone.client).await?),
                true => Origin::Elsewhere,
            };
            Ok((report, origin))
        })
        .await?;
        if self.json {
            println!("{}", report_json(&report, &origin));
            return Ok(());
        }
        println!("{}", text(&report));
        if !report.missing_roles.is_empty() {
            println!("{}", missing_roles(&report.missing_roles));
        }
        match origin {
            Origin::Here if self.restored => {
                println!("Nothing to do: this database was not restored, copied or upgraded");
            }
            Origin::Here => {}
            Origin::Elsewhere => println!(
                "This database was restored from a dump, copied or upgraded: no host serves it before \
                 `host migrate --restored`"
            ),
            Origin::Rebased(queues) => print!("{}", rebased(&queues)),
        }
        Ok(())
    }
}

fn report_json(report: &Report, origin: &Origin) -> Value {
    let rebased = match origin {
        Origin::Here | Origin::Elsewhere => Value::Null,
        Origin::Rebased(queues) => queues
            .iter()
            .map(|q| {
                let (messages, scheduled) = (q.messages, q.scheduled);
                json!({ "queue": q.queue.as_str(), "messages": messages, "scheduled": scheduled })
            })
            .collect(),
    };
    json!({
        "from": report.from,
        "to": report.to,
        "applied": report.applied,
        "functions_replaced": report.functions_replaced,
        "granted": report.granted,
        "missing_roles": report.missing_roles,
        "restored": matches!(origin, Origin::Elsewhere),
        "rebased": rebased,
    })
}

fn rebased(queues: &[Rebased]) -> String {
    let line = |q: &Rebased| {
        let (queue, messages, scheduled) = (&q.queue, q.messages, q.scheduled);
        format!("Rebased queue {queue}: {messages} waiting, {scheduled} scheduled\n")
    };
    let lines: String = queues.iter().map(line).collect();
    lines + "Hosts may serve this database now\n"
}

fn text(report: &Report) -> String {
    let Report { from, to, applied, functions_replaced, granted, .. } = report;
    match (applied.is_empty(), functions_replaced) {
        (true, false) if *granted > 0 => format!(
            "The schema is current (version {to}); granted missing rights to the group roles"
        ),
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
        "The group roles {} are missing, and this role may not create roles. As a role with CREATEROLE, run {} and then `host migrate` again",
        roles.join(", "),
        create.join(" ")
    )
}
