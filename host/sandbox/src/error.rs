//! Why there can be no sandbox on this host.

use std::path::PathBuf;

/// Why there can be no sandbox on this host.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// wasmtime does not work here.
    #[error("cannot set up WebAssembly: {0}")]
    Engine(String),
    /// No thread for the clock that interrupts guests, or to compile them.
    #[error("cannot start a thread for the sandbox: {0}; raise the limit of processes")]
    Thread(String),
    /// A component cannot be tried.
    #[error("cannot start a process to check a component: {0}; raise the limit of processes")]
    Process(std::io::Error),
    /// Nobody's certificate could be verified.
    #[error(
        "a grant of https needs root certificates and this machine has none: install ca-certificates"
    )]
    Roots,
    /// The directory for compiled code cannot be used.
    #[error(
        "cannot keep compiled code in {}: {what}; choose another directory", dir.display()
    )]
    Cache {
        /// The directory that was asked for.
        dir: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl SandboxError {
    #[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
    pub(super) fn engine(error: wasmtime::Error) -> Self {
        Self::Engine(format!("{error:#}"))
    }
}
