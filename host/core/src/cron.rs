//! When a cron entry fires: a pattern in a time zone, and what becomes of the firings that no host
//! was there for. Pure functions of the time that they are given; never asks a clock.

use std::time::{Duration, SystemTime};

use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use self::times::Times;

mod fields;
mod times;

/// A firing that is no later than this is on time: a host was starting, or busy.
pub const ON_TIME: Duration = Duration::from_mins(1);
/// Firings that are made up for at once, the newest of those that were missed.
pub const MAKE_UP_MAX: usize = 1_000;

/// Headers that tell a handler of the entry and the time; an entry cannot have headers of its own
/// of these names.
pub const HEADERS: [&str; 2] = ["cron", "cron-at"];

/// At which times an entry fires.
#[derive(Clone, Debug)]
pub struct Schedule {
    times: Times,
    zone_name: String,
}

/// Why there is no such schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The pattern cannot be read.
    #[error(
        "{pattern:?} is not a cron pattern: {why}; use [SECOND] MINUTE HOUR DAY MONTH WEEKDAY, as in \"*/5 * * * *\""
    )]
    Pattern {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// The pattern matches no time, as that of a 30th of February.
    #[error("the cron pattern {0:?} never fires: no such date exists")]
    Never(String),
    /// There is no time zone of that name.
    #[error("no time zone {0:?}: use a name such as Europe/Berlin or UTC")]
    TimeZone(String),
}

/// What becomes of firings that were missed: later than [`ON_TIME`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// They are left out.
    Skip,
    /// One stands for all of them, unless another is on time.
    One,
    /// Each is made up for, up to [`MAKE_UP_MAX`].
    All,
}

/// What an entry that is due is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firing {
    /// A message for each of these, ascending.
    pub times: Vec<SystemTime>,
    /// When it is due again.
    pub then: SystemTime,
}

impl Missed {
    /// All of them, in the order in which `--help` shows them.
    pub const ALL: [Self; 3] = [Self::Skip, Self::One, Self::All];

    /// The name in SQL and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::One => "one",
            Self::All => "all",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }
}

impl Schedule {
    /// The schedule of a pattern in the time zone of that name. A pattern has five fields, or six
    /// with seconds first, or is a name such as `@hourly`.
    ///
    /// # Errors
    /// What is wrong with which of the two.
    pub fn parse(pattern: &str, time_zone: &str) -> Result<Self, ScheduleError> {
        let parser =
            CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let parsed = parser.parse(pattern).map_err(|e| ScheduleError::Pattern {
            pattern: pattern.to_owned(),
            why: fields::why(parser, pattern)
                .unwrap_or_else(|| e.to_string().trim_end_matches('.').to_owned()),
        })?;
        let unknown = || ScheduleError::TimeZone(time_zone.to_owned());
        let zone = TimeZone::get(time_zone).map_err(|_| unknown())?;
        let zone_name = zone.iana_name().ok_or_else(unknown)?.to_owned();
        Ok(Self { times: Times { pattern: parsed, zone }, zone_name })
    }

    /// The time zone's name as it is usually written.
    #[must_use]
    pub fn time_zone(&self) -> &str {
        &self.zone_name
    }

