//! Where a cluster's files are: below `.host`, unless the server's user cannot go there. Never
//! starts anything.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::account::Account;
use super::{EmbeddedError, failed};

/// The longest path of a socket's folder: the kernel takes 107 bytes (103 on macOS), and Postgres
/// adds a name.
const SOCKET_DIR_BYTES_MAX: usize = 80;

/// A folder that belongs to the server's user, closed to everybody else.
#[derive(Clone, Debug)]
pub struct Place {
    root: PathBuf,
    socket_dir: PathBuf,
}

/// The place that earlier starts of this directory used, if there is one.
pub fn recorded(dir: &Path) -> Option<PathBuf> {
    let elsewhere = fs::read_to_string(dir.join("place")).ok().map(PathBuf::from);
    elsewhere.or_else(|| Some(dir.join("postgres"))).filter(|root| root.is_dir())
}

impl Place {
    /// Finds the place of `dir`, or makes it.
    pub async fn of(dir: &Path, account: &Account) -> Result<Self, EmbeddedError> {
        let dir = dir.canonicalize().map_err(failed("find", dir))?;
        let root = match recorded(&dir) {
            Some(root) => root,
            None if account.can_enter(&dir).await => dir.join("postgres"),
            None => {
                let root = Path::new("/var/lib").join(unique_name(&dir));
                let record = dir.join("place");
                fs::write(&record, root.as_os_str().as_encoded_bytes())
                    .map_err(failed("write", &record))?;
                root
            }
        };
        make_private(&root, account)?;
        let socket_dir = if root.as_os_str().len() + "/socket".len() <= SOCKET_DIR_BYTES_MAX {
            root.join("socket")
        } else {
            std::env::temp_dir().join(unique_name(&dir))
        };
        make_private(&socket_dir, account)?;
        Ok(Self { root, socket_dir })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The cluster's data.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Where the server listens. Whoever can enter it is trusted: that is its user, and root.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The superuser's password, for the loopback port, which every local user can reach.
    pub fn password_file(&self) -> PathBuf {
        self.root.join("password")
    }

    /// The downloaded server, if it had to be.
    pub fn downloaded(&self) -> PathBuf {
        self.root.join("server")
    }
}

/// The same for the same directory, different for every other.
fn unique_name(dir: &Path) -> String {
    let digest = Sha256::digest(dir.as_os_str().as_encoded_bytes());
    format!("host-{}", hex::encode(&digest[..8]))
}

/// Makes a folder that only the account can enter. One that is there already must belong to it:
/// in a folder open to all, somebody else may have made it first.
fn make_private(path: &Path, account: &Account) -> Result<(), EmbeddedError> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => account.give(path),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            account.check_owner(path)?;
            let closed = fs::Permissions::from_mode(0o700);
            fs::set_permissions(path, closed).map_err(failed("close", path))
        }
        Err(e) => Err(failed("make the folder", path)(e)),
    }
}

/// Writes a file that only the account can read.
pub fn write_private(path: &Path, text: &str, account: &Account) -> Result<(), EmbeddedError> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).map_err(failed("write", path))?;
    file.write_all(text.as_bytes()).map_err(failed("write", path))?;
    account.give(path)
}
