//! Where a cluster's files are: below `.host`, unless the server's user cannot go there. Nothing is
//! believed that somebody else could have put there. Never starts anything.

use std::fs::{self, File};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use sha2::{Digest as _, Sha256};

use super::account::Account;
use super::error::{EmbeddedError, failed};
use super::record::recorded;

/// Of a folder's mode: others may write to it.
const OTHERS_WRITE: u32 = 0o002;
/// Of a folder's mode: what is in it can be renamed or removed by its owner only.
const STICKY: u32 = 0o1000;

/// The longest path of a socket's folder: the kernel takes 107 bytes (103 on macOS), and Postgres
/// adds a name.
const SOCKET_DIR_BYTES_MAX: usize = 80;

/// A folder that belongs to the server's user, closed to everybody else.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    root: PathBuf,
    socket_dir: PathBuf,
}

/// Makes `.host` unless it is there, and says where it is. Refuses one in which somebody else could
/// change what this process is about to believe: the folder has to be ours, and those around it
/// have to be the system's or ours.
pub(crate) fn own(dir: &Path) -> Result<PathBuf, EmbeddedError> {
    let whole = std::path::absolute(dir).map_err(failed("find", dir))?;
    if let Some(there) = whole.ancestors().skip(1).find(|around| around.exists()) {
        // Before anything changes.
        check_around(there, &whole)?;
    }
    let mut new = fs::DirBuilder::new();
    match new.recursive(true).mode(0o755).create(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(failed("make the folder", dir)(e));
        }
        _ => {}
    }
    let folder = open_folder(dir)?;
    let found = folder.metadata().map_err(failed("look at", dir))?;
    let us = geteuid().as_raw();
    if found.uid() != us {
        return Err(foreign(dir, found.uid()));
    }
    if found.mode() & 0o022 != 0 {
        let closed = fs::Permissions::from_mode(found.mode() & 0o755);
        folder.set_permissions(closed).map_err(failed("close", dir))?;
    }
    let dir = dir.canonicalize().map_err(failed("find", dir))?;
    if let Some(around) = dir.parent() {
        check_around(around, &dir)?;
    }
    Ok(dir)
}

/// Refuses a folder, or one around it, whose owner or anybody else could put another one in place
/// of `dir`.
fn check_around(folder: &Path, dir: &Path) -> Result<(), EmbeddedError> {
    let us = geteuid().as_raw();
    let folder = folder.canonicalize().map_err(failed("find", folder))?;
    // In a container the system's folders may be another user's than root's.
    let system = fs::metadata("/").map_err(failed("look at", Path::new("/")))?.uid();
    for around in folder.ancestors() {
        let found = fs::symlink_metadata(around).map_err(failed("look at", around))?;
        if ![us, 0, system].contains(&found.uid()) {
            return Err(foreign(around, found.uid()));
        }
        if found.mode() & OTHERS_WRITE != 0 && found.mode() & STICKY == 0 {
            return Err(EmbeddedError::NotOurs(format!(
                "everybody can write to {}, and could replace {}: close it (chmod o-w), or give a database URL",
                around.display(),
                dir.display()
            )));
        }
    }
    Ok(())
}

fn foreign(dir: &Path, owner: u32) -> EmbeddedError {
    EmbeddedError::NotOurs(format!(
        "{} belongs to user {owner}, who could change its contents: run this as that user or in your own folder, or give a database URL",
        dir.display()
    ))
}

/// The folder itself, not one that a symbolic link leads to.
fn open_folder(path: &Path) -> Result<File, EmbeddedError> {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW);
    options.open(path).map_err(failed("open the folder", path))
}

impl Place {
    /// Finds the place of `dir`, which is `own`, or makes it.
    pub(crate) async fn of(dir: &Path, account: &Account) -> Result<Self, EmbeddedError> {
        let root = match recorded(dir) {
            Some(root) => root,
            None if account.can_enter(dir).await => dir.join("postgres"),
            None => {
                let root = Path::new("/var/lib").join(unique_name(dir));
                let record = dir.join("place");
                fs::write(&record, root.as_os_str().as_encoded_bytes())
                    .map_err(failed("write", &record))?;
                root
            }
        };
        make_private(&root, account)?;
        let mut socket_dir = root.join("socket");
        if socket_dir.as_os_str().len() <= SOCKET_DIR_BYTES_MAX {
            account.make_folder(&socket_dir).await?;
        } else {
            socket_dir = std::env::temp_dir().join(unique_name(dir));
            make_private(&socket_dir, account)?;
        }
        Ok(Self { root, socket_dir })
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The cluster's data.
    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Where the server listens. Whoever can enter it is trusted: that is its user, and root.
    pub(crate) fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The server's log.
    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The superuser's password, for the loopback port, which every local user can reach.
    pub(crate) fn password_file(&self) -> PathBuf {
        self.root.join("password")
    }

    /// The downloaded server, if it had to be. Beside the folder, not in it: these programs are
    /// ours, and `host psql` runs one of them.
    pub(crate) fn downloaded(&self) -> PathBuf {
        let mut name = self.root.clone().into_os_string();
        name.push("-server");
        name.into()
    }
}

/// The same for the same directory, different for every other.
fn unique_name(dir: &Path) -> String {
    let digest = Sha256::digest(dir.as_os_str().as_encoded_bytes());
    format!("host-{}", hex::encode(&digest[..8]))
}

/// Makes a folder that only the account can enter, in a folder of ours or in one like `/tmp`. It
/// gets its name when it is the account's. One that is there already must belong to the account:
/// somebody else may have made it first.
fn make_private(path: &Path, account: &Account) -> Result<(), EmbeddedError> {
    if fs::symlink_metadata(path).is_err() {
        let mut new = path.to_owned().into_os_string();
        new.push(format!(".{}", uuid::Uuid::new_v4().simple()));
        let new = PathBuf::from(new);
        fs::DirBuilder::new().mode(0o700).create(&new).map_err(failed("make the folder", path))?;
        if let Some((uid, gid)) = account.owner() {
            let folder = open_folder(&new)?;
            fchown(&folder, Some(uid), Some(gid)).map_err(failed("give away", path))?;
        }
        return fs::rename(&new, path).map_err(failed("make the folder", path));
    }
    let folder = open_folder(path)?;
    let found = folder.metadata().map_err(failed("look at", path))?;
    if found.uid() != account.uid() {
        return Err(EmbeddedError::NotOurs(format!(
            "{} belongs to user {}, not to {}: remove it, or give a database URL",
            path.display(),
            found.uid(),
            account.uid()
        )));
    }
    if found.mode() & 0o077 != 0 {
        let closed = fs::Permissions::from_mode(0o700);
        folder.set_permissions(closed).map_err(failed("close", path))?;
    }
    Ok(())
}
