//! The brake: while follow-ups and results that are not settled take too much memory, no further message begins. It is
//! Postgres that refuses or delays their settlements then, so that more would only add to them.

use host_core::budget::{Budget, Held};

/// However much the others hold, a handler moves on with this much of its own (I5), in bytes.
const RESERVE: u64 = 1 << 20;

/// One handler's. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Brake {
    own: Budget,
    /// Of all handlers of the host.
    all: Budget,
    all_max: u64,
}

impl Brake {
    /// For a handler on a host whose follow-ups may take up to `all_max` bytes, and then those of the calls that
    /// are under way.
    #[must_use]
    pub fn new(all: Budget, all_max: u64) -> Self {
        Self { own: Budget::default(), all, all_max }
    }

    /// Whether messages may begin.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.own.bytes() < RESERVE || self.all.bytes() < self.all_max
    }

    /// Counts so many bytes of follow-ups and results until what it returns is dropped.
    #[must_use]
    pub fn hold(&self, bytes: u64) -> Option<Held> {
        (bytes > 0).then(|| self.own.hold(&self.all, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_stops_when_the_host_is_full_but_not_for_anothers_follow_ups() {
        let all = Budget::default();
        let (greedy, modest) = (Brake::new(all.clone(), 8 << 20), Brake::new(all, 8 << 20));
        let first = greedy.hold(4 << 20);
        assert!(greedy.is_off());
        let second = greedy.hold(4 << 20);
        assert!(!greedy.is_off());
        assert!(modest.is_off());
        drop(first);
        assert!(greedy.is_off());
        drop(second);
        assert!(greedy.hold(0).is_none());
    }
}
