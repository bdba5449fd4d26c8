//! The compile check of a component: another process compiles it first, and is given up on if that
//! takes too long or too much memory, or crashes. A compiler cannot be interrupted, a process can.
//! Never runs a guest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use nix::sys::resource::{Resource, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::component_check::Refusal;
use super::error::SandboxError;
use super::measure::Measure;
use super::sandbox::Sandbox;
use super::settings::{FollowUpTargets, HandlerSettings, SandboxConfig};
use host_core::deployment::grant::HttpGrant;
use host_core::deployment::secret::Secrets;
use host_core::limits::{Isolation, Limits};
use host_core::message::PayloadType;

/// Components that one host compiles at once.
const AT_ONCE: usize = 2;
/// What a check may have of all processors together, should the process that waits for it be
/// killed.
const CPU_MAX: Duration = Duration::from_mins(10);
/// What a check is told of its host's environment: where libraries, folders and root certificates
/// are, and how many threads to compile with.
const ENVIRONMENT: [&str; 8] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "RAYON_NUM_THREADS",
    "RUST_BACKTRACE",
];
/// What the program prints before it says what is wrong.
const ERROR: &str = "error: ";

/// What a check may use.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// From its start to its end.
    pub time: Duration,
    /// Of memory that it writes to.
    pub memory_bytes: u64,
}

impl Default for Bounds {
    /// Several times what the largest component takes that was seen so far.
    fn default() -> Self {
        Self { time: Duration::from_mins(2), memory_bytes: 4 << 30 }
    }
}

/// What a component is tried for: what of its deployment matters before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Linear memory, in bytes.
    pub memory_bytes: u64,
    /// The HTTP requests that it may make.
    pub http: Vec<HttpGrant>,
    /// Where its compiled code is to be kept, so that it need not be compiled again.
    pub cache_dir: Option<PathBuf>,
}

/// What a check has found out about a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whether it takes many messages a call.
    pub takes_batches: bool,
}

impl Checked {
    /// How the other process says it, in a line of its own.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        if self.takes_batches { "batch-handler" } else { "handler" }
    }

    fn from_line(line: &str) -> Option<Self> {
        [false, true]
            .map(|takes_batches| Self { takes_batches })
            .into_iter()
            .find(|checked| checked.as_str() == line)
    }
}

/// Tries components. Cheap to clone; the clones wait for each other.
#[derive(Clone, Debug)]
pub struct CompileCheck {
    program: PathBuf,
    bounds: Bounds,
    turns: Arc<Semaphore>,
}

