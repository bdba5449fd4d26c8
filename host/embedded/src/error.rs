//! Why there is no private Postgres.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no private Postgres.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// A file or folder could not be made, read or locked.
    #[error("embedded Postgres: {what} {}: {source}", path.display())]
    File {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A command of Postgres could not be run, or failed.
    #[error("embedded Postgres: {command} failed: {output}")]
    Command {
        /// Which.
        command: &'static str,
        /// What it said, on one line.
        output: String,
    },
    /// Nothing to run.
    #[error("embedded Postgres: {0}")]
    NoBinaries(String),
    /// The directory belongs to another user.
    #[error("embedded Postgres: {0}")]
    NotOurs(String),
}

/// For `map_err`: what was attempted, and on what.
pub(crate) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EmbeddedError {
    let path = path.to_owned();
    move |source| EmbeddedError::File { what, path, source }
}
