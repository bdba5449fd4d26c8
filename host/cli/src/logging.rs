//! The log on standard error, as text for people or JSON for machines. Never read by the product.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::error::CommandError;
use crate::visible::Log;

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging, once per process.
pub(crate) fn start(format: Format, level: &str) -> Result<(), CommandError> {
    let mut filter = EnvFilter::try_new(level).map_err(|error| {
        CommandError::usage(format!("--log-level {level:?} is not a level: {error}"))
    })?;
    for target in host_sandbox::LOGS_WITHOUT_LIMIT {
        filter = filter.add_directive(format!("{target}=off").parse().expect("a directive"));
    }
    let has_colours = matches!(format, Format::Text) && std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(has_colours);
    // A line that cannot be written is lost: its reader may have ended, as `tee` does at Ctrl-C.
    // That stops no host.
    let log = log.with_writer(Log { has_colours }).log_internal_errors(false);
    match format {
        Format::Text => log.init(),
        Format::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
