//! `host test`: runs a handler on cases, without a database. The sandbox and its limits are those
//! of production.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use clap::Args;
use serde_json::{Value, json};

use self::case::{Case, Given};
use self::outcome::Happened;
use crate::deploy::flags::Flags;
use crate::error::CommandError;
use crate::global::key_value;
use crate::{component_file, logging, show};
use host_core::deployment::secret::Secret;
use host_core::id::MessageId;
use host_core::limits::Isolation;
use host_core::message::{Headers, Message, PayloadType};
use host_queue::catalog::Settings;
use host_sandbox::{
    CompileCheck, Compiled, FollowUpQueues, Handler, HandlerSettings, Sandbox, SandboxConfig, Terms,
};
use host_server::deploy;

mod case;
mod junit;
mod outcome;

/// Run a handler on a message or on cases, without a database
///
/// The sandbox, its limits and its refusals are those of `host serve`. A case is a JSON file: the
/// message, and what is to come of it. A follow-up may go to any queue.
#[derive(Debug, Args)]
#[command(override_usage = "host test [OPTIONS] <FILE> <CASES… | --payload PAYLOAD>")]
#[command(group = clap::ArgGroup::new("what").required(true).args(["cases", "payload"]))]
#[command(mut_arg("reset", |arg| arg.hide(true)), mut_arg("unset_config", |arg| arg.hide(true)))]
#[command(mut_arg("settings_of", |arg| arg.hide(true)), mut_arg("concurrency", |arg| arg.hide(true)))]
#[command(mut_arg("no_http", |arg| arg.hide(true)), mut_arg("no_secret", |arg| arg.hide(true)))]
#[command(after_help = "\
A case:
  {
    \"message\": {\"payload\": {\"to\": \"ada@example.com\"}, \"attempt\": 2},
    \"config\": {\"template.bill\": \"Your bill\"},
    \"expect\": {\"verdict\": \"ack\", \"follow_ups\": [{\"queue\": \"outbox\", \"payload\": {}}]}
  }

