//! Backpressure: no further message begins while follow-ups and results that are not settled take
//! too much memory. Postgres refuses or delays their settlements then, and more would only add to
//! them.

use host_core::memory_gauge::{MemoryGauge, MemoryHold};

/// However much the others hold, a handler moves on with this much of its own (I5), in bytes.
const RESERVE: u64 = 1 << 20;

/// One handler's. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Backpressure {
    own: MemoryGauge,
    /// Of all handlers of the host.
    all: MemoryGauge,
    all_max: u64,
}

impl Backpressure {
    /// For a handler on a host whose follow-ups may take up to `all_max` bytes. Those of the calls
    /// that are under way come on top.
    #[must_use]
    pub(crate) fn new(all: MemoryGauge, all_max: u64) -> Self {
        Self { own: MemoryGauge::default(), all, all_max }
    }

    /// Whether messages may begin.
    #[must_use]
    pub(crate) fn may_begin(&self) -> bool {
        self.own.bytes() < RESERVE || self.all.bytes() < self.all_max
    }

    /// Counts so many bytes of follow-ups and results until what it returns is dropped.
    #[must_use]
    pub(crate) fn hold(&self, bytes: u64) -> Option<MemoryHold> {
        (bytes > 0).then(|| self.own.hold(&self.all, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_stops_when_the_host_is_full_but_not_for_anothers_follow_ups() {
        let all = MemoryGauge::default();
        let greedy = Backpressure::new(all.clone(), 8 << 20);
        let modest = Backpressure::new(all, 8 << 20);
        let first = greedy.hold(4 << 20);
        assert!(greedy.may_begin());
        let second = greedy.hold(4 << 20);
        assert!(!greedy.may_begin());
        assert!(modest.may_begin());
        drop(first);
        assert!(greedy.may_begin());
        drop(second);
        assert!(greedy.hold(0).is_none());
    }
}
