//! Unique keys: what a queue promises of them. Never does I/O.

use std::time::Duration;

use crate::limits::{OutOfRange, UNIQUE_WINDOW, duration_within};

/// How a queue takes the column `unique_key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unique {
    /// How long a key is taken, from its INSERT on; and in any case until its message is settled.
    pub window: Duration,
    /// What becomes of a message whose key is taken.
    pub on_duplicate: OnDuplicate,
}

/// What becomes of a message whose key is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDuplicate {
    /// It is left out; the INSERT goes on, and counts one row less.
    #[default]
    Drop,
    /// The INSERT fails with a unique violation.
    Refuse,
}

impl Unique {
    /// Refuses what a queue cannot promise.
    pub fn check(&self) -> Result<(), OutOfRange> {
        duration_within("unique", self.window, &UNIQUE_WINDOW)
    }
}

impl OnDuplicate {
    /// All of them, in the order in which `--help` shows them.
    pub const ALL: [Self; 2] = [Self::Drop, Self::Refuse];

    /// The name in SQL and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Refuse => "refuse",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|what| what.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_be_nothing_and_is_a_year_at_most() {
        let of = |window| Unique { window, on_duplicate: OnDuplicate::default() };
        assert_eq!(of(Duration::ZERO).check(), Ok(()));
        let text = of(Duration::from_hours(366 * 24)).check().unwrap_err().to_string();
        assert_eq!(text, "unique 366days is out of range: use 0s to 365days");
    }
}
