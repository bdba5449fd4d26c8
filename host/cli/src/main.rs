//! The command `host`: the only crate that names clap, and the only one that prints. Never holds a
//! decision that another front end would need as well.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::error::CommandError;
use self::global::Global;

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

mod apply;
mod bench;
mod cancel;
mod component_file;
mod context;
mod cron;
mod dead;
mod deploy;
mod doctor;
mod enqueue;
mod error;
mod exit_codes;
mod export;
mod global;
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
mod rollback;
mod secret;
mod serve;
mod set_up;
mod settings;
mod show;
mod status;
mod test;
mod try_component;
mod visible;

/// A job server: messages in Postgres, handlers in WebAssembly.
#[derive(Debug, Parser)]
#[command(name = "host", version, max_term_width = 100, after_help = exit_codes::TABLE)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Migrate(migrate::Migrate),
    Queue(queue::QueueCommand),
    Apply(apply::Apply),
    Export(export::Export),
    Enqueue(enqueue::Enqueue),
    Deploy(Box<deploy::Deploy>),
    Serve(serve::Serve),
    Test(Box<test::Test>),
    Rollback(rollback::Rollback),
    Handlers(Box<handlers::Handlers>),
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
    let started = match cli.command {
        Command::Test(_) => logging::start_for_test(&cli.global.log_level),
        _ => logging::start(cli.global.log, &cli.global.log_level),
    };
    match started.and_then(|()| run_async(cli)) {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}

fn run_async(cli: Cli) -> Result<ExitCode, CommandError> {
    let runtime = tokio::runtime::Runtime::new().map_err(anyhow::Error::from)?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Migrate(command) => Box::pin(command.run(&cli.global)).await,
            Command::Serve(command) => Box::pin(command.run(&cli.global)).await,
            Command::Queue(command) => Box::pin(command.run(&cli.global)).await,
            Command::Apply(command) => Box::pin(command.run(&cli.global)).await,
            Command::Export(command) => Box::pin(command.run(&cli.global)).await,
            Command::Enqueue(command) => Box::pin(command.run(&cli.global)).await,
            Command::Deploy(command) => Box::pin(command.run(&cli.global)).await,
            Command::Test(command) => Box::pin(command.run()).await,
            Command::Rollback(command) => Box::pin(command.run(&cli.global)).await,
            Command::Handlers(command) => Box::pin(command.run(&cli.global)).await,
            Command::Status(command) => Box::pin(command.run(&cli.global)).await,
            Command::Dead(command) => Box::pin(command.run(&cli.global)).await,
            Command::Peek(command) => Box::pin(command.run(&cli.global)).await,
            Command::Message(command) => Box::pin(command.run(&cli.global)).await,
            Command::Cancel(command) => Box::pin(command.run(&cli.global)).await,
            Command::Cron(command) => Box::pin(command.run(&cli.global)).await,
            Command::Secret(command) => Box::pin(command.run(&cli.global)).await,
            Command::Psql(command) => Box::pin(command.run(&cli.global)).await,
            Command::Bench(command) => Box::pin(command.run(&cli.global)).await,
            Command::TryComponent(command) => command.run(),
            Command::Doctor(command) => return Box::pin(command.run(&cli.global)).await,
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
            return CommandError::usage(one_line(&error.render().to_string())).report();
        }
        let code = if error.use_stderr() { exit_codes::USAGE } else { 0 };
        // Nobody is left to tell when the terminal is gone.
        let _ = error.print();
        ExitCode::from(code)
    })
}

fn one_line(rendered: &str) -> String {
    let lines: Vec<&str> = rendered
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        // Whoever mistypes a flag does not want it as a value.
        .filter(|line| !line.is_empty() && !line.starts_with("tip: to pass "))
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
        let text = refusal(&["host", "enqueue", "emails", "{}", "--prioritee", "1"]);
        assert!(text.contains("'--priority'") && !text.contains("to pass"), "{text}");
        let text = refusal(&["host", "enqueue", "emails", "{}", "--colour"]);
        assert_eq!(text, "unexpected argument '--colour' found");
    }
}
