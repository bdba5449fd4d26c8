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
/// Everything after `psql` goes to psql. The embedded server runs for as long as psql.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host psql
  host psql -c \"INSERT INTO queue.emails (payload) VALUES ('{}')\"")]
pub(crate) struct Psql {
    /// For psql
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

impl Psql {
    /// Runs it, and ends as it does.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        let status = crate::context::with(global, async |context: &CommandContext| {
            // The server's own, if it has one: it is as new as the server.
            let own = context.programs().map(|dir| dir.join("psql")).filter(|path| path.is_file());
            let program = own.unwrap_or_else(|| PathBuf::from("psql"));
            let mut psql = tokio::process::Command::new(&program);
            let (url, password) = url::for_psql(context.url())?;
            psql.arg(url).args(&self.arguments);
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
