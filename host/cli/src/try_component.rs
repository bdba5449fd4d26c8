//! `host try-component`: what `host serve` and `host deploy` have a process of its own do with a
//! component. Not for people: it is in no help.

use std::io::Read as _;
use std::path::PathBuf;

use clap::Args;

use crate::error::CommandError;
use host_core::deployment::grant::HttpGrant;
use host_core::limits::COMPONENT_BYTES_MAX;
use host_sandbox::{Terms, try_here};

/// Compile the component on standard input, and say whether a handler with these settings can be
/// made of it
#[derive(Debug, Args)]
pub(crate) struct TryComponent {
    /// Linear memory, in bytes
    #[arg(long)]
    memory: u64,
    /// Memory for the compiler, in bytes
    #[arg(long)]
    compiler_memory: u64,
    /// As of `host deploy`
    #[arg(long)]
    http: Vec<HttpGrant>,
    /// Where to keep compiled handlers
    #[arg(long)]
    cache: Option<PathBuf>,
}

impl TryComponent {
    /// Does it.
    pub(crate) fn run(self) -> Result<(), CommandError> {
        let mut wasm = Vec::new();
        // One byte more than is accepted: then the check says so.
        let read = std::io::stdin().take(COMPONENT_BYTES_MAX + 1).read_to_end(&mut wasm);
        read.map_err(anyhow::Error::from)?;
        let terms = Terms { memory_bytes: self.memory, http: self.http, cache_dir: self.cache };
        let checked = try_here(&wasm, terms, self.compiler_memory)
            .map_err(|refusal| CommandError::failed(refusal.to_string()))?;
        println!("{}", checked.as_str());
        Ok(())
    }
}
