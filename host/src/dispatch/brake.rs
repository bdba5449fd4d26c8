//! The brake: while follow-ups that are not settled take too much memory, no further message begins. It is
//! Postgres that refuses or delays their settlements then, so that more would only add to them.

use crate::budget::{Budget, Held};
use crate::message::FollowUp;

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

    /// Counts follow-ups until what it returns is dropped.
    #[must_use]
    pub fn hold(&self, follow_ups: &[FollowUp]) -> Option<Held> {
        let bytes = follow_ups.iter().map(FollowUp::bytes).sum();
        (bytes > 0).then(|| self.own.hold(&self.all, bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_handler_stops_when_the_host_is_full_but_not_for_anothers_follow_ups() {
        let all = Budget::default();
        let (greedy, modest) = (Brake::new(all.clone(), 8 << 20), Brake::new(all, 8 << 20));
        let queue = "q".to_owned();
        let follow_up =
            FollowUp { queue, payload: vec![0; 4 << 20], headers: vec![], delay: Duration::ZERO };
        let first = greedy.hold(std::slice::from_ref(&follow_up));
        assert!(greedy.is_off());
        let second = greedy.hold(&[follow_up]);
        assert!(!greedy.is_off());
        assert!(modest.is_off());
        drop(first);
        assert!(greedy.is_off());
        drop(second);
        assert!(greedy.hold(&[]).is_none());
    }
}
