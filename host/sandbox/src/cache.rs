//! The cache of compiled code, and whose files it trusts: code in it runs as this host's own, so
//! nobody else may have written it. Never reads an entry itself.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use wasmtime::{Cache, CacheConfig};

use super::error::SandboxError;

/// Of a mode: others may write.
const OTHERS_WRITE: u32 = 0o022;
/// Everybody may.
const ALL_WRITE: u32 = 0o002;
/// Others may do anything at all.
const OTHERS: u32 = 0o077;
/// In a folder that others may write to, nobody but its owner may rename or remove an entry.
const STICKY: u32 = 0o1000;

/// Opens the cache of compiled code in `dir`, which is made if it is missing.
///
/// wasmtime keys an entry by the component and everything that the compiler depends on. It writes
/// entries atomically, removes unreadable ones, and keeps the cache under half a gigabyte. It
/// cannot tell who wrote a file. So the directory, its contents and the folders above it must be
/// ours.
///
/// # Errors
/// If it cannot be used, or others could have written to it.
pub(super) fn open(dir: &Path) -> Result<Cache, SandboxError> {
    let refused = |what: String| SandboxError::Cache { dir: dir.to_path_buf(), what };
    let failed = |error: io::Error| refused(error.to_string());
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    // wasmtime wants an absolute path.
    let dir = dir.canonicalize().map_err(failed)?;
    let refused = |what: String| SandboxError::Cache { dir: dir.clone(), what };
    let failed = |error: io::Error| refused(error.to_string());
    let metadata = fs::metadata(&dir).map_err(failed)?;
    check_ours(&dir, &metadata).map_err(refused)?;
    check_not_writable(&dir, &metadata, OTHERS_WRITE).map_err(refused)?;
    for above in dir.ancestors().skip(1) {
        check_above(above, &fs::metadata(above).map_err(failed)?).map_err(refused)?;
    }
    check_below(&dir, metadata.mode() & OTHERS != 0).map_err(refused)?;
    let mut config = CacheConfig::new();
    config.with_directory(&dir);
    Cache::new(config).map_err(|error| refused(format!("{error:#}")))
}

fn check_ours(path: &Path, metadata: &Metadata) -> Result<(), String> {
    let me = nix::unistd::geteuid();
    if metadata.uid() == me.as_raw() {
        return Ok(());
    }
    Err(format!(
        "{} belongs to user {}, and this host runs as user {me}; compiled code of others is not trusted",
        path.display(),
        metadata.uid()
    ))
}

/// `bits`: of a mode, those that are not to be set.
fn check_not_writable(path: &Path, metadata: &Metadata, bits: u32) -> Result<(), String> {
    if metadata.mode() & bits == 0 {
        return Ok(());
    }
    let mode = metadata.mode() & 0o777;
    Err(format!("others may write to {} (mode {mode:03o}); run `chmod go-w` on it", path.display()))
}

/// Whoever may rename a folder that leads to the cache can put another in its place. A user's own
/// folders are often its group's as well, which has no other members.
fn check_above(path: &Path, metadata: &Metadata) -> Result<(), String> {
    if metadata.uid() != 0 {
        check_ours(path, metadata)?;
    }
    if metadata.mode() & STICKY != 0 {
        return Ok(());
    }
    check_not_writable(path, metadata, ALL_WRITE)
}

/// All that is in a folder, the folders in it included; `entered`: by others too, so that its modes
/// matter.
fn check_below(dir: &Path, entered: bool) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot look into {}: {error}", dir.display());
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let metadata = match fs::symlink_metadata(&path) {
            // Another host has just tidied up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(failed)?,
        };
        check_ours(&path, &metadata)?;
        if metadata.is_symlink() {
            return Err(format!(
                "{} is a symbolic link, which host does not follow; remove it",
                path.display()
            ));
        }
        if entered {
            check_not_writable(&path, &metadata, OTHERS_WRITE)?;
        }
        if metadata.is_dir() {
            check_below(&path, entered)?;
        }
    }
    Ok(())
}
