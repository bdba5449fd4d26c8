//! Running the real binary: commands that end, and `host serve`, which a test ends.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::watchdog::kill_with_us;
use super::{TestDb, wait_until};

const HOST: &str = env!("CARGO_BIN_EXE_host");

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Its standard output; panics with everything it said if it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// Its one line of error; panics if it ended otherwise than with that code.
    #[track_caller]
    pub fn error(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        let mut lines = self.stderr.lines().filter_map(|line| line.strip_prefix("error: "));
        let line = lines.next().unwrap_or_else(|| panic!("no error line in {:?}", self.stderr));
        assert_eq!(lines.next(), None, "a second error line");
        line.to_owned()
    }
}

/// The binary, with nothing in its environment that could lead it elsewhere.
pub fn host_command(args: &[&str]) -> Command {
    let mut command = Command::new(HOST);
    command.args(args).env_remove("DATABASE_URL").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub async fn finish(mut command: Command) -> Finished {
    let output = tokio::task::spawn_blocking(move || command.output().expect("run host"));
    let output = output.await.expect("run host");
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

impl TestDb {
    /// Runs `host` with these arguments on this database.
    pub async fn host(&self, args: &[&str]) -> Finished {
        let mut command = host_command(args);
        command.env("DATABASE_URL", &self.url);
        finish(command).await
    }

    /// Starts `host serve` with these further arguments.
    pub fn serve(&self, args: &[&str]) -> Serve {
        Serve::spawn(self.serve_command(args))
    }

    /// The same, with its log in a file, as a service's: nobody here needs a processor to read it.
    pub fn serve_into(&self, args: &[&str], log: File) -> Serve {
        Serve::start(self.serve_command(args), log.into())
    }

    fn serve_command(&self, args: &[&str]) -> Command {
        let mut command = host_command(&["serve"]);
        command.args(args).env("DATABASE_URL", &self.url);
        command
    }
}

/// A running host. Killed when dropped.
#[derive(Debug)]
pub struct Serve {
    child: Child,
    log: Arc<Mutex<String>>,
    /// Ends when the host does.
    reader: JoinHandle<()>,
}

impl Serve {
    /// Starts it, and collects what it logs.
    pub fn spawn(command: Command) -> Self {
        Self::start(command, Stdio::piped())
    }

    fn start(mut command: Command, stderr: Stdio) -> Self {
        let mut child = command.stderr(stderr).spawn().expect("start host");
        kill_with_us(child.id(), &Path::new(HOST).canonicalize().expect("the binary"));
        let log = Arc::new(Mutex::new(String::new()));
        let lines = child.stderr.take().map(|stderr| BufReader::new(stderr).lines());
        let collected = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in lines.into_iter().flatten().map_while(Result::ok) {
                let mut log = collected.lock().expect("the log");
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log, reader }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("the log").clone()
    }

    /// Waits until it has logged a text.
    pub async fn wait_for_log(&self, text: &str) {
        wait_until(&format!("the host logs {text:?}"), async || self.log().contains(text)).await;
    }

    /// Waits until it has heeded a signal to end: it says that it drains, or it is gone, which one
    /// that serves nothing is without a word.
    pub async fn wait_draining(&self) {
        let heeded = async || self.log().contains("draining") || self.reader.is_finished();
        wait_until("the host drains", heeded).await;
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has in the machine's memory now, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("signal the host");
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().expect("kill the host");
        self.child.wait().expect("the host's end");
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait().await
    }

    /// Waits until it ends in order; returns what it has logged.
    pub async fn ended(self) -> String {
        let log = self.log.clone();
        assert!(self.wait().await.success());
        let log = log.lock().expect("the log");
        log.clone()
    }

    /// Waits until it ends by itself.
    pub async fn wait(mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the host ends", async || {
            status = self.child.try_wait().expect("the host's state");
            status.is_some()
        })
        .await;
        status.expect("it ended")
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of host {}:\n{}", self.child.id(), self.log());
        }
    }
}