    /// A moment as clocks of the time zone show it.
    #[must_use]
    pub fn local(&self, time: SystemTime) -> String {
        self.zoned(time).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// The first firing after a moment.
    ///
    /// # Errors
    /// If there is none.
    pub fn next_after(&self, time: SystemTime) -> Result<SystemTime, ScheduleError> {
        let found = self.times.next(self.zoned(time).timestamp());
        let never = || ScheduleError::Never(self.times.pattern.pattern.to_string());
        Ok(found.ok_or_else(never)?.into())
    }

    /// What an entry is to do at `now` that was to fire at `next_at`, a moment that has passed.
    ///
    /// # Errors
    /// If it never fires again.
    pub fn firing(
        &self,
        missed: Missed,
        next_at: SystemTime,
        now: SystemTime,
    ) -> Result<Firing, ScheduleError> {
        let then = self.next_after(now)?;
        let mut times = Vec::new();
        // Backwards: after years without a host, only so many are looked at.
        let before = |time: &Timestamp| self.times.previous(*time);
        for time in std::iter::successors(before(&self.zoned(then).timestamp()), before) {
            let time = SystemTime::from(time);
            let late = now.duration_since(time).is_ok_and(|late| late > ON_TIME);
            let enough = match missed {
                Missed::Skip => late,
                Missed::One => late && !times.is_empty(),
                Missed::All => times.len() >= MAKE_UP_MAX,
            };
            if time < next_at || enough {
                break;
            }
            times.push(time);
        }
        times.reverse();
        Ok(Firing { times, then })
    }

    /// When an entry that was to fire at `next_at` fires by a clock that was set back to `now`:
    /// earlier, or as it was to (`None`).
    #[must_use]
    pub fn after_set_back(&self, next_at: SystemTime, now: SystemTime) -> Option<SystemTime> {
        self.next_after(now).ok().filter(|next| *next < next_at)
    }

    /// To the second: firings have no fractions.
    fn zoned(&self, time: SystemTime) -> Zoned {
        let time = Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
        let whole = Timestamp::from_second(time.as_second()).unwrap_or(time);
        whole.to_zoned(self.times.zone.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> SystemTime {
        text.parse::<Timestamp>().expect("a time").into()
    }

    fn shown(time: SystemTime) -> String {
        Timestamp::try_from(time).expect("a time").to_string()
    }

    fn berlin(pattern: &str) -> Schedule {
        Schedule::parse(pattern, "Europe/Berlin").expect("a schedule")
    }

    /// The next firings after a moment.
    fn firings(schedule: &Schedule, after: &str, n: usize) -> Vec<String> {
        let next = |time: &SystemTime| schedule.next_after(*time).ok();
        std::iter::successors(next(&at(after)), next).take(n).map(shown).collect()
    }

    #[test]
    fn a_pattern_is_of_its_time_zone_and_may_have_seconds() {
        let daily = firings(&berlin("30 8 * * *"), "2026-01-01T00:00:00Z", 1);
        assert_eq!(daily, ["2026-01-01T07:30:00Z"]);
        let tokyo = Schedule::parse("@daily", "asia/tokyo").unwrap();
        assert_eq!(tokyo.time_zone(), "Asia/Tokyo");
        assert_eq!(firings(&tokyo, "2026-01-01T00:00:00Z", 1), ["2026-01-01T15:00:00Z"]);
        assert_eq!(tokyo.local(at("2026-01-01T15:00:00Z")), "2026-01-02 00:00:00");
        let seconds = firings(&berlin("*/20 * * * * *"), "2026-01-01T00:00:39.9Z", 2);
        assert_eq!(seconds, ["2026-01-01T00:00:40Z", "2026-01-01T00:01:00Z"]);
    }

    #[test]
    fn when_the_clock_is_set_back_the_next_time_is_the_next_by_that_clock() {
        let hourly = berlin("0 * * * *");
        let next_at = at("2026-01-01T13:00:00Z");
        let now = at("2026-01-01T10:30:00Z");
        assert_eq!(
            hourly.after_set_back(next_at, now).map(shown),
            Some("2026-01-01T11:00:00Z".into())
        );
        assert_eq!(hourly.after_set_back(next_at, at("2026-01-01T12:30:00Z")), None);
        assert_eq!(hourly.after_set_back(next_at, at("2026-01-01T14:30:00Z")), None);
    }

    /// The times of a pattern, in UTC, on the two days of 2026 when clocks change in Berlin. On 29
    /// March the hour from 2 to 3 is missing. On 25 October it comes twice.
    #[track_caller]
    fn fires(pattern: &str, spring: &[&str], autumn: &[&str]) {
        let schedule = berlin(pattern);
        for (day, from, to, expected) in [
            ("03-29", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", spring),
            ("10-25", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", autumn),
        ] {
            let before = at(from) - Duration::from_secs(1);
            let next = |time: &SystemTime| schedule.next_after(*time).ok();
            let times: Vec<_> = std::iter::successors(next(&before), next)
                .take_while(|time| *time < at(to))
                .map(|time| shown(time)[11..16].to_owned())
                .collect();
            assert_eq!(times, expected, "{pattern} on 2026-{day}");
        }
    }

    #[test]
    fn where_a_clock_is_changed_each_set_time_comes_once() {
        fires("30 2 * * *", &["01:00"], &["00:30"]);
        fires("30 2,14 * * *", &["01:00", "12:30"], &["00:30", "13:30"]);
        // Both are left out, and so they are at one moment.
        fires("0,30 2 * * *", &["01:00"], &["00:00", "00:30"]);
        fires("*/30 2 * * *", &["01:00"], &["00:00", "00:30"]);
        fires("30 1-3 * * *", &["00:30", "01:00", "01:30"], &["23:30", "00:30", "02:30"]);
        fires("0 2,3 * * *", &["01:00"], &["00:00", "02:00"]);
        fires("15,45 2-3 29 3 *", &["01:00", "01:15", "01:45"], &[]);
        fires("0 3 * * *", &["01:00"], &["02:00"]);
        fires("59 1 * * *", &["00:59"], &["23:59"]);
    }

    #[test]
    fn where_a_clock_is_changed_what_fires_every_hour_keeps_its_pace() {
        for (pattern, minutes) in
            [("30 * * * *", &["30"][..]), ("*/30 0-23 * * *", &["00", "30"]), ("@hourly", &["00"])]
        {
            // The day has so many hours, of which the first is that one in UTC.
            let day = |first: u8, hours: u8| -> Vec<String> {
                let hours = (first..first + hours).map(|hour| hour % 24);
                hours
                    .flat_map(|hour| minutes.iter().map(move |m| format!("{hour:02}:{m}")))
                    .collect()
            };
            let (spring, autumn) = (day(23, 23), day(22, 25));
            let [spring, autumn] =
                [&spring, &autumn].map(|day| day.iter().map(String::as_str).collect::<Vec<_>>());
            fires(pattern, &spring, &autumn);
        }
    }

    #[test]
    fn what_makes_no_schedule_is_named() {
        let why = |pattern: &str, zone: &str| {
            Schedule::parse(pattern, zone)
                .and_then(|s| s.next_after(SystemTime::UNIX_EPOCH))
                .expect_err("it is none")
                .to_string()
        };
        let text = why("* * * *", "UTC");
        assert!(text.starts_with("\"* * * *\" is not a cron pattern: Invalid pattern: "), "{text}");
        for (pattern, field) in [
            ("99 2 * * *", "MINUTE is \"99\": "),
            ("0 2 * * x", "WEEKDAY is \"x\": "),
            ("0 2 31-99 * *", "DAY is \"31-99\": "),
            ("61 0 2 * * *", "SECOND is \"61\": "),
        ] {
            let text = Schedule::parse(pattern, "UTC").unwrap_err().to_string();
            let named = format!("{pattern:?} is not a cron pattern: {field}");
            assert!(text.starts_with(&named), "{text}");
        }
        assert!(why("61 * * * *", "UTC").contains("out of bounds"));
        assert!(why("0 0 1 1 * 2030 *", "UTC").contains("5 or 6 fields"));
        assert!(why("0 0 30 2 *", "UTC").contains("never fires"));
        for zone in ["Europe/Bonn", "", "../../etc/passwd", "+02:00"] {
            assert_eq!(
                why("* * * * *", zone),
                format!("no time zone {zone:?}: use a name such as Europe/Berlin or UTC")
            );
        }
    }

    #[test]
    fn missed_firings_are_skipped_made_up_for_once_or_each() {
        let hourly = berlin("0 * * * *");
        let times = |missed, next_at: &str, now: &str| {
            let firing = hourly.firing(missed, at(next_at), at(now)).unwrap();
            (firing.times.into_iter().map(shown).collect::<Vec<_>>(), shown(firing.then))
        };
        let (next_at, now) = ("2026-01-01T01:00:00Z", "2026-01-01T03:30:00Z");
        let then = "2026-01-01T04:00:00Z".to_owned();
        let (one, two, three) =
            ("2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z", "2026-01-01T03:00:00Z");
        assert_eq!(times(Missed::Skip, next_at, now), (vec![], then.clone()));
        assert_eq!(times(Missed::One, next_at, now), (vec![three.into()], then.clone()));
        assert_eq!(
            times(Missed::All, next_at, now).0,
            [one.to_owned(), two.to_owned(), three.to_owned()]
        );

        // A moment late is on time; then one needs no other.
        let now = "2026-01-01T03:00:10.5Z";
        for missed in [Missed::Skip, Missed::One] {
            assert_eq!(times(missed, next_at, now), (vec![three.into()], then.clone()));
        }
        assert_eq!(times(Missed::All, next_at, now).0.len(), 3);
        // To the moment.
        assert_eq!(times(Missed::Skip, three, three), (vec![three.into()], then));
    }

    #[test]
    fn after_years_only_the_newest_are_made_up_for() {
        let secondly = berlin("* * * * * *");
        let (then, now) = (at("2016-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
        let times = |missed| secondly.firing(missed, then, now).unwrap().times;
        assert_eq!(times(Missed::Skip).len(), 61, "those that are on time");
        let all = times(Missed::All);
        assert_eq!((all.len(), all.last()), (MAKE_UP_MAX, Some(&now)));
    }

    proptest! {
        /// Backwards and forwards meet the same times, also where a clock changes.
        #[test]
        fn what_is_made_up_for_is_what_was_missed(
            pattern in prop::sample::select(vec![
                "* * * * *", "*/7 * * * *", "30 2 * * *", "15 2,3 * * *", "0 */2 * * *", "@daily", "0 3 * * SUN",
                "30 1-3 * * *", "0 0 L * *", "*/30 2 * * *", "30 2,14 * * *", "0,30 2 * * *", "15 * * * *",
            ]),
            zone in prop::sample::select(vec![
                "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "UTC", "Africa/Casablanca",
            ]),
            start_s in 1_767_225_600_i64..1_830_297_600,
            span_s in 60_i64..400_000,
        ) {
            let schedule = Schedule::parse(pattern, zone).unwrap();
            let moment = |s: i64| SystemTime::from(Timestamp::from_second(s).unwrap());
            let next_at = schedule.next_after(moment(start_s)).unwrap();
            let now = moment(start_s + span_s).max(next_at);
            let next = |time: &SystemTime| schedule.next_after(*time).ok();
            let missed: Vec<_> = std::iter::successors(Some(next_at), next).take_while(|t| *t <= now).collect();
            let firing = schedule.firing(Missed::All, next_at, now).unwrap();
            let newest = &missed[missed.len().saturating_sub(MAKE_UP_MAX)..];
            prop_assert_eq!(&firing.times, newest);
            prop_assert!(firing.then > now);
            prop_assert_eq!(Some(firing.then), next(missed.last().unwrap()));
            for policy in [Missed::Skip, Missed::One] {
                let times = schedule.firing(policy, next_at, now).unwrap().times;
                prop_assert!(missed.ends_with(&times));
                prop_assert!(policy == Missed::Skip || !times.is_empty());
            }
        }
    }
}
