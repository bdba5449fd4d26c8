//! Reading a component from a file. Never looks at what is in it.

use std::path::Path;

use tokio::io::AsyncReadExt as _;

use crate::error::CommandError;
use crate::show;
use host_core::limits::COMPONENT_BYTES_MAX;

/// Reads a file; of one that is too large, nothing.
pub(super) async fn read(file: &Path) -> Result<Vec<u8>, CommandError> {
    let named = |error| CommandError::usage(format!("cannot read {}: {error}", file.display()));
    let opened = tokio::fs::File::open(file).await.map_err(named)?;
    let bytes = opened.metadata().await.map_err(named)?.len();
    let mut wasm = Vec::new();
    if bytes <= COMPONENT_BYTES_MAX {
        // Of a pipe or a device nobody knows the size before.
        let mut some = opened.take(COMPONENT_BYTES_MAX + 1);
        some.read_to_end(&mut wasm).await.map_err(named)?;
    }
    let bytes = bytes.max(wasm.len() as u64);
    if bytes <= COMPONENT_BYTES_MAX {
        return Ok(wasm);
    }
    Err(CommandError::failed(format!(
        "{} has {} or more and at most {} are accepted; strip debug information, optimize for size, or \
         take embedded data out",
        file.display(),
        show::bytes(bytes),
        show::bytes(COMPONENT_BYTES_MAX)
    )))
}
