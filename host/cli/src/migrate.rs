//! `host migrate`.

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::Global;
use crate::show;
use host_core::limits;
use host_queue::connect::pooler;
use host_queue::migrate::restore::{self, Rebased};
use host_queue::migrate::{self, Migrations, Report, Step};

/// Bring the database to the schema of this host
///
/// Safe to run at any time, and again, while hosts and producers work. It takes one queue after the
/// other. A run that is stopped goes on there the next time
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
    /// How long to wait for a lock before trying again. Producers wait behind it. Stay below the
    /// server's deadlock_timeout (1s), or a host's statement may be aborted
    #[arg(long, value_name = "TIME", default_value = "20ms")]
    lock_timeout: humantime::Duration,
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
        limits::duration_within("lock-timeout", *self.lock_timeout, &limits::LOCK_TIMEOUT)?;
        let (report, origin) = crate::context::with(global, async |context: &CommandContext| {
            pooler::refuse(&context.database).await?;
            let mut alone = context.database.connect_alone().await?;
            let report = if let Some(report) = &context.migrated {
                report.clone()
            } else {
                let (files, bar) = (Migrations::embedded()?, progress_bar());
                let mut watch = |step: Step<'_>| show_step(&bar, step);
                let limit = *self.lock_timeout;
                let migrated =
                    migrate::migrate_watched(&mut alone.client, &files, limit, &mut watch).await;
                bar.finish_and_clear();
                migrated?
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

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} queues {elapsed}");
    let bar = ProgressBar::new(0);
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

fn show_step(bar: &ProgressBar, step: Step<'_>) {
    match step {
        Step::Queue { name, done, of } => {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
            bar.set_message(format!("Upgrading queue {name}"));
        }
        Step::Waits { text } => bar.suspend(|| eprintln!("waiting for {}", show::one_line(text))),
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
        (true, false) if *granted > 0 => {
            format!("The schema is current (version {to}); corrected what roles may do")
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
        "The group roles {} are missing, and this role may not create roles. As a role with CREATEROLE, run {} and then `host migrate` again",
        roles.join(", "),
        create.join(" ")
    )
}
