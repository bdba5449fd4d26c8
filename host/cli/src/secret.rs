//! `host secret`.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::Global;
use crate::lookup;
use crate::show::{self, Column};
use host_core::deployment::secret::{Secret, SecretName, VALUE_BYTES_MAX};
use host_queue::admin::secrets::{self, SecretInfo};

/// Set, list and remove secrets: values for handlers that no command shows again
///
/// `host deploy --secret NAME` lets a handler read a secret. Running hosts get a new value a moment
/// later, without a deployment.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host secret set stripe-key <stripe.key
  host secret list")]
pub(crate) struct SecretCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Set(Set),
    List(List),
    Remove(Remove),
}

/// Set a secret's value, from standard input or a file
///
/// A value is never given on the command line, which other users of the machine can see. The final
/// newline is not part of the value.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host secret set stripe-key <stripe.key
  openssl rand -base64 32 | sed s/^/whsec_/ | host secret set partner-signing")]
struct Set {
    /// Its name
    name: SecretName,
    /// Read the value from this file
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
}

/// List the secrets: names, when each was set, and the handlers that may read it; never values
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host secret list")]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Remove a secret; refused while a handler in force may read it
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host secret remove stripe-key")]
struct Remove {
    /// Its name
    name: SecretName,
    /// Remove it anyway: handlers that ask for it get none
    #[arg(long)]
    force: bool,
}

impl SecretCommand {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        match self.command {
            Command::Set(command) => command.run(global).await,
            Command::List(command) => command.run(global).await,
            Command::Remove(command) => command.run(global).await,
        }
    }
}

impl Set {
    async fn run(self, global: &Global) -> Result<(), CommandError> {
        let value = self.value().await?;
        crate::context::with(global, async |context: &CommandContext| {
            let client = lookup::client(context).await?;
            let is_new = secrets::set(&client, &self.name, &value).await?;
            println!("{} secret {}", if is_new { "Set" } else { "Changed" }, self.name);
            Ok(())
        })
        .await
    }

    async fn value(&self) -> Result<Secret, CommandError> {
        // A little more than is kept is enough to say that it is too much.
        let most = VALUE_BYTES_MAX as u64 + 3;
        let mut bytes = Vec::new();
        if let Some(file) = &self.from_file {
            let named =
                |error| CommandError::usage(format!("cannot read {}: {error}", file.display()));
            let file = tokio::fs::File::open(file).await.map_err(named)?;
            file.take(most).read_to_end(&mut bytes).await.map_err(named)?;
        } else if std::io::stdin().is_terminal() {
            return Err(CommandError::usage(
                "typing the value would show it on the terminal: redirect standard input, or use --from-file",
            ));
        } else {
            let read = tokio::io::stdin().take(most).read_to_end(&mut bytes).await;
            read.map_err(|error| {
                CommandError::usage(format!("cannot read standard input: {error}"))
            })?;
        }
        Secret::from_bytes(bytes)
            .map_err(|error| CommandError::usage(format!("{}: {error}", self.name)))
    }
}

impl List {
    async fn run(self, global: &Global) -> Result<(), CommandError> {
        crate::context::with(global, async |context: &CommandContext| {
            let client = lookup::client(context).await?;
            let secrets = secrets::list(&client).await?;
            if self.json {
                println!("{}", secrets.iter().map(info_json).collect::<Value>());
            } else {
                print!("{}", text(&secrets));
            }
            Ok(())
        })
        .await
    }
}

fn info_json(secret: &SecretInfo) -> Value {
    json!({
        "name": secret.name,
        "set_at": show::time(secret.set_at),
        "set_by": secret.set_by,
        "granted_to": secret.granted_to,
    })
}

fn text(secrets: &[SecretInfo]) -> String {
    if secrets.is_empty() {
        return "No secrets yet: set one with `host secret set NAME <FILE`\n".into();
    }
    let columns = [
        Column::Left("SECRET"),
        Column::Left("SET"),
        Column::Left("BY"),
        Column::Left("GRANTED TO"),
    ];
    let rows = secrets.iter().map(|secret| {
        let nobody = || "-".to_owned();
        vec![
            secret.name.clone(),
            show::time(secret.set_at),
            secret.set_by.clone(),
            Some(secret.granted_to.join(", ")).filter(|to| !to.is_empty()).unwrap_or_else(nobody),
        ]
    });
    show::table(&columns, rows)
}

impl Remove {
    async fn run(self, global: &Global) -> Result<(), CommandError> {
        crate::context::with(global, async |context: &CommandContext| {
            let client = lookup::client(context).await?;
            lookup::secret(&secrets::list(&client).await?, &self.name)?;
            secrets::remove(&client, &self.name, self.force).await?;
            println!("Removed secret {}", self.name);
            Ok(())
        })
        .await
    }
}
