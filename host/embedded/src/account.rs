//! Whom the server runs as: Postgres refuses root, so root hands it to an unprivileged user. Never
//! changes this process's own user. What is changed in that user's folders, that user changes, in a
//! process of its own: whatever it has prepared there, root's rights stay out of it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;

use nix::unistd::{User, geteuid};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::error::EmbeddedError;
use super::record;

/// What the server's programs see of this process's environment. Not what may have a password in
/// it.
const ENVIRONMENT: [&str; 7] =
    ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "TZ", "LANG", "LC_ALL"];
/// Writes standard input into a new file and gives it the name of the old one.
const WRITE: &str = r#"umask 077 && rm -f "$1.new" && cat > "$1.new" && mv -f "$1.new" "$1""#;
/// Makes a folder, if there is none.
const MAKE_FOLDER: &str = r#"umask 077 && { [ -d "$1" ] || mkdir "$1"; } && chmod 700 "$1""#;
/// Empties a folder of sockets and their locks.
const REMOVE_SOCKETS: &str = r#"rm -f "$1"/.s.PGSQL.*"#;

/// The user that the server and its files belong to.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// Set when it is not the user that this process runs as already.
    drop_to: Option<(u32, u32)>,
}

impl Account {
    /// Ourselves, or, for root, the owner of the cluster that is there already, else `postgres`,
    /// else `nobody`.
    pub(crate) fn choose(dir: &Path) -> Result<Self, EmbeddedError> {
        let owner = record::recorded(dir).and_then(|root| fs::symlink_metadata(root).ok());
        let us = geteuid().as_raw();
        if us != 0 {
            return match owner {
                Some(owner) if owner.uid() != us => Err(EmbeddedError::NotOurs(format!(
                    "the one in {} belongs to user {}: become that user, or give a \
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
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").stdin(std::process::Stdio::null()).kill_on_drop(false);
        // The server outlives the command, and its user can read its environment.
        command.env_clear();
        command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        if let Some((uid, gid)) = self.drop_to {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// The owner and group that its files have; `None`: those of this process.
    pub(crate) const fn owner(&self) -> Option<(u32, u32)> {
        self.drop_to
    }

    /// The number of the user.
    pub(crate) fn uid(&self) -> u32 {
        self.drop_to.map_or_else(|| geteuid().as_raw(), |(uid, _)| uid)
    }

    /// Writes a file that only the user can read, in a folder of the user's.
    pub(crate) async fn write_private(&self, path: &Path, text: &str) -> Result<(), EmbeddedError> {
        self.shell("write", WRITE, path, text).await
    }

    /// Makes a folder that only the user can enter, in a folder of the user's.
    pub(crate) async fn make_folder(&self, path: &Path) -> Result<(), EmbeddedError> {
        self.shell("mkdir", MAKE_FOLDER, path, "").await
    }

    /// Removes the sockets in a folder of the user's.
    pub(crate) async fn remove_sockets(&self, dir: &Path) -> Result<(), EmbeddedError> {
        self.shell("rm", REMOVE_SOCKETS, dir, "").await
    }

    /// Runs a script on a path, as the user.
    async fn shell(
        &self,
        what: &'static str,
        script: &str,
        path: &Path,
        input: &str,
    ) -> Result<(), EmbeddedError> {
        let failed = |output: String| EmbeddedError::Command { command: what, output };
        let mut command = self.command("/bin/sh");
        command.args([OsStr::new("-c"), OsStr::new(script), OsStr::new("sh"), path.as_os_str()]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| failed(e.to_string()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that has failed reads nothing, and says why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(|e| failed(e.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        Err(failed(format!("{}: {said}", path.display())))
    }

    /// Whether the user can enter a folder; asked of the system, which knows about every kind of
    /// permission there is.
    pub(crate) async fn can_enter(&self, dir: &Path) -> bool {
        let mut command = self.command("/bin/sh");
        command.args(["-c", "cd \"$1\" 2>/dev/null", "sh"]).arg(dir);
        command.status().await.is_ok_and(|status| status.success())
    }
}
