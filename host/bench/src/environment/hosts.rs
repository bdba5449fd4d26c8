//! The hosts of a benchmark: processes of their own that run `host serve`, so that what they use is
//! theirs alone. Never looks at a message.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{ChildStderr, Command};
use tokio::sync::mpsc;

use super::process;
use crate::error::BenchError;

/// How long a host may take to end when it is told to.
const END_WITHIN: Duration = Duration::from_secs(20);
/// Lines of a host's log that are kept.
const LINES_MAX: usize = 50;

/// When a message's handler began, as the handler itself said.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    /// What the handler wrote: the message's payload.
    pub text: String,
    /// By this machine's clock.
    pub at: SystemTime,
}

/// Running hosts. Killed when dropped.
#[derive(Debug, Default)]
pub(crate) struct Hosts(Vec<Host>);

#[derive(Debug)]
struct Host {
    child: tokio::process::Child,
    pid: u32,
    /// What it has complained of.
    lines: Arc<Mutex<Vec<String>>>,
}

/// A line of a host's log.
#[derive(Deserialize)]
struct Line<'a> {
    timestamp: &'a str,
    target: &'a str,
    level: &'a str,
    message: String,
    #[serde(default)]
    error: Option<String>,
}

impl Hosts {
    /// Starts one more, of the program that this is. `marks` gets what its handlers write.
    pub(crate) fn start(
        &mut self,
        program: &Path,
        url: &str,
        args: &[OsString],
        marks: Option<mpsc::UnboundedSender<Mark>>,
    ) -> Result<(), BenchError> {
        let name = format!("bench-{}", self.0.len() + 1);
        let mut child = Command::new(program)
            .args(["serve", "--log", "json", "--log-level", "warn,guest=info", "--name", &name])
            .args(args)
            .env("DATABASE_URL", url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A Ctrl-C at the terminal is for the benchmark, which sees to its hosts.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| BenchError::NoHost { program: program.to_owned(), source })?;
        let pid = child.id().unwrap_or_default();
        let lines = Arc::default();
        if let Some(log) = child.stderr.take() {
            tokio::spawn(read(log, Arc::clone(&lines), marks));
        }
        self.0.push(Host { child, pid, lines });
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Fails if one has ended.
    pub(crate) fn check(&mut self) -> Result<(), BenchError> {
        for host in &mut self.0 {
            if let Ok(Some(status)) = host.child.try_wait() {
                let lines = host.lines.lock().unwrap_or_else(PoisonError::into_inner);
                let last = lines.last().cloned().unwrap_or_default();
                return Err(BenchError::HostEnded { status, last });
            }
        }
        Ok(())
    }

    /// Processor time of all of them so far.
    #[must_use]
    pub(crate) fn cpu(&self) -> Option<Duration> {
        self.0.iter().map(|host| process::cpu(host.pid)).sum()
    }

    /// The most memory that any of them has had at once, in bytes.
    #[must_use]
    pub(crate) fn peak_rss_bytes(&self) -> Option<u64> {
        self.0.iter().map(|host| process::peak_rss_bytes(host.pid)).max().flatten()
    }

    /// What they have complained of.
    #[must_use]
    pub(crate) fn complaints(&self) -> Vec<String> {
        let of = |host: &Host| host.lines.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.0.iter().flat_map(of).collect()
    }

    /// Tells them to end, and waits until they have.
    pub(crate) async fn stop(&mut self) -> Result<(), BenchError> {
        for host in &self.0 {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(host.pid.cast_signed()), Signal::SIGTERM);
        }
        for mut host in self.0.drain(..) {
            if tokio::time::timeout(END_WITHIN, host.child.wait()).await.is_err() {
                host.child.kill().await.map_err(BenchError::Io)?;
            }
        }
        Ok(())
    }
}

/// Reads a host's log to its end.
async fn read(
    log: ChildStderr,
    kept: Arc<Mutex<Vec<String>>>,
    marks: Option<mpsc::UnboundedSender<Mark>>,
) {
    let mut lines = BufReader::new(log).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let text = match serde_json::from_str::<Line<'_>>(&line) {
            Ok(line) if line.target == "guest" && line.level == "INFO" => {
                let at = humantime::parse_rfc3339(line.timestamp);
                if let (Some(marks), Ok(at)) = (&marks, at) {
                    // Nobody listens any more when the run is over.
                    let _ = marks.send(Mark { text: line.message, at });
                }
                continue;
            }
            Ok(line) => match line.error {
                Some(error) => format!("{}: {error}", line.message),
                None => line.message,
            },
            Err(_) => line,
        };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < LINES_MAX {
            kept.push(text);
        }
    }
}
