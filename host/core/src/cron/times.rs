//! The times of a pattern in a time zone, also where a clock is changed. The pattern sees local
//! time, in which every moment exists once; what that is in UTC is said here.

use croner::Cron;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{Timestamp, ToSpan as _};

/// A pattern, and the zone whose clocks it reads.
#[derive(Clone, Debug)]
pub(super) struct Times {
    pub(super) pattern: Cron,
    pub(super) zone: TimeZone,
}

impl Times {
    /// The first time after a moment; `None`: there is none.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let mut local = self.zone.to_datetime(after);
        if !self.is_every_hour() {
            loop {
                local = self.match_after(local, false)?;
                let time = self.once(local)?;
                if time > after {
                    return Some(time);
                }
            }
        }
        // Between two changes of the clock it only moves forward.
        let (mut from, mut inclusive) = (after, false);
        loop {
            let change = self.zone.following(from).next().map(|change| change.timestamp());
            let time = self.zone.to_offset(from).to_timestamp(self.match_after(local, inclusive)?);
            match (time.ok()?, change) {
                (time, Some(change)) if time >= change => {
                    (from, local, inclusive) = (change, self.zone.to_datetime(change), true);
                }
                (time, _) => return Some(time),
            }
        }
    }

    /// The last time before a moment.
    pub(super) fn previous(&self, before: Timestamp) -> Option<Timestamp> {
        let mut change = self.zone.preceding(before).next().map(|change| change.timestamp());
        if !self.is_every_hour() {
            let mut local = self.zone.to_datetime(before);
            // What the clock showed before it was put back may be later than what it shows now.
            let put_back = change.and_then(|change| self.just_before(change));
            local = put_back.map_or(local, |(shown, _)| local.max(shown));
            loop {
                local = self.match_before(local)?;
                let time = self.once(local)?;
                if time < before {
                    return Some(time);
                }
            }
        }
        let (mut local, mut offset) = self.just_before(before)?;
        loop {
            let time = offset.to_timestamp(self.match_before(local)?).ok()?;
            match change {
                Some(at) if time < at => {
                    (local, offset) = self.just_before(at)?;
                    change = self.zone.preceding(at).next().map(|change| change.timestamp());
                }
                _ => return Some(time),
            }
        }
    }

    /// What the clock shows as a moment comes, before it is changed at that moment, if it is.
    fn just_before(&self, time: Timestamp) -> Option<(DateTime, Offset)> {
        let offset = self.zone.to_offset(time.checked_sub(1.second()).ok()?);
        Some((offset.to_datetime(time), offset))
    }

    /// When a local time is, if it is to be once a day: of two, the first; where it is left out,
    /// the moment at which the clock is put forward.
    fn once(&self, local: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok(),
            AmbiguousOffset::Gap { before, .. } => {
                let later = before.to_timestamp(local).ok()?;
                Some(self.zone.preceding(later + 1.second()).next()?.timestamp())
            }
        }
    }

    /// Whether it keeps its pace when a clock is changed. Any other has each of its times once a
    /// day.
    fn is_every_hour(&self) -> bool {
        (0..24).all(|hour| self.pattern.pattern.hour_match(hour).is_ok_and(|is_set| is_set))
    }

    /// The pattern knows of no time zone: for it, every local time exists once.
    fn match_after(&self, local: DateTime, inclusive: bool) -> Option<DateTime> {
        let local = local.to_zoned(TimeZone::UTC).ok()?;
        Some(self.pattern.find_next_occurrence(&local, inclusive).ok()?.datetime())
    }

    fn match_before(&self, local: DateTime) -> Option<DateTime> {
        let local = local.to_zoned(TimeZone::UTC).ok()?;
        Some(self.pattern.find_previous_occurrence(&local, false).ok()?.datetime())
    }
}
