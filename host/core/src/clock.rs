//! Clocks: whether one was set back, and how the database counts time. Pure: all times are passed
//! in.

use std::time::{Duration, Instant, SystemTime};

/// A smaller step is NTP's, or a slow answer.
const STEP_MIN: Duration = Duration::from_secs(2);

/// A duration as the database has it: in milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What a clock has shown last.
#[derive(Debug, Default)]
pub struct ClockWatch {
    last: Option<(SystemTime, Instant)>,
}

impl ClockWatch {
    /// Notes that the clock shows `shown` at `now`. By how much it was set back since the last
    /// time, if it was.
    pub fn note(&mut self, shown: SystemTime, now: Instant) -> Option<Duration> {
        let (before, at) = self.last.replace((shown, now))?;
        let expected = before + now.saturating_duration_since(at);
        expected.duration_since(shown).ok().filter(|step| *step > STEP_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_step_back_is_named_and_once() {
        let (mut watch, start) = (ClockWatch::default(), Instant::now());
        let noon = SystemTime::UNIX_EPOCH + Duration::from_hours(12);
        let mut note = |shown: SystemTime, after_s| {
            watch.note(shown, start + Duration::from_secs(after_s)).map(|step| step.as_secs())
        };
        let s = Duration::from_secs;
        assert_eq!(note(noon, 0), None, "there is nothing to compare the first with");
        assert_eq!(note(noon + s(60), 60), None);
        assert_eq!(note(noon + s(119), 120), None, "a second is nothing");
        assert_eq!(note(noon + s(7_200), 180), None, "forward");
        assert_eq!(note(noon + s(3_660), 240), Some(3_600), "an hour, and a minute has passed");
        assert_eq!(note(noon + s(3_720), 300), None, "it goes on from there");
        assert_eq!(note(noon + s(3_721), 361), Some(60), "it did not move");
    }
}
