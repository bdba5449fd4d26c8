//! Where the server of a directory lies, as earlier starts have noted it.

use std::fs;
use std::path::{Path, PathBuf};

/// The place that earlier starts of this directory used, if there is one.
pub(crate) fn recorded(dir: &Path) -> Option<PathBuf> {
    let elsewhere = fs::read_to_string(dir.join("place")).ok().map(PathBuf::from);
    elsewhere.or_else(|| Some(dir.join("postgres"))).filter(|root| root.is_dir())
}
