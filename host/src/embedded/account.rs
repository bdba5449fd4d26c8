//! Whom the server runs as: Postgres refuses root, so root hands it to an unprivileged user. Never
//! changes this process's own user.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;

use nix::unistd::{User, geteuid};
use tokio::process::Command;

use super::{EmbeddedError, failed, place};

/// The user that the server and its files belong to.
#[derive(Clone, Debug)]
pub struct Account {
    /// Set when it is not the user that this process runs as already.
    drop_to: Option<(u32, u32)>,
}

impl Account {
    /// Ourselves, or, for root, the owner of the cluster that is there already, else `postgres`,
    /// else `nobody`.
    pub fn choose(dir: &Path) -> Result<Self, EmbeddedError> {
        let owner = place::recorded(dir).and_then(|root| fs::metadata(root).ok());
        let us = geteuid().as_raw();
        if us != 0 {
            return match owner {
                Some(owner) if owner.uid() != us => Err(EmbeddedError::NotOurs(format!(
                    "the one in {} belongs to user {}: become that user or root, or give a \
                     database URL",
                    dir.display(),
                    owner.uid()
                ))),
                _ => Ok(Self { drop_to: None }),
            };
        }
        if let Some(owner) = owner
            && owner.uid() != 0
        {
            return Ok(Self { drop_to: Some((owner.uid(), owner.gid())) });
        }
        let user = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .ok_or_else(|| {
                EmbeddedError::NotOurs(
                    "Postgres does not run as root, and there is no user `postgres` or `nobody` \
                     to run it as: make one, or give a database URL"
                        .to_owned(),
                )
            })?;
        Ok(Self { drop_to: Some((user.uid.as_raw(), user.gid.as_raw())) })
    }

    /// A command that will run as this user, in a folder that it can enter.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").stdin(std::process::Stdio::null()).kill_on_drop(false);
        if let Some((uid, gid)) = self.drop_to {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Makes the user the owner of a file or folder that this process made.
    pub fn give(&self, path: &Path) -> Result<(), EmbeddedError> {
        match self.drop_to {
            Some((uid, gid)) => {
                chown(path, Some(uid), Some(gid)).map_err(failed("give away", path))
            }
            None => Ok(()),
        }
    }

    /// Refuses a folder that belongs to somebody else.
    pub fn check_owner(&self, path: &Path) -> Result<(), EmbeddedError> {
        let owner = fs::symlink_metadata(path).map_err(failed("look at", path))?.uid();
        let user = self.drop_to.map_or_else(|| geteuid().as_raw(), |(uid, _)| uid);
        // A start that was killed may have made it and not given it away yet.
        if owner == geteuid().as_raw() {
            return self.give(path);
        }
        if owner == user {
            return Ok(());
        }
        Err(EmbeddedError::NotOurs(format!(
            "{} belongs to user {owner}, not to {user}: remove it, or give a database URL",
            path.display()
        )))
    }

    /// Whether the user can enter a folder; asked of the system, which knows about every kind of
    /// permission there is.
    pub async fn can_enter(&self, dir: &Path) -> bool {
        let mut command = self.command("/bin/sh");
        command.args(["-c", "cd \"$1\" 2>/dev/null", "sh"]).arg(dir);
        command.status().await.is_ok_and(|status| status.success())
    }
}
