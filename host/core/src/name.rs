//! Names that become part of SQL and of logs: checked once, safe from then on. Never does I/O.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a queue: 1 to 40 lower-case letters, digits and single underscores, a letter first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName(Arc<str>);

/// The name of a handler: as a queue's, and hyphens are allowed too.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandlerName(Arc<str>);

/// The name of a cron entry: as a handler's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CronName(Arc<str>);

/// Why a name is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is not a {what} name: use {LENGTH_MAX} or fewer lower-case letters, digits and {and}, beginning with a letter"
)]
pub struct NameError {
    name: String,
    what: &'static str,
    and: &'static str,
}

const LENGTH_MAX: usize = 40;

fn is_name(name: &str, more: impl Fn(u8) -> bool) -> bool {
    name.len() <= LENGTH_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || more(b))
}

impl FromStr for QueueName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        // Two underscores separate a queue's name from the rest of an internal table's.
        if is_name(name, |b| b == b'_') && !name.contains("__") && !name.ends_with('_') {
            return Ok(Self(name.into()));
        }
        Err(NameError { name: name.into(), what: "queue", and: "single underscores" })
    }
}

impl FromStr for HandlerName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        if is_name(name, |b| b == b'_' || b == b'-') {
            return Ok(Self(name.into()));
        }
        Err(NameError { name: name.into(), what: "handler", and: "underscores or hyphens" })
    }
}

impl FromStr for CronName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        if is_name(name, |b| b == b'_' || b == b'-') {
            return Ok(Self(name.into()));
        }
        Err(NameError { name: name.into(), what: "cron", and: "underscores or hyphens" })
    }
}

macro_rules! text {
    ($($name:ident)*) => {$(
        impl $name {
            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text! { QueueName HandlerName CronName }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_do_harm_are_refused() {
        for good in ["a", "emails", "e2e_tests", &"x".repeat(40)] {
            assert!(good.parse::<QueueName>().is_ok(), "{good}");
        }
        for bad in
            ["", "1a", "_a", "a__b", "a_", "A", "a-b", "a b", "a;b", "a\"", "é", &"x".repeat(41)]
        {
            assert!(bad.parse::<QueueName>().is_err(), "{bad}");
        }
        assert!("a-b".parse::<HandlerName>().is_ok());
    }
}
