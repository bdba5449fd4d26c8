//! How a command ends when it does not end well: an exit code and one line. Never prints anything
//! else.

use std::fmt;
use std::process::ExitCode;

use crate::exit_codes::{FAILED, NO_CONNECTION, SCHEMA, USAGE};
use host_core::limits::OutOfRange;
use host_embedded::EmbeddedError;
use host_queue::error::{QueueError, SQLSTATE_CANNOT_CONNECT};
use host_queue::migrate::{MigrateError, SchemaState};

/// The least similarity, from 0 to 1, of a name that is offered as the one that was meant.
const NEAREST_MIN: f64 = 0.7;

/// An exit code and what to tell the user.
#[derive(Debug)]
pub(crate) struct CommandError {
    code: u8,
    message: String,
}

impl CommandError {
    /// The command line is wrong.
    #[must_use]
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, message: message.into() }
    }

    /// What was asked for makes sense, but cannot be done.
    #[must_use]
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { code: FAILED, message: message.into() }
    }

    /// There is no `kind` of the name `given`; says which of `known` may have been meant.
    #[must_use]
    pub(crate) fn unknown<'a>(
        kind: &str,
        given: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let nearest = known
            .into_iter()
            .map(|name| (strsim::jaro_winkler(given, name), name))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        Self::usage(match nearest {
            Some((similar, name)) if similar >= NEAREST_MIN => {
                format!("no {kind} {given:?}; did you mean {name:?}?")
            }
            Some(_) => format!("no {kind} {given:?}"),
            None => format!("no {kind} {given:?}; there is none yet"),
        })
    }

    /// What has been run has said itself what was wrong.
    #[must_use]
    pub(crate) const fn silent() -> Self {
        Self { code: FAILED, message: String::new() }
    }

    /// The schema does not fit this host.
    #[must_use]
    pub(crate) fn schema(state: SchemaState) -> Self {
        Self { code: SCHEMA, message: state.to_string() }
    }

    /// Prints the line, and gives the code to the system.
    #[must_use]
    pub(crate) fn report(&self) -> ExitCode {
        let line: Vec<&str> = self.message.split_whitespace().collect();
        if !line.is_empty() {
            eprintln!("error: {}", line.join(" "));
        }
        ExitCode::from(self.code)
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        Self { code: FAILED, message: format!("{error:#}") }
    }
}

impl From<OutOfRange> for CommandError {
    fn from(error: OutOfRange) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<QueueError> for CommandError {
    fn from(error: QueueError) -> Self {
        let code = match &error {
            QueueError::Unavailable(_) => NO_CONNECTION,
            // No such role, a wrong password, no such database, a URL that cannot be read, no TLS.
            QueueError::Refused { sqlstate, .. }
                if sqlstate.starts_with("28")
                    || sqlstate == "3D000"
                    || sqlstate == SQLSTATE_CANNOT_CONNECT =>
            {
                NO_CONNECTION
            }
            _ => FAILED,
        };
        Self { code, message: error.to_string() }
    }
}

impl From<EmbeddedError> for CommandError {
    fn from(error: EmbeddedError) -> Self {
        Self { code: NO_CONNECTION, message: error.to_string() }
    }
}

impl From<MigrateError> for CommandError {
    fn from(error: MigrateError) -> Self {
        let code = match error {
            MigrateError::Queue(error) => return error.into(),
            MigrateError::Newer(_) | MigrateError::Edited(_) => SCHEMA,
            _ => FAILED,
        };
        Self { code, message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_if_it_is_near() {
        let message = |given, known: &[&str]| {
            CommandError::unknown("queue", given, known.iter().copied()).message
        };
        let known = ["emails", "outbox"];
        assert_eq!(message("email", &known), "no queue \"email\"; did you mean \"emails\"?");
        assert_eq!(message("zzz", &known), "no queue \"zzz\"");
        assert_eq!(message("emails", &[]), "no queue \"emails\"; there is none yet");
    }
}
