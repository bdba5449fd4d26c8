//! Stray leases: dead hosts and lost replies leave them behind. The loop looks for them now and
//! then, and takes them over before it leases from the queue.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::rest::look_anyway_after;
use host_core::id::LeaseId;
use host_queue::lease::take_over::Stray;

/// How often a handler looks for strays.
const SEARCH_EVERY: Duration = Duration::from_secs(30);
/// How long after a lost reply it looks. `strays` takes less time for a reply that is only late.
const LOST_REPLY_AFTER: Duration = Duration::from_secs(4);
/// How long after a stray was found whose messages something hides it looks.
const HIDDEN_AGAIN: Duration = Duration::from_secs(5);
/// How long after another host was faster it looks.
const TAKEN_AFTER: Duration = Duration::from_millis(100);

/// A reply that is later than this may be of a lease that was made. `strays` takes a second more
/// for that.
const LATE: Duration = Duration::from_secs(2);

/// Whose leases a search is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SearchScope {
    /// Those of hosts that have ended, and this host's own.
    All,
    /// Those of hosts that have ended. A reply is late: one of the host's own leases may be in it,
    /// and is no stray then.
    Others,
}

impl SearchScope {
    /// The scope of a search that begins now. `leasing_since`: the oldest round trip that leases
    /// and has not come back.
    pub(crate) fn of(leasing_since: Option<Instant>, now: Instant) -> Self {
        match leasing_since {
            Some(since) if now.saturating_duration_since(since) >= LATE => Self::Others,
            _ => Self::All,
        }
    }
}

/// The strays that one handler knows of.
#[derive(Debug)]
pub(crate) struct Strays {
    known: VecDeque<Stray>,
    search: Search,
    search_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    Waits,
    UnderWay,
}

impl Strays {
    /// None is known. The first search is at once.
    pub(crate) const fn new(now: Instant) -> Self {
        Self { known: VecDeque::new(), search: Search::Waits, search_at: now }
    }

    /// Whether none is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// When to look for strays, unless a search is under way.
    pub(crate) fn search_at(&self) -> Option<Instant> {
        (self.search == Search::Waits).then_some(self.search_at)
    }

    /// Begins a search, if it is time for one. `rests`: the queue is at rest, and none is needed
    /// until something wakes the loop.
    pub(crate) fn begin_search(&mut self, rests: bool, now: Instant) -> bool {
        let begins = self.search_at().is_some_and(|at| at <= now);
        if begins {
            self.search_at = now + if rests { look_anyway_after() } else { SEARCH_EVERY };
            self.search = Search::UnderWay;
        }
        begins
    }

    /// A search is over. `found` are those that no other host holds; `None`: it failed.
    pub(crate) fn end_search(&mut self, found: Option<impl Iterator<Item = Stray>>) {
        self.search = Search::Waits;
        if let Some(found) = found {
            self.known = found.collect();
        }
    }

    /// The next stray to take over that is not one of our own open leases.
    pub(crate) fn next(&mut self, is_open: impl Fn(LeaseId) -> bool) -> Option<Stray> {
        std::iter::from_fn(|| self.known.pop_front()).find(|stray| !is_open(stray.lease))
    }

    /// The queue is looked at again: a search that waited is due as usual.
    pub(crate) fn wake(&mut self, now: Instant) {
        self.search_at = self.search_at.min(now + SEARCH_EVERY);
    }

    /// Sessions may have left leases behind.
    pub(crate) const fn search_now(&mut self, now: Instant) {
        self.search_at = now;
    }

    /// A stray was taken over. What was more than this host could take is a new stray.
    pub(crate) fn taken_over(&mut self, now: Instant) {
        if self.known.is_empty() {
            self.search_at = now;
        }
    }

    /// Another host was faster. It may have left a part.
    pub(crate) fn missed(&mut self, now: Instant) {
        if self.known.is_empty() {
            self.search_at = self.search_at.min(now + TAKEN_AFTER);
        }
    }

    /// Something hides the messages of a stray. It stays as it is, and all others go on.
    pub(crate) fn hidden(&mut self, now: Instant) {
        self.search_at = self.search_at.min(now + HIDDEN_AGAIN);
    }

    /// Nobody knows whether a lease was made. The search finds it if it was.
    pub(crate) fn reply_lost(&mut self, now: Instant) {
        self.search_at = self.search_at.min(now + LOST_REPLY_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stray(lease: i64) -> Stray {
        Stray { lease: LeaseId::new(lease) }
    }

    #[test]
    fn a_search_is_not_begun_twice() {
        let now = Instant::now();
        let mut strays = Strays::new(now);
        assert!(strays.begin_search(false, now) && !strays.begin_search(false, now));
        strays.search_now(now);
        assert_eq!((strays.search_at(), strays.begin_search(false, now)), (None, false));
        strays.end_search(Some([stray(1), stray(2)].into_iter()));
        assert!(strays.begin_search(false, now), "it was told to look while it looked");
        strays.end_search(None::<std::iter::Empty<_>>);
        assert_eq!(strays.search_at(), Some(now + SEARCH_EVERY));
        assert!(!strays.is_empty(), "a search that fails forgets nothing");
    }

    #[test]
    fn a_late_reply_is_not_taken_for_a_lost_one() {
        let now = Instant::now();
        assert_eq!(SearchScope::of(None, now), SearchScope::All);
        assert_eq!(SearchScope::of(Some(now), now), SearchScope::All);
        assert_eq!(SearchScope::of(Some(now), now + LATE), SearchScope::Others);
    }

    #[test]
    fn an_open_lease_of_its_own_is_no_stray() {
        let now = Instant::now();
        let mut strays = Strays::new(now);
        strays.end_search(Some([stray(1), stray(2)].into_iter()));
        assert_eq!(strays.next(|id| id == LeaseId::new(1)).map(|s| s.lease), Some(LeaseId::new(2)));
        assert!(strays.is_empty());
        strays.begin_search(false, now);
        strays.end_search(Some(std::iter::empty()));
        strays.reply_lost(now);
        assert_eq!(strays.search_at(), Some(now + LOST_REPLY_AFTER));
        strays.missed(now);
        assert_eq!(strays.search_at(), Some(now + TAKEN_AFTER));
        strays.taken_over(now);
        assert_eq!(strays.search_at(), Some(now));
    }
}