impl CompileCheck {
    /// With the program at this path, which is `host`.
    #[must_use]
    pub fn new(program: PathBuf, bounds: Bounds) -> Self {
        Self { program, bounds, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// With the program that runs.
    ///
    /// # Errors
    /// If the system does not say where that is.
    pub fn by_this_program() -> Result<Self, SandboxError> {
        // On Linux this name is right even when the file has been replaced.
        let program = PathBuf::from("/proc/self/exe");
        let program = if program.exists() {
            program
        } else {
            std::env::current_exe().map_err(SandboxError::Process)?
        };
        Ok(Self::new(program, Bounds::default()))
    }

    /// Tries a component. Dropping the future ends the check.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    pub async fn run(&self, wasm: &[u8], terms: &Terms) -> Result<Checked, Refusal> {
        let _turn = self.turns.acquire().await;
        let mut check = self.command(terms).spawn().map_err(SandboxError::Process)?;
        let input = check.stdin.take();
        let feed = async {
            if let Some(mut input) = input {
                // One that has seen enough reads no further.
                let _ = input.write_all(wasm).await;
            }
        };
        let ended = async { tokio::join!(check.wait_with_output(), feed).0 };
        let Ok(ended) = tokio::time::timeout(self.bounds.time, ended).await else {
            let time = humantime::format_duration(self.bounds.time);
            return Err(given_up(&format!("more than {time}"), wasm));
        };
        let ended = ended.map_err(SandboxError::Process)?;
        let [found, said] =
            [&ended.stdout, &ended.stderr].map(|text| String::from_utf8_lossy(text));
        judge(ended.status, found.trim_end(), &said, &self.bounds, wasm)
    }

    fn command(&self, terms: &Terms) -> Command {
        let mut command = Command::new(&self.program);
        // The compiler need not know where the database is, nor its password.
        command.env_clear();
        command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.arg("try-component");
        command.arg(format!("--memory={}", terms.memory_bytes));
        command.arg(format!("--compiler-memory={}", self.bounds.memory_bytes));
        command.args(terms.http.iter().map(|grant| format!("--http={grant}")));
        if let Some(dir) = &terms.cache_dir {
            command.arg("--cache").arg(dir);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }
}

/// What became of the other process: what it has `found`, and what it `said` besides.
fn judge(
    status: ExitStatus,
    found: &str,
    said: &str,
    bounds: &Bounds,
    wasm: &[u8],
) -> Result<Checked, Refusal> {
    if let Some(checked) = Checked::from_line(found).filter(|_| status.success()) {
        return Ok(checked);
    }
    if let Some(refusal) = said.lines().rev().find_map(|line| line.strip_prefix(ERROR)) {
        return Err(Refusal::Found(refusal.to_owned()));
    }
    // What Rust says when there is no memory, before it aborts.
    if said.contains("memory allocation of") {
        let most = ByteSize(bounds.memory_bytes);
        return Err(given_up(&format!("more than {most} of memory"), wasm));
    }
    let says = |line: &&str| !line.trim().is_empty() && !line.starts_with("note: ");
    let last = said.lines().rev().find(says).unwrap_or_default();
    Err(Refusal::GivenUp(format!("the compiler crashed on it ({status}; {last})")))
}

/// Says what compiling took, and of what: the bytes of the file may be few.
fn given_up(what: &str, wasm: &[u8]) -> Refusal {
    Refusal::GivenUp(format!("compiling it takes {what}; it has {}", Measure::of(wasm)))
}

/// Tries a component in this process, which is there for nothing else and uses no more than
/// `memory_bytes` from now on.
///
/// # Errors
/// Why it cannot be loaded.
pub fn try_here(wasm: &[u8], terms: Terms, memory_bytes: u64) -> Result<Checked, Refusal> {
    let bound = |what, most| {
        let bounded = setrlimit(what, most, most);
        bounded.map_err(|error| SandboxError::Process(error.into()))
    };
    bound(Resource::RLIMIT_DATA, memory_bytes)?;
    bound(Resource::RLIMIT_CPU, CPU_MAX.as_secs())?;
    // What is left of a crash is of no use to anybody here.
    bound(Resource::RLIMIT_CORE, 0)?;
    let Terms { memory_bytes, http, cache_dir } = terms;
    let settings = HandlerSettings {
        limits: Limits { memory_bytes, ..Limits::default() },
        http,
        // Nothing is called, so the rest does not matter.
        queue: String::new(),
        version: 0,
        payload_type: PayloadType::Jsonb,
        max_attempts: 1,
        batch_size: None,
        isolation: Isolation::Message,
        config: BTreeMap::new(),
        secret_names: BTreeSet::new(),
        secrets: Secrets::default(),
        targets: FollowUpTargets::default(),
    };
    let sandbox = Sandbox::new(&SandboxConfig { instances_max: 1, cache_dir })?;
    let handler = sandbox.handler(&sandbox.compile(wasm)?, settings)?;
    Ok(Checked { takes_batches: handler.batch_size().is_some() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn how_a_check_ended_is_said_in_words() {
        let judged = |raw: i32, found: &str, text: &str| {
            let judged = judge(ExitStatus::from_raw(raw), found, text, &Bounds::default(), b"");
            judged.map_err(|refusal| refusal.to_string())
        };
        for checked in [false, true].map(|takes_batches| Checked { takes_batches }) {
            assert_eq!(judged(0, checked.as_str(), ""), Ok(checked));
        }
        let said = |raw: i32, text: &str| judged(raw, "", text);
        assert!(said(0, "").is_err(), "it has not said what it is");
        assert_eq!(said(1 << 8, "WARN slow\nerror: no\n").unwrap_err(), "no");
        let text = said(6, "memory allocation of 5 bytes failed\n").unwrap_err();
        assert!(text.contains("compiling it takes more than 4.0 GiB of memory"), "{text}");
        let text = said(11, "").unwrap_err();
        assert!(text.contains("the compiler crashed on it (signal: 11"), "{text}");
    }
}
