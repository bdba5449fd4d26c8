//! The log on standard error, as text for people or JSON for machines. Never read by the product.

use std::fmt;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use crate::error::CommandError;
use crate::visible::Log;

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging, once per process.
pub(crate) fn start(format: Format, level: &str) -> Result<(), CommandError> {
    let filter = filter(level, &host_sandbox::LOGS_WITHOUT_LIMIT)?;
    let has_colours = matches!(format, Format::Text) && std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(has_colours);
    // A line that cannot be written is lost: its reader may have ended, as `tee` does at Ctrl-C.
    // That stops no host.
    let log = log.with_writer(Log { has_colours }).log_internal_errors(false);
    match format {
        Format::Text => log.init(),
        Format::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}

fn filter(level: &str, left_out: &[&str]) -> Result<EnvFilter, CommandError> {
    let mut filter = EnvFilter::try_new(level).map_err(|error| {
        CommandError::usage(format!("--log-level {level:?} is not a level: {error}"))
    })?;
    for target in left_out {
        filter = filter.add_directive(format!("{target}=off").parse().expect("a directive"));
    }
    Ok(filter)
}

/// The target of what guests write.
const GUEST: &str = "guest";

/// What guests have written, in `host test`.
static GUEST_LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The same as [`start`], but what guests write is kept for [`take_guest_lines`].
pub(crate) fn start_for_test(level: &str) -> Result<(), CommandError> {
    let left_out = [&host_sandbox::LOGS_WITHOUT_LIMIT[..], &[GUEST]].concat();
    let log = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(Log { has_colours: false })
        .with_filter(filter(level, &left_out)?);
    let guest = GuestLines.with_filter(filter_fn(|metadata| metadata.target() == GUEST));
    tracing_subscriber::registry().with(log).with(guest).init();
    Ok(())
}

/// What guests have written since the last time.
pub(crate) fn take_guest_lines() -> Vec<String> {
    std::mem::take(&mut *GUEST_LINES.lock().unwrap_or_else(PoisonError::into_inner))
}

struct GuestLines;

impl<S: Subscriber> Layer<S> for GuestLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        GUEST_LINES.lock().unwrap_or_else(PoisonError::into_inner).push(text.0);
    }
}

/// The text of a line.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
