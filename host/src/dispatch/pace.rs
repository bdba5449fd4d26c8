//! How much to lease and how many sandboxes to use for it, from how long messages have taken. Pure.

use std::time::Duration;

/// Messages in one lease at most: past this a round trip costs nothing per message.
pub const LEASE_MAX: u32 = 1_000;
/// Work that one sandbox gets at a time: enough that handing it over costs nothing, little enough to
/// be stopped soon.
const SHARE: Duration = Duration::from_millis(2);
/// Work that a host keeps in hand, so that it never waits for the database.
const IN_HAND: Duration = Duration::from_millis(30);
/// Fast handlers have at most so many messages in hand.
const IN_HAND_MAX: f64 = 4_000.0;
/// What is thought of a handler before it has run: slow, so that the first lease is small.
const UNKNOWN: f64 = 1e-3;
/// How much the newest messages count in the mean.
const WEIGHT: f64 = 0.2;

/// How a handler is called: by its deployment, and by the world that it targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sandboxes at once.
    pub concurrency: u32,
    /// Messages of a call, at most.
    pub per_call: u32,
}

/// A handler's speed, as a moving mean over batches.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Of one message, in seconds.
    mean_s: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { mean_s: UNKNOWN }
    }
}

impl Pace {
    /// Learns that `count` messages took `total` together, each on its own sandbox's clock.
    pub fn observe(&mut self, total: Duration, count: usize) {
        if count > 0 {
            let mean_s = (total.as_secs_f64() / count as f64).max(1e-7);
            self.mean_s += WEIGHT * (mean_s - self.mean_s);
        }
    }

    /// Messages to have in hand, leased and not settled, on `cores`.
    #[must_use]
    pub fn in_hand(self, Shape { concurrency, per_call }: Shape, cores: u32) -> u32 {
        let fast = f64::from(cores) * IN_HAND.as_secs_f64() / self.mean_s;
        // A slow handler waits more than it computes: one call for each sandbox. Of a fast one's big calls, one
        // is enough to begin with.
        let is_fast = f64::from(per_call) * self.mean_s < IN_HAND.as_secs_f64();
        let calls = if per_call > 1 && is_fast { 1 } else { concurrency };
        (fast.min(IN_HAND_MAX) as u32).max(calls.saturating_mul(per_call))
    }

    /// Messages that are worth a round trip of their own.
    #[must_use]
    pub fn worth_a_trip(self, shape: Shape, cores: u32) -> u32 {
        let in_hand = self.in_hand(shape, cores);
        // A slow handler's sandboxes must not stand idle for long; a fast one has enough in hand.
        let slow = shape.concurrency.saturating_mul(shape.per_call);
        if in_hand > slow { in_hand / 2 } else { in_hand.div_ceil(16) }
    }

    /// Sandboxes that are worth using for `messages`.
    #[must_use]
    pub fn sandboxes(self, messages: u32) -> u32 {
        let share = (SHARE.as_secs_f64() / self.mean_s).max(1.0);
        (f64::from(messages) / share).ceil() as u32
    }

    /// Messages that `sandboxes` are good for, with `per_call` messages a call.
    #[must_use]
    pub fn messages(self, sandboxes: u32, per_call: u32) -> u32 {
        let share = (SHARE.as_secs_f64() / self.mean_s).max(f64::from(per_call));
        (f64::from(sandboxes) * share).min(f64::from(LEASE_MAX)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(concurrency: u32, per_call: u32) -> Shape {
        Shape { concurrency, per_call }
    }

    fn pace(mean: Duration) -> Pace {
        let mut pace = Pace::default();
        (0..100).for_each(|_| pace.observe(mean, 1));
        pace
    }

    #[test]
    fn fast_handlers_get_big_leases_on_few_sandboxes() {
        let fast = pace(Duration::from_micros(4));
        assert_eq!(fast.in_hand(shape(64, 1), 2), 4_000);
        assert_eq!(fast.worth_a_trip(shape(64, 1), 2), 2_000);
        assert_eq!(fast.sandboxes(1_000), 3);
        assert_eq!(fast.messages(3, 1), 1_000);
    }

    #[test]
    fn slow_handlers_get_one_message_a_sandbox() {
        let slow = pace(Duration::from_millis(100));
        assert_eq!(slow.in_hand(shape(64, 1), 2), 64);
        assert_eq!(slow.worth_a_trip(shape(64, 1), 2), 4);
        assert_eq!(slow.worth_a_trip(shape(1, 1), 2), 1);
        assert_eq!(slow.sandboxes(64), 64);
        assert_eq!(slow.messages(10, 1), 10);
    }

    #[test]
    fn batch_handlers_get_their_calls_filled() {
        // A call of 100 messages takes a second: all sandboxes are wanted, each with its fill.
        let slow = pace(Duration::from_millis(10));
        assert_eq!(slow.in_hand(shape(8, 100), 2), 800);
        assert_eq!(slow.messages(3, 100), 300);
        // One that takes a millisecond: what a host can do in a moment, but a call's worth at least.
        let fast = pace(Duration::from_micros(10));
        assert_eq!(fast.in_hand(shape(1_000, 100), 2), 4_000);
        let fast = pace(Duration::from_nanos(24_900));
        assert_eq!(fast.in_hand(shape(64, 1_000), 1), 1_204);
    }

    #[test]
    fn nothing_is_known_at_first() {
        assert!(Pace::default().in_hand(shape(10, 1), 2) <= 60);
    }
}
