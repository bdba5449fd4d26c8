//! How counts and moments are written for people, and read from them. Never asks a clock.

use std::time::SystemTime;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// "1 message", "2 messages".
#[must_use]
pub fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// A moment in UTC, to the second, as in `2030-01-31T08:00:00Z`. What no calendar has is given as
/// the nearest that one has.
#[must_use]
pub fn time(time: SystemTime) -> String {
    let nearest = if time < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
    let time = Timestamp::try_from(time).unwrap_or(nearest);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Reads a moment, as in `2030-01-31T08:00:00Z` or with an offset as in
/// `2030-01-31T08:00:00+01:00`. Without either it is in UTC.
///
/// # Errors
/// What is wrong with it.
pub fn parse_time(text: &str) -> Result<SystemTime, String> {
    let with_offset = text.parse::<Timestamp>();
    let in_utc = || text.parse::<DateTime>().and_then(|time| time.to_zoned(TimeZone::UTC));
    let time =
        with_offset.or_else(|_| in_utc().as_ref().map(Zoned::timestamp).map_err(Clone::clone));
    time.map(SystemTime::from)
        .map_err(|_| "write it as in 2030-01-31T08:00:00Z or 2030-01-31T08:00:00+01:00".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn counts_of_one_are_singular() {
        assert_eq!((plural(1, "host"), plural(0, "host")), ("1 host".into(), "0 hosts".into()));
    }

    #[test]
    fn moments_before_1970_and_of_no_calendar_are_written() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(time(before), "1969-12-31T23:59:59Z");
        // Postgres has years up to 294276.
        let far = SystemTime::UNIX_EPOCH + Duration::from_hours(2_500_000_000);
        assert_eq!(time(far), "9999-12-30T22:00:00Z");
    }

    #[test]
    fn moments_are_read_with_and_without_an_offset() {
        for text in [
            "2030-01-31T08:00:00Z",
            "2030-01-31T09:00:00+01:00",
            "2030-01-31 08:00:00",
            "2030-01-31T02:30:00-05:30",
        ] {
            assert_eq!(parse_time(text).map(time).as_deref(), Ok("2030-01-31T08:00:00Z"), "{text}");
        }
        for text in ["", "tomorrow", "2030-02-31T08:00:00Z"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
