//! Limits of a queue: how much of it runs at once and how fast, over all hosts. Each delays, none
//! refuses. What may start is for the database to say. Never does I/O.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::limits::{
    FLEET_CONCURRENCY, OutOfRange, RATE_BURST, RATE_COUNT, RATE_INTERVAL, count_within,
    duration_within,
};

/// The limits of a queue, for each of its handlers by itself; `None`: any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages in flight at once, over all hosts.
    pub fleet_concurrency: Option<u32>,
    /// Messages that start in a time, over all hosts.
    pub rate: Option<Rate>,
}

/// So many in a time, evenly; and so many at once, if there were fewer before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many …
    pub count: u32,
    /// … in this time.
    pub interval: Duration,
    /// How many at once.
    pub burst: u32,
}

/// A rate as it is written: `100/1s`. The burst is said apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerInterval {
    /// How many …
    pub count: u32,
    /// … in this time.
    pub interval: Duration,
}

/// Why a text is not a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write it as NUMBER/TIME, as in 100/1s or 5000/1h")]
pub struct NotARate;

impl fmt::Display for PerInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}",
            self.count,
            humantime::format_duration(self.interval).to_string().replace(' ', "")
        )
    }
}

impl FromStr for PerInterval {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Self, NotARate> {
        let (count, interval) = text.split_once('/').ok_or(NotARate)?;
        let count = count.trim().parse().map_err(|_| NotARate)?;
        let interval = humantime::parse_duration(interval.trim()).map_err(|_| NotARate)?;
        Ok(Self { count, interval })
    }
}

impl QueueLimits {
    /// Refuses what no queue can keep to.
    pub fn check(&self) -> Result<(), OutOfRange> {
        if let Some(messages) = self.fleet_concurrency {
            count_within("fleet-concurrency", messages, &FLEET_CONCURRENCY)?;
        }
        let Some(rate) = self.rate else { return Ok(()) };
        duration_within("the rate's time", rate.interval, &RATE_INTERVAL)?;
        // The database counts time by the microsecond.
        let per_us = u32::try_from(rate.interval.as_micros()).unwrap_or(u32::MAX);
        let most = per_us.min(*RATE_COUNT.end());
        count_within("the rate's number", rate.count, &(*RATE_COUNT.start()..=most))?;
        count_within("burst", rate.burst, &RATE_BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_in_a_time() {
        let hourly = PerInterval { count: 5_000, interval: Duration::from_hours(1) };
        assert_eq!("5000/1h".parse(), Ok(hourly));
        for wrong in ["", "5", "/1s", "5/", "-5/1s", "5/1", "1.5/1s"] {
            assert_eq!(wrong.parse::<PerInterval>(), Err(NotARate), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_kept_to_is_refused() {
        let rate = |count, interval_ms, burst| QueueLimits {
            rate: Some(Rate { count, interval: Duration::from_millis(interval_ms), burst }),
            ..QueueLimits::default()
        };
        assert_eq!(rate(100, 1_000, 1).check(), Ok(()));
        let said = |limits: QueueLimits| limits.check().unwrap_err().to_string();
        assert_eq!(
            said(rate(0, 1_000, 1)),
            "the rate's number 0 is out of range: use 1 to 1000000"
        );
        assert_eq!(
            said(rate(2_000, 1, 1)),
            "the rate's number 2000 is out of range: use 1 to 1000"
        );
        assert_eq!(said(rate(1, 0, 1)), "the rate's time 0s is out of range: use 1ms to 365days");
        assert_eq!(said(rate(1, 1, 0)), "burst 0 is out of range: use 1 to 1000000");
        let none = QueueLimits { fleet_concurrency: Some(0), ..QueueLimits::default() };
        assert_eq!(said(none), "fleet-concurrency 0 is out of range: use 1 to 10000");
    }
}
