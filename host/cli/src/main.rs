//! The command `host`: the only crate that names clap, and the only one that prints. Never holds a
//! decision that another front end would need as well.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub(crate) use self::context::{Context, connect_with, with};
pub(crate) use self::fail::Fail;

/// As std's, but for a reader that has gone (`host status | head -1`): that stops no command.
macro_rules! print {
    ($($text:tt)*) => { $crate::show::print(format_args!($($text)*)) };
}

/// The same, with the end of the line.
macro_rules! println {
    ($($text:tt)*) => { print!("{}\n", format_args!($($text)*)) };
}

/// The same on standard error.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::show::print_error(format_args!("{}\n", format_args!($($text)*))) };
}

mod bench;
mod cancel;
mod component_file;
mod context;
mod cron;
mod dead;
mod deploy;
mod doctor;
mod enqueue;
mod fail;
mod handlers;
mod lanes;
mod logging;
mod lookup;
mod message;
mod migrate;
mod peek;
mod psql;
mod purge;
mod queue;
mod secret;
mod serve;
mod show;
mod status;
mod try_component;
mod visible;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage: an unknown flag, queue, handler, version or key
  3  no connection to Postgres
  4  the database's schema and this host do not fit together
  5  `host doctor` found something to warn of
  6  `host doctor` found something that stands still or may be lost";

/// A job server: messages in Postgres, handlers in WebAssembly.
#[derive(Debug, Parser)]
#[command(name = "host", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The database. Without one, a private Postgres in ./.host is used
    #[arg(long, global = true, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Format of the log, which goes to standard error
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log: logging::Format,
    /// The level to log: error, warn, info, debug or trace; or by module, such as
    /// `info,host_queue=debug`
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    Migrate(migrate::Migrate),
    Queue(queue::QueueCommand),
    Enqueue(enqueue::Enqueue),
    Deploy(Box<deploy::Deploy>),
    Serve(serve::Serve),
    Rollback(deploy::Rollback),
    Handlers(handlers::Handlers),
    Status(status::Status),
    Dead(dead::Dead),
    Peek(peek::Peek),
    Message(message::Message),
    Cancel(cancel::Cancel),
    Cron(cron::Cron),
    Secret(secret::SecretCommand),
    Doctor(doctor::Doctor),
    Psql(psql::Psql),
    Bench(Box<bench::Bench>),
    #[command(hide = true)]
    TryComponent(try_component::TryComponent),
}

/// Reads the command line, does what it says, and says how that went.
fn main() -> ExitCode {
    let cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match logging::start(&cli.global).and_then(|()| run_async(cli)) {
        Ok(code) => code,
        Err(fail) => fail.report(),
    }
}

fn run_async(cli: Cli) -> Result<ExitCode, Fail> {
    let runtime = tokio::runtime::Runtime::new().map_err(anyhow::Error::from)?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Migrate(command) => command.run(&cli.global).await,
            Command::Serve(command) => command.run(&cli.global).await,
            Command::Queue(command) => command.run(&cli.global).await,
            Command::Enqueue(command) => command.run(&cli.global).await,
            Command::Deploy(command) => command.run(&cli.global).await,
            Command::Rollback(command) => command.run(&cli.global).await,
            Command::Handlers(command) => command.run(&cli.global).await,
            Command::Status(command) => command.run(&cli.global).await,
            Command::Dead(command) => command.run(&cli.global).await,
            Command::Peek(command) => command.run(&cli.global).await,
            Command::Message(command) => command.run(&cli.global).await,
            Command::Cancel(command) => command.run(&cli.global).await,
            Command::Cron(command) => command.run(&cli.global).await,
            Command::Secret(command) => command.run(&cli.global).await,
            Command::Psql(command) => command.run(&cli.global).await,
            Command::Bench(command) => Box::pin(command.run(&cli.global)).await,
            Command::TryComponent(command) => command.run(),
            Command::Doctor(command) => return command.run(&cli.global).await,
        }
        .map(|()| ExitCode::SUCCESS)
    });
    // Without waiting for what is still being compiled.
    runtime.shutdown_background();
    result
}

/// Wrong usage is one line as well, so clap's paragraphs are joined.
fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let result = Cli::command()
        .try_get_matches_from(args)
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    result.map_err(|error| {
        if error.use_stderr()
            && error.kind() != clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        {
            return Fail::usage(one_line(&error.render().to_string())).report();
        }
        let code = if error.use_stderr() { fail::USAGE } else { 0 };
        // Nobody is left to tell when the terminal is gone.
        let _ = error.print();
        ExitCode::from(code)
    })
}

/// Reads `KEY=VALUE`.
fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

fn one_line(rendered: &str) -> String {
    let lines: Vec<&str> = rendered
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("; ").trim_start_matches("error: ").replace(":; ", ": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(args: &[&str]) -> String {
        one_line(&Cli::try_parse_from(args).unwrap_err().render().to_string())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_one_line_that_names_the_nearest() {
        let text = refusal(&["host", "migrat"]);
        assert!(text.contains("'migrat'") && text.contains("'migrate'"), "{text}");
        let text = refusal(&["host", "migrate", "--databse-url", "x"]);
        assert!(text.contains("--databse-url") && text.contains("'--database-url'"), "{text}");
        let text = refusal(&["host", "migrate", "--log", "xml"]);
        assert!(text.contains("xml") && text.contains("text, json"), "{text}");
        assert!(!text.contains('\n'));
    }
}
