//! Finds the server's programs. Never downloads.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::account::Account;

/// The oldest major version that the schema works with.
pub(crate) const MAJOR_MIN: u32 = 15;

/// A folder with `initdb`, `pg_ctl` and `postgres` of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binaries {
    /// Such as 15.
    pub major: u32,
    /// As the server calls itself, such as `15.18`.
    pub version: String,
    /// Where they are.
    pub dir: PathBuf,
}

/// The newest installed server, or the newest of one major version; the cluster decides that once
/// it is made. Only versions from `MAJOR_MIN` on count.
pub(crate) async fn installed(
    account: &Account,
    extra: &Path,
    major: Option<u32>,
) -> Option<Binaries> {
    let mut best: Option<Binaries> = None;
    for dir in candidates(extra).await {
        let Some(found) = probe(account, &dir).await else { continue };
        let wanted = major.is_none_or(|major| major == found.major) && found.major >= MAJOR_MIN;
        if wanted && best.as_ref().is_none_or(|best| numbers(&found) > numbers(best)) {
            best = Some(found);
        }
    }
    best
}

/// Folders that may hold a server: `PATH`, Debian's, Homebrew's, `pg_config`'s and `extra`.
async fn candidates(extra: &Path) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for parent in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"] {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        dirs.extend(entries.flatten().map(|entry| entry.path().join("bin")));
    }
    let pg_config = tokio::process::Command::new("pg_config").arg("--bindir").output().await;
    if let Ok(output) = pg_config
        && let Ok(text) = String::from_utf8(output.stdout)
    {
        dirs.push(PathBuf::from(text.trim()));
    }
    dirs.push(extra.join("bin"));
    let mut found: Vec<PathBuf> = dirs.iter().filter_map(|dir| real(dir)).collect();
    found.sort();
    found.dedup();
    found
}

/// The folder with all of a server's programs, if this one has the server or a link to it.
fn real(dir: &Path) -> Option<PathBuf> {
    let postgres = dir.join("postgres").canonicalize().ok()?;
    let dir = postgres.parent()?;
    ["initdb", "pg_ctl"].iter().all(|name| dir.join(name).exists()).then(|| dir.to_owned())
}

/// Asks a server for its version, as the user that will run it: one that this user cannot run is
/// no use.
pub(crate) async fn probe(account: &Account, dir: &Path) -> Option<Binaries> {
    let output = account.command(dir.join("postgres")).arg("--version").output().await.ok()?;
    let version = version_in(&String::from_utf8_lossy(&output.stdout))?;
    let major = numbers_in(&version).first().copied()?;
    Some(Binaries { major, version, dir: dir.to_owned() })
}

impl Binaries {
    /// The path of one of the programs.
    pub(crate) fn program(&self, name: &str) -> OsString {
        self.dir.join(name).into_os_string()
    }
}

/// From `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn version_in(text: &str) -> Option<String> {
    let version = text.split_whitespace().nth(2)?;
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}

/// `16beta1` comes before `16.0`, which is close enough: a beta has no second number.
fn numbers_in(version: &str) -> Vec<u32> {
    version
        .split('.')
        .map_while(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse().ok()
        })
        .collect()
}

fn numbers(binaries: &Binaries) -> Vec<u32> {
    numbers_in(&binaries.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_as_numbers() {
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";
        assert_eq!(version_in(debian).as_deref(), Some("15.18"));
        assert_eq!(version_in("sh: not found"), None);
        assert!(numbers_in("15.10") > numbers_in("15.9"));
        assert!(numbers_in("16.0") > numbers_in("16beta1"));
    }
}
