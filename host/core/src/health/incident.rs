//! Incidents: something goes wrong for a while. The log names an incident when it begins and when
//! it is over, not each time that it shows. Pure: the time is passed in.

use std::time::{Duration, Instant};

/// How long what may pass by itself goes unnamed.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// An incident that has not shown for this time is over.
const CALM: Duration = Duration::from_secs(10);

/// Something that goes wrong now and then.
#[derive(Clone, Debug, Default)]
pub struct Incident {
    since: Option<(Instant, Instant)>,
    times: u32,
    named: Vec<String>,
}

/// An incident that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// From when it first showed until it last did.
    pub lasted: Duration,
    /// How often it showed.
    pub times: u32,
}

impl Incident {
    /// Notes that something failed that was begun at `began`. Whether to name it: once for each
    /// `kind`, and not before the incident has lasted for `patience`.
    pub fn shows(&mut self, kind: &str, patience: Duration, began: Instant, now: Instant) -> bool {
        // What takes long to fail is no silence.
        if self.since.is_some_and(|(_, last)| began.saturating_duration_since(last) >= CALM) {
            // Nobody said that all was well in between, but it was.
            *self = Self::default();
        }
        let (first, last) = self.since.get_or_insert((now, now));
        *last = now;
        self.times += 1;
        if now - *first < patience || self.named.iter().any(|k| k == kind) {
            return false;
        }
        self.named.push(kind.to_owned());
        true
    }

    /// Notes that all is well. `Some`: an incident that was named is over.
    pub fn calm(&mut self, now: Instant) -> Option<Over> {
        let (first, last) = self.since.filter(|(_, last)| now - *last >= CALM)?;
        let Self { times, named, .. } = std::mem::take(self);
        (!named.is_empty()).then_some(Over { lasted: last - first, times })
    }

    /// Whether something has failed, and the incident is not over.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That something fails at once.
    fn shows(incident: &mut Incident, now: Instant) -> bool {
        incident.shows("a", Duration::ZERO, now, now)
    }

    #[test]
    fn after_a_long_silence_it_is_new_trouble() {
        let mut incident = Incident::default();
        let now = Instant::now();
        assert!(shows(&mut incident, now));
        assert!(!shows(&mut incident, now + CALM / 2));
        assert!(shows(&mut incident, now + CALM * 3));
    }

    #[test]
    fn what_takes_long_to_fail_is_trouble_that_lasts() {
        let t = Instant::now();
        let mut incident = Incident::default();
        let mut fails = |began| incident.shows("busy", PATIENCE, began, began + CALM * 2);
        assert!(!fails(t), "it may have been an accident");
        assert!(fails(t + CALM * 2), "it was tried again at once");
        assert!(!fails(t + CALM * 4), "it was named");
    }

    #[test]
    fn it_is_named_once_for_each_kind_however_often_it_shows() {
        let t = Instant::now();
        let mut incident = Incident::default();
        let named: Vec<_> = (0..1_000)
            .map(|ms| t + Duration::from_millis(ms))
            .flat_map(|now| [("a", now), ("b", now)])
            .filter(|(kind, now)| incident.shows(kind, Duration::from_millis(500), *now, *now))
            .map(|(kind, now)| (kind, (now - t).as_millis()))
            .collect();
        assert_eq!(named, [("a", 500), ("b", 500)]);
    }

    #[test]
    fn it_is_over_when_it_has_not_shown_for_a_while() {
        let t = Instant::now();
        let at = |s| t + Duration::from_secs(s);
        let mut incident = Incident::default();
        assert_eq!(incident.calm(t), None);
        assert!(shows(&mut incident, t));
        assert!(!shows(&mut incident, at(5)));
        assert_eq!(incident.calm(at(14)), None, "it may come back");
        assert!(incident.is_on());
        let over = Over { lasted: Duration::from_secs(5), times: 2 };
        assert_eq!(incident.calm(at(15)), Some(over));
        assert!(!incident.is_on());
        assert!(shows(&mut incident, at(16)), "another time");
    }

    #[test]
    fn what_passed_before_it_was_named_needs_no_end() {
        let t = Instant::now();
        let mut incident = Incident::default();
        assert!(!incident.shows("a", PATIENCE, t, t));
        assert_eq!(incident.calm(t + CALM), None);
        assert!(!incident.is_on());
    }
}
