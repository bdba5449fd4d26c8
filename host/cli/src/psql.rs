//! `host psql`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::Global;
use host_queue::connect::url;

/// Open psql on the database, the embedded one included
///
/// Everything after `psql` but `--database-url` goes to psql. The embedded server runs for as long
/// as psql.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host psql
  host psql --database-url postgres://me@localhost/jobs
  host psql -c \"INSERT INTO queue.emails (payload) VALUES ('{}')\"")]
pub(crate) struct Psql {
    /// For psql
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

impl Psql {
    /// Runs it, and ends as it does.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        let mut global = global.clone();
        let arguments = take_url(self.arguments, &mut global.database_url)?;
        let status = crate::context::with(&global, async |context: &CommandContext| {
            // The server's own, if it has one: it is as new as the server.
            let own = context.programs().map(|dir| dir.join("psql")).filter(|path| path.is_file());
            let program = own.unwrap_or_else(|| PathBuf::from("psql"));
            let mut psql = tokio::process::Command::new(&program);
            let (url, password) = url::for_psql(context.url())?;
            psql.arg(url).args(&arguments);
            psql.envs(password.map(|password| ("PGPASSWORD", OsString::from_vec(password))));
            let status = psql.status().await;
            Ok(status.with_context(|| {
                format!("cannot run {}: install PostgreSQL's client", program.display())
            })?)
        })
        .await?;
        if status.success() { Ok(()) } else { Err(CommandError::silent()) }
    }
}

/// The arguments without `--database-url` and its value, which is put into `database_url`.
fn take_url(
    arguments: Vec<OsString>,
    database_url: &mut Option<String>,
) -> Result<Vec<OsString>, CommandError> {
    let mut rest = Vec::with_capacity(arguments.len());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let Some(after) = argument.to_str().and_then(|a| a.strip_prefix("--database-url")) else {
            rest.push(argument);
            continue;
        };
        let url = match after.strip_prefix('=') {
            Some(url) => Some(url.to_owned()),
            None if after.is_empty() => arguments.next().and_then(|url| url.into_string().ok()),
            None => None,
        };
        *database_url = Some(url.ok_or_else(|| CommandError::usage("--database-url needs a URL"))?);
    }
    Ok(rest)
}
