//! What a guest writes: lines of `log.write`, and its stdout and stderr. Each says of which message
//! it is: a span of every message would cost those that write nothing as much. Bounded by bytes for
//! each call; never blocks and never fails.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::bindings::host::jobs::log::Level;
use super::settings::HandlerSettings;
use host_core::deployment::secret::{Secret, cut_beside, hide, hide_in_beginning, longest_hidden};
use host_core::id::MessageId;
use host_core::limits::ERROR_BYTES_MAX;
use host_core::message::Message;

/// The longest line of stdout or stderr, in bytes; longer ones are split.
const LINE_BYTES_MAX: usize = 4 << 10;
/// What a line counts at least, in bytes: the host writes more than its text.
const LINE_BYTES_MIN: u64 = 64;
/// What a guest may hand over in one write, in bytes.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// The log of one sandbox. The sandbox and its output streams share it, hence the lock; they use it
/// one after the other.
#[derive(Clone)]
pub(super) struct GuestLog(Arc<Mutex<Lines>>);

/// Of which messages a call is.
#[derive(Clone, Copy)]
pub(super) struct Subject {
    /// The first of them, and which attempt it is.
    id: MessageId,
    attempt: u32,
    /// Those besides.
    more: usize,
}

impl Subject {
    /// Of a call with one message.
    pub(super) const fn of(message: &Message) -> Self {
        Self { id: message.id, attempt: message.attempt, more: 0 }
    }

    /// For a call with this message and `more` others.
    pub(super) const fn of_batch(first: &Message, more: usize) -> Self {
        Self { id: first.id, attempt: first.attempt, more }
    }

    /// The first of them.
    pub(super) const fn first(self) -> MessageId {
        self.id
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.id)?;
        if self.more > 0 { write!(f, " and {} more", self.more) } else { Ok(()) }
    }
}

struct Lines {
    settings: Arc<HandlerSettings>,
    /// The messages of this call.
    subject: Subject,
    left_bytes: u64,
    told: bool,
    /// A line that is not finished yet, of stdout and of stderr.
    begun: [Vec<u8>; 2],
    panic: Option<String>,
    /// Secrets that the guest was given, to be kept out of its log; and the length of their longest
    /// line.
    hidden: Arc<[Secret]>,
    hidden_bytes_max: usize,
}

/// A line of a guest, with what it takes to find the message that it is of.
macro_rules! line {
    ($lines:expr, $level:ident, $($text:tt)*) => {
        tracing::$level!(
            target: "guest",
            queue = $lines.settings.queue,
            id = %$lines.subject,
            attempt = $lines.subject.attempt,
            version = $lines.settings.version,
            $($text)*
        )
    };
}

impl GuestLog {
    /// The log of a sandbox whose first call is of these messages.
    pub(super) fn new(settings: Arc<HandlerSettings>, subject: Subject) -> Self {
        let begun = [Vec::new(), Vec::new()];
        let left_bytes = settings.limits.log_bytes;
        let (told, panic, hidden) = (false, None, Arc::default());
        let hidden_bytes_max = 0;
        let lines =
            Lines { settings, subject, left_bytes, told, begun, panic, hidden, hidden_bytes_max };
        Self(Arc::new(Mutex::new(lines)))
    }

    /// Begins a further call: its limit is unused.
    pub(super) fn begin(&self, subject: Subject) {
        let mut lines = self.lock();
        lines.subject = subject;
        lines.left_bytes = lines.settings.limits.log_bytes;
        lines.told = false;
        // What looked like a panic in a call that went well is no reason for this one's end.
        lines.panic = None;
    }

    /// Ends a call: a line without an end is a line.
    pub(super) fn end(&self) {
        let mut lines = self.lock();
        for output in [Output::Stdout, Output::Stderr] {
            if !lines.begun[output as usize].is_empty() {
                lines.finish_line(output);
            }
        }
    }

    /// Writes one line.
    pub(super) fn write(&self, level: Level, text: &str) {
        self.lock().write(level, text);
    }

    /// What the guest said on stderr when it panicked, if it did.
    pub(super) fn panic(&self) -> Option<String> {
        let panic = self.lock().panic.take()?;
        Some(self.shown(panic))
    }

    /// Keeps a secret out of what the guest writes from now on.
    pub(super) fn hide(&self, secret: &Secret) {
        let mut lines = self.lock();
        if !lines.hidden.contains(secret) {
            lines.hidden = lines.hidden.iter().chain([secret]).cloned().collect();
            lines.hidden_bytes_max = longest_hidden(&lines.hidden);
        }
    }