Examples:
  host test handler.wasm --payload '{\"to\": \"ada@example.com\"}'
  host test handler.wasm --payload '{\"to\": \"ada@example.com\"}' --save cases/ada.json
  host test handler.wasm cases/*.json
  host test handler.wasm cases/*.json --update")]
pub(crate) struct Test {
    /// The component, as `host deploy` takes it
    file: PathBuf,
    /// Files with a case each
    cases: Vec<PathBuf>,
    /// Run it on one message with this payload, and show what comes of it
    #[arg(long, value_name = "PAYLOAD", conflicts_with_all = ["update", "junit"])]
    payload: Option<String>,
    /// A header of the message; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value, requires = "payload")]
    header: Vec<(String, String)>,
    /// The message's attempt
    #[arg(long, value_name = "N", default_value_t = 1, requires = "payload", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: u32,
    /// The queue's payload type
    #[arg(long, value_name = "TYPE", default_value = "jsonb", value_parser = ["jsonb", "json", "text", "bytea"])]
    payload_type: String,
    /// The queue's most attempts
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    max_attempts: u32,
    /// Save the message and what came of it as a case in this new file
    #[arg(long, value_name = "FILE", requires = "payload")]
    save: Option<PathBuf>,
    /// Write what came of each case into its file, as what is expected
    #[arg(long)]
    update: bool,
    /// Write the results to this file as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Flags,
}

/// A case that was run.
struct Ran {
    name: String,
    happened: Happened,
    /// What differs from what was expected; empty if nothing does.
    difference: String,
    /// The file was written anew.
    updates: bool,
}

impl Test {
    /// Does it.
    pub(crate) async fn run(self) -> Result<(), CommandError> {
        let cases: Vec<Case> = match &self.payload {
            Some(payload) => vec![self.case_of(payload)],
            None => self.cases.iter().map(|file| Case::read(file)).collect::<Result<_, _>>()?,
        };
        if let Some(empty) = cases
            .iter()
            .find(|case| case.expects_nothing())
            .filter(|_| self.payload.is_none() && !self.update)
        {
            return Err(CommandError::usage(format!(
                "{} expects nothing: give it `expect`, or have it written by --update",
                empty.file.display()
            )));
        }
        if let Some(file) = self.save.as_ref().filter(|file| file.exists()) {
            return Err(CommandError::usage(format!(
                "{} is there already: choose another name, or run it as a case with --update",
                file.display()
            )));
        }
        let payload_type =
            PayloadType::from_sql_name(&self.payload_type).unwrap_or(PayloadType::Jsonb);
        for case in &cases {
            payload_type.check(&case.message.bytes().unwrap_or_default()).map_err(|why| {
                let kind = payload_type.sql_name();
                CommandError::usage(format!("{}: the payload is no {kind}: {why}", case.name))
            })?;
        }
        let wasm = component_file::read(&self.file).await?;
        let mut settings = self.settings.over(Settings::default()).await?;
        deploy::check_settings(&settings)?;
        let (sandbox, compiled) = self.compile(wasm, &mut settings).await?;
        let mut ran = Vec::new();
        for case in &cases {
            let handler = sandbox
                .handler(&compiled, self.handler_settings(&settings, payload_type, case))
                .map_err(|error| self.refused(&error))?;
            let happened = run(&handler, message_of(case)).await;
            let difference = case.difference(&happened);
            let updates = self.update && (case.expects_nothing() || !difference.is_empty());
            if updates {
                case.update(&happened)?;
            }
            if let Some(file) = &self.save {
                case.save(file, &happened)?;
            }
            let ran_now = Ran { name: case.name.clone(), happened, difference, updates };
            if !self.json {
                self.show(&ran_now);
            }
            ran.push(ran_now);
        }
        self.report(&ran)
    }

    /// Has another process try the component, as a host does, and compiles it.
    async fn compile(
        &self,
        wasm: Vec<u8>,
        settings: &mut Settings,
    ) -> Result<(Sandbox, Compiled), CommandError> {
        let cache_dir = crate::serve::default_cache();
        let terms = Terms {
            memory_bytes: settings.limits.memory_bytes,
            http: settings.http.clone(),
            cache_dir: cache_dir.clone(),
        };
        let check = CompileCheck::by_this_program().map_err(|error| self.refused(&error))?;
        let checked = check.run(&wasm, &terms).await.map_err(|error| self.refused(&error))?;
        self.settings.resolve_batch_size(checked.takes_batches, settings)?;
        let sandbox = Sandbox::new(&SandboxConfig { instances_max: 1, cache_dir })
            .map_err(|error| self.refused(&error))?;
        let compiling = sandbox.clone();
        let compiled = tokio::task::spawn_blocking(move || compiling.compile(&wasm)).await;
        let compiled = compiled.map_err(anyhow::Error::from)?;
        Ok((sandbox, compiled.map_err(|error| self.refused(&error))?))
    }

    fn refused(&self, why: &dyn std::fmt::Display) -> CommandError {
        CommandError::failed(format!("{}: {why}", self.file.display()))
    }

    fn case_of(&self, payload: &str) -> Case {
        let headers = self.header.iter().cloned().collect();
        let given = Given {
            text: Some(payload.to_owned()),
            headers,
            attempt: self.attempt,
            ..Given::default()
        };
        Case { name: "the message".to_owned(), message: given, ..Case::default() }
    }

    fn handler_settings(
        &self,
        settings: &Settings,
        payload_type: PayloadType,
        case: &Case,
    ) -> HandlerSettings {
        let settings = settings.clone();
        let mut config = settings.config;
        config.extend(case.config.clone());
        let values = case
            .secrets
            .iter()
            .map(|(name, value)| (name.clone(), Secret::from_stored(value.clone())));
        let mut secret_names = settings.secrets;
        secret_names.extend(case.secrets.keys().cloned());
        HandlerSettings {
            queue: case.message.queue.clone(),
            version: 1,
            payload_type,
            max_attempts: self.max_attempts,
            limits: settings.limits,
            batch_size: settings.batch_size,
            // So that the sandbox is there after the call, and its memory can be told.
            isolation: Isolation::Batch,
            config,
            http: settings.http,
            secret_names,
            secrets: Arc::new(ArcSwap::from_pointee(values.collect())),
            targets: Arc::new(ArcSwap::from_pointee(FollowUpQueues::all())),
        }
    }

    /// What came of one case, for people.
    fn show(&self, ran: &Ran) {
        let Happened { elapsed, cpu, memory_bytes, .. } = &ran.happened;
        let memory =
            memory_bytes.map_or(String::new(), |bytes| format!(", {}", show::bytes(bytes)));
        let cost = format!("{} ({} CPU{memory})", time(*elapsed), time(*cpu));
        if self.payload.is_some() {
            print!("{}", ran.happened.words());
            println!("took       {cost}");
            return;
        }
        let word = match (ran.difference.is_empty(), ran.updates) {
            (_, true) => "updated",
            (true, false) => "ok",
            (false, false) => "FAILED",
        };
        println!("{word:<8} {}  {cost}", ran.name);
        if word == "FAILED" {
            print!("{}", ran.difference);
            for line in &ran.happened.log {
                println!("    log  {}", show::line(line, 200));
            }
        }
    }

    fn report(&self, ran: &[Ran]) -> Result<(), CommandError> {
        let failed = ran.iter().filter(|one| one.failed()).count();
        if self.json {
            let cases: Vec<Value> = ran.iter().map(Ran::json).collect();
            println!("{}", json!({ "cases": cases, "failed": failed }));
        }
        if let Some(file) = &self.junit {
            write(file, &junit::document(&self.file, ran))?;
        }
        if failed > 0 {
            let cases = show::plural(ran.len(), "case");
            return Err(CommandError::failed(format!("{failed} of {cases} failed")));
        }
        Ok(())
    }
}

impl Ran {
    const fn failed(&self) -> bool {
        !self.difference.is_empty() && !self.updates
    }

    fn json(&self) -> Value {
        let Happened { elapsed, cpu, memory_bytes, .. } = &self.happened;
        json!({
            "name": self.name,
            "passed": !self.failed(),
            "updated": self.updates,
            "happened": self.happened.json(),
            "elapsed_ms": elapsed.as_secs_f64() * 1e3,
            "cpu_ms": cpu.as_secs_f64() * 1e3,
            "memory_bytes": memory_bytes,
        })
    }
}

fn message_of(case: &Case) -> Message {
    let given = &case.message;
    let mut headers = Headers::default();
    given.headers.iter().for_each(|(name, value)| headers.push(name, value));
    Message {
        position: 0,
        id: MessageId::new(given.id),
        attempt: given.attempt,
        enqueued_at: SystemTime::now(),
        headers,
        payload: given.bytes().unwrap_or_default().into(),
        unreadable: None,
    }
}

/// Calls the handler in a new sandbox.
async fn run(handler: &Handler, message: Message) -> Happened {
    let mut runner = handler.runner();
    logging::take_guest_lines();
    let mut happened = if handler.batch_size().is_some() {
        let run = runner.run_batch(std::slice::from_ref(&message)).await;
        Happened::of_batch(run, message.id)
    } else {
        Happened::of(runner.run(&message).await)
    };
    happened.memory_bytes = runner.warm_bytes();
    happened.log = logging::take_guest_lines();
    happened
}

fn time(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn write(file: &Path, text: &str) -> Result<(), CommandError> {
    std::fs::write(file, text)
        .map_err(|error| CommandError::failed(format!("cannot write {}: {error}", file.display())))
}