    /// The secrets that the guest was given so far.
    pub(super) fn hidden(&self) -> Arc<[Secret]> {
        self.lock().hidden.clone()
    }

    /// A text of the guest's, for others to read: what an error may keep of it.
    pub(super) fn shown(&self, text: String) -> String {
        match hide_in_beginning(&text, &self.lock().hidden, ERROR_BYTES_MAX) {
            Cow::Owned(shown) => shown,
            Cow::Borrowed(_) => text,
        }
    }

    /// The guest's stdout.
    pub(super) fn stdout(&self) -> impl StdoutStream + 'static {
        LogStream { log: self.clone(), output: Output::Stdout }
    }

    /// The guest's stderr.
    pub(super) fn stderr(&self) -> impl StdoutStream + 'static {
        LogStream { log: self.clone(), output: Output::Stderr }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn write(&mut self, level: Level, text: &str) {
        let bytes = (text.len() as u64 + 1).max(LINE_BYTES_MIN);
        if bytes > self.left_bytes {
            self.left_bytes = 0;
            if !self.told {
                self.told = true;
                let limit = self.settings.limits.log_bytes;
                line!(self, warn, "log limit of {limit} bytes a call: the rest is dropped");
            }
            return;
        }
        self.left_bytes -= bytes;
        let text = OneLine(&hide(text, &self.hidden));
        match level {
            Level::Trace => line!(self, trace, "{text}"),
            Level::Debug => line!(self, debug, "{text}"),
            Level::Info => line!(self, info, "{text}"),
            Level::Warn => line!(self, warn, "{text}"),
            Level::Error => line!(self, error, "{text}"),
        }
    }

    fn output(&mut self, output: Output, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                self.finish_line(output);
                continue;
            }
            self.begun[output as usize].push(byte);
            // Far enough to see whether a secret goes on across the cut.
            if self.begun[output as usize].len() >= LINE_BYTES_MAX + self.hidden_bytes_max {
                self.cut_line(output);
            }
        }
    }

    fn finish_line(&mut self, output: Output) {
        while self.begun[output as usize].len() > LINE_BYTES_MAX {
            self.cut_line(output);
        }
        let line = std::mem::take(&mut self.begun[output as usize]);
        self.write_line(output, &line);
    }

    /// Writes the first part of a line that is too long.
    fn cut_line(&mut self, output: Output) {
        let line = &mut self.begun[output as usize];
        let is_inside = |at: &usize| line.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
        // Between two characters, if it is UTF-8.
        let at = (LINE_BYTES_MAX - 3..=LINE_BYTES_MAX).rev().find(|at| !is_inside(at));
        let cut = cut_beside(line, &self.hidden, at.unwrap_or(LINE_BYTES_MAX));
        let part: Vec<u8> = line.drain(..cut).collect();
        self.write_line(output, &part);
    }

    fn write_line(&mut self, output: Output, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        if output == Output::Stderr {
            self.note_panic(&line);
        }
        let level = if output == Output::Stderr { Level::Warn } else { Level::Info };
        self.write(level, &line);
    }

    /// Rust writes `thread … panicked at FILE:LINE:COLUMN:`, and on the next line why.
    fn note_panic(&mut self, line: &str) {
        if let Some((_, place)) = line.split_once("panicked at ") {
            self.panic = Some(format!("panicked at {place}"));
        } else if let Some(panic) =
            self.panic.as_mut().filter(|panic| panic.ends_with(':') && panic.len() < LINE_BYTES_MAX)
        {
            panic.push(' ');
            panic.push_str(line);
        }
    }
}

/// Text without the control characters with which a guest could forge lines of the log.
struct OneLine<'a>(&'a str);

impl std::fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = self.0.split(char::is_control);
        f.write_str(parts.next().unwrap_or_default())?;
        parts.try_for_each(|part| write!(f, " {part}"))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    Stdout,
    Stderr,
}

#[derive(Clone)]
struct LogStream {
    log: GuestLog,
    output: Output,
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for it, which a host does not offer.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // It is not interrupted, and megabytes of empty lines would take it a second.
        if bytes.len() > WRITE_BYTES_MAX {
            return Err(StreamError::trap("more bytes at once than `check-write` allows"));
        }
        self.log.lock().output(self.output, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}
