//! How much to lease, how many sandboxes to use for it, and on which threads its calls begin. All
//! of it follows from how long messages have taken. Pure.

use std::time::Duration;

use host_core::policy::outcome::Verdict;
use host_sandbox::Run;

/// Messages in one lease at most: past this a round trip costs nothing per message.
const LEASE_MAX: u32 = 1_000;
/// Work that one sandbox gets at a time: enough that handing it over costs nothing, little enough
/// that it stops soon.
const SHARE: Duration = Duration::from_millis(2);
/// A host keeps work in hand for this many round trips, so that it never waits for the database.
const ROUND_TRIPS_IN_HAND: f64 = 3.0;
/// The least work in hand, in seconds.
const IN_HAND_MIN_S: f64 = 0.03;
/// The most work in hand, in seconds: no other host can do it, and urgent messages wait behind it.
const IN_HAND_MAX_S: f64 = 1.0;
/// A database is far if a round trip takes this long, in seconds: the least work in hand lasts for
/// no more than three. Only then messages are leased before there is a sandbox for them.
const FAR_S: f64 = IN_HAND_MIN_S / ROUND_TRIPS_IN_HAND;
/// The most messages in hand of a fast handler, for each second of work.
const MESSAGES_A_SECOND_MAX: f64 = 4_000.0 / IN_HAND_MIN_S;
/// The requests into which the room in hand is divided where the database is far.
const REQUESTS_IN_HAND: u32 = 4;
/// The time of a message before any has run, in seconds: slow, so that the first lease is small.
const UNKNOWN_S: f64 = 1e-3;
/// The weight of the newest messages in the mean.
const WEIGHT: f64 = 0.2;
/// A call is long once it has computed for this time. A call with many messages has this time for
/// each. Half of the calls that reach the next look at their limits have computed that long by
/// then.
pub(crate) const LONG: Duration = Duration::from_millis(5);
/// A handler's calls count as long if their mean cost is above this, in seconds.
const HEAVY_S: f64 = 2.5e-3;
/// A handler is failing if a larger part of its calls than this fails.
const FAILING: f64 = 0.5;
/// The means of cost and failures are of about this many messages, once as many have run.
const COSTS: f64 = 32.0;
/// A handler that is failing has no more messages than this in one lease. Dead letters and retries
/// cost Postgres more than acks, and Postgres knows no priorities. A bad deploy must not make dead
/// letters of a whole backlog before anybody has seen it.
const FAILING_LEASE: u32 = 64;
/// The pause between two leases of a handler that is failing.
const FAILING_PAUSE: Duration = Duration::from_millis(100);
/// How long a little room for messages waits for more.
const PATIENCE: Duration = Duration::from_millis(20);

/// What most of a handler's calls do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// They are short.
    #[default]
    Good,
    /// They compute for [`LONG`].
    Long,
    /// They fail.
    Failing,
}

/// What messages have cost the threads that all share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// The time of all together; each call counts for at most [`LONG`].
    pub time: Duration,
    /// The processor time of all together.
    pub cpu: Duration,
    /// The messages that failed: their guest gave no verdict.
    pub failed: usize,
}

impl Cost {
    /// Adds what one message has cost.
    pub(crate) fn add(&mut self, run: &Run) {
        self.time += run.cpu.min(LONG);
        self.cpu += run.cpu;
        self.failed += usize::from(matches!(run.verdict, Verdict::Failed(_)));
    }
}

/// How a handler is called: by its deployment, and by the world that it targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallShape {
    /// Sandboxes at once.
    pub concurrency: u32,
    /// Messages of a call, at most.
    pub per_call: u32,
}

/// A handler's speed, as a moving mean over batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Of one message, in seconds.
    mean_s: f64,
    /// What one message costs the threads that all share, in seconds.
    cost_s: f64,
    /// The processor time of one message, in seconds.
    cpu_s: f64,
    /// The part that fails.
    failed: f64,
    /// How many messages these two are the means of: the first ones, and then about [`COSTS`].
    seen: f64,
    /// From the request for a lease to its messages, in seconds.
    round_trip_s: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            mean_s: UNKNOWN_S,
            cost_s: 0.0,
            cpu_s: UNKNOWN_S,
            failed: 0.0,
            seen: 0.0,
            round_trip_s: 0.0,
        }
    }
}

impl Pace {
    /// Learns that `count` messages took `total` together, each on its own sandbox's clock, and
    /// cost `cost`.
    pub(crate) fn observe(&mut self, total: Duration, cost: Cost, count: usize) {
        if count > 0 {
            let n = count as f64;
            let mean_s = (total.as_secs_f64() / n).max(1e-7);
            self.mean_s += WEIGHT * (mean_s - self.mean_s);
            let cpu_s = (cost.cpu.as_secs_f64() / n).max(1e-7);
            self.cpu_s += WEIGHT * (cpu_s - self.cpu_s);
            self.seen = (self.seen + n).min(COSTS);
            let weight = (n / self.seen).min(1.0);
            self.cost_s += weight * (cost.time.as_secs_f64() / n - self.cost_s);
            self.failed += weight * (cost.failed as f64 / n - self.failed);
        }
    }

    /// Learns how long a lease was on its way.
    pub(crate) fn observe_round_trip(&mut self, took: Duration) {
        self.round_trip_s += WEIGHT * (took.as_secs_f64() - self.round_trip_s);
    }

    /// How the handler's next calls are expected to behave.
    #[must_use]
    pub(crate) fn standing(self) -> Standing {
        if self.failed > FAILING {
            Standing::Failing
        } else if self.cost_s > HEAVY_S {
            Standing::Long
        } else {
            Standing::Good
        }
    }

    /// Whether messages are leased before there is a sandbox for them: they arrive when there is.
    #[must_use]
    pub(crate) fn leases_ahead(self) -> bool {
        self.round_trip_s > FAR_S && self.standing() != Standing::Failing
    }

    /// Messages that this host can do in a second: what its processors can compute, or what its
    /// sandboxes can wait for.
    fn rate(self, concurrency: u32, cores: u32) -> f64 {
        let computed = f64::from(cores) / self.cpu_s;
        computed.min(f64::from(concurrency) / self.mean_s).min(MESSAGES_A_SECOND_MAX)
    }

    /// Messages to have in hand, leased and not finished, on `cores`. As bandwidth times delay has
    /// it: where the database is far, what can be done until more has come.
    #[must_use]
    pub(crate) fn in_hand(self, CallShape { concurrency, per_call }: CallShape, cores: u32) -> u32 {
        // A slow handler waits more than it computes: one call for each sandbox. Of a fast
        // handler's big calls, one is enough to begin with.
        let is_fast = f64::from(per_call) * self.mean_s < IN_HAND_MIN_S;
        let calls = if per_call > 1 && is_fast { 1 } else { concurrency };
        let begun = calls.saturating_mul(per_call);
        if self.leases_ahead() {
            let work_s = (ROUND_TRIPS_IN_HAND * self.round_trip_s).min(IN_HAND_MAX_S);
            return begun.saturating_add((self.rate(concurrency, cores) * work_s) as u32);
        }
        let computed = f64::from(cores) / self.mean_s;
        begun.max((computed.min(MESSAGES_A_SECOND_MAX) * IN_HAND_MIN_S) as u32)
    }

    /// Messages to lease at once, at most.
    #[must_use]
    pub(crate) fn lease_max(self, shape: CallShape, cores: u32) -> u32 {
        match self.standing() {
            Standing::Failing => FAILING_LEASE,
            _ if self.leases_ahead() => {
                LEASE_MAX.max(self.in_hand(shape, cores) / REQUESTS_IN_HAND)
            }
            _ => LEASE_MAX,
        }
    }

    /// How long after a lease to ask for the next, with `room` for this many messages. Little room
    /// waits a moment for more: a round trip costs the same for one message as for a thousand.
    #[must_use]
    pub(crate) fn pause(self, room: u32, shape: CallShape, cores: u32) -> Duration {
        if self.standing() == Standing::Failing {
            FAILING_PAUSE
        } else if room >= self.worth_a_round_trip(shape, cores) {
            Duration::ZERO
        } else {
            PATIENCE
        }
    }

    /// Messages that are worth a round trip of their own.
    fn worth_a_round_trip(self, shape: CallShape, cores: u32) -> u32 {
        let in_hand = self.in_hand(shape, cores);
        if self.leases_ahead() {
            return in_hand / REQUESTS_IN_HAND;
        }
        // A slow handler's sandboxes must not stand idle for long; a fast one has enough in hand.
        let slow = shape.concurrency.saturating_mul(shape.per_call);
        if in_hand > slow { in_hand / 2 } else { in_hand.div_ceil(16) }
    }

    /// The workers that this rate takes, by Little's law: one more than run at once on average.
    #[must_use]
    pub(crate) fn workers(self, CallShape { concurrency, .. }: CallShape, cores: u32) -> u32 {
        (self.rate(concurrency, cores) * self.mean_s).ceil() as u32 + 1
    }

    /// Sandboxes that are worth using for `messages`.
    #[must_use]
    pub(crate) fn sandboxes(self, messages: u32) -> u32 {
        let share = (SHARE.as_secs_f64() / self.mean_s).max(1.0);
        (f64::from(messages) / share).ceil() as u32
    }

    /// Messages that `sandboxes` are good for, with `per_call` messages a call.
    #[must_use]
    pub(crate) fn messages(self, sandboxes: u32, per_call: u32) -> u32 {
        let share = (SHARE.as_secs_f64() / self.mean_s).max(f64::from(per_call));
        (f64::from(sandboxes) * share).min(f64::from(LEASE_MAX)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_core::policy::outcome::Failure;

    fn shape(concurrency: u32, per_call: u32) -> CallShape {
        CallShape { concurrency, per_call }
    }

    fn pace(mean: Duration) -> Pace {
        let mut pace = Pace::default();
        (0..100).for_each(|_| {
            pace.observe(mean, Cost { time: mean.min(LONG), cpu: mean, failed: 0 }, 1);
        });
        pace
    }

    #[test]
    fn a_handler_stands_as_most_of_its_calls_do() {
        let of = |long: u32, failed| {
            let mut pace = Pace::default();
            let cost = Cost { time: LONG * long, failed, ..Cost::default() };
            (0..10).for_each(|_| pace.observe(Duration::ZERO, cost, 100));
            pace
        };
        let first = |cost| {
            let mut pace = Pace::default();
            pace.observe(Duration::ZERO, cost, 1);
            pace
        };
        assert_eq!(Pace::default().standing(), Standing::Good);
        // The first result is all that is known, and the next one is as good as it.
        let mut pace = first(Cost { time: LONG, failed: 1, ..Cost::default() });
        assert_eq!(pace.standing(), Standing::Failing);
        pace.observe(Duration::ZERO, Cost::default(), 1);
        assert_eq!(pace.standing(), Standing::Good);
        assert_eq!(first(Cost { time: LONG, ..Cost::default() }).standing(), Standing::Long);
        assert_eq!(of(10, 10).standing(), Standing::Good, "a tenth are bad");
        assert_eq!(of(60, 10).standing(), Standing::Long);
        assert_eq!(of(60, 60).standing(), Standing::Failing);
        // Of what comes to nothing, little is begun.
        let failing = of(0, 60);
        assert_eq!(failing.lease_max(shape(64, 1), 2), FAILING_LEASE);
        assert_eq!(failing.pause(1_000, shape(1_000, 1), 2), FAILING_PAUSE);
        // It recovers within some messages.
        let mut pace = of(100, 100);
        (0..3).for_each(|_| pace.observe(Duration::ZERO, Cost::default(), 16));
        assert_eq!(pace.standing(), Standing::Good);
        assert_eq!(pace.lease_max(shape(64, 1), 2), LEASE_MAX);
        assert_eq!(pace.pause(1_000, shape(1_000, 1), 2), Duration::ZERO);
        assert_eq!(pace.pause(1, shape(1_000, 1), 2), PATIENCE);
    }

    #[test]
    fn a_call_costs_the_others_no_more_than_they_share() {
        let run = |verdict, ms| Run {
            verdict,
            follow_ups: vec![],
            result: None,
            elapsed: Duration::from_secs(9),
            cpu: Duration::from_millis(ms),
        };
        let mut cost = Cost::default();
        cost.add(&run(Verdict::Ack, 1));
        cost.add(&run(Verdict::Ack, 1_000));
        cost.add(&run(Verdict::Failed(Failure::Stack), 1));
        // A handler that gives up on a message has done its work.
        cost.add(&run(Verdict::DeadLetter { reason: "busy".to_owned() }, 1));
        let cpu = Duration::from_millis(1_003);
        assert_eq!(cost, Cost { time: LONG + Duration::from_millis(3), cpu, failed: 1 });
    }

    #[test]
    fn fast_handlers_get_big_leases_on_few_sandboxes() {
        let fast = pace(Duration::from_micros(4));
        assert_eq!(fast.in_hand(shape(64, 1), 2), 4_000);
        assert_eq!(fast.worth_a_round_trip(shape(64, 1), 2), 2_000);
        assert_eq!(fast.sandboxes(1_000), 3);
        assert_eq!(fast.messages(3, 1), 1_000);
    }

    #[test]
    fn where_postgres_is_far_more_is_in_hand() {
        let far = |mut pace: Pace, ms| {
            (0..100).for_each(|_| pace.observe_round_trip(Duration::from_millis(ms)));
            pace
        };
        let fast = pace(Duration::from_micros(100));
        assert_eq!(fast.in_hand(shape(64, 1), 2).next_multiple_of(10), 600);
        assert!(!far(fast, 9).leases_ahead() && far(fast, 11).leases_ahead());
        assert_eq!(far(fast, 40).in_hand(shape(64, 1), 2).next_multiple_of(10), 2_470);
        assert_eq!(far(fast, 40_000).in_hand(shape(64, 1), 1).next_multiple_of(10), 10_070);
        assert_eq!(far(fast, 180).lease_max(shape(64, 1), 2).next_multiple_of(10), 2_720);
        // One that waits: as much as its sandboxes can wait for meanwhile.
        let mut waits = Pace::default();
        let cost = Cost { cpu: Duration::from_micros(50), ..Cost::default() };
        (0..100).for_each(|_| waits.observe(Duration::from_millis(100), cost, 1));
        assert_eq!(waits.in_hand(shape(64, 1), 2), 64);
        assert_eq!(far(waits, 180).in_hand(shape(64, 1), 2), 64 + 345);
        assert_eq!(far(waits, 180).workers(shape(64, 1), 2), 65);
        assert_eq!(far(fast, 180).workers(shape(64, 1), 2), 3);
        // One that computes: no more than the processors can do.
        let computes = pace(Duration::from_millis(100));
        assert_eq!(far(computes, 180).in_hand(shape(64, 1), 2), 64 + 10);
    }

    #[test]
    fn slow_handlers_get_one_message_a_sandbox() {
        let slow = pace(Duration::from_millis(100));
        assert_eq!(slow.in_hand(shape(64, 1), 2), 64);
        assert_eq!(slow.worth_a_round_trip(shape(64, 1), 2), 4);
        assert_eq!(slow.worth_a_round_trip(shape(1, 1), 2), 1);
        assert_eq!(slow.sandboxes(64), 64);
        assert_eq!(slow.messages(10, 1), 10);
    }

    #[test]
    fn batch_handlers_get_their_calls_filled() {
        // A call of 100 messages takes a second: all sandboxes are wanted, each with its fill.
        let slow = pace(Duration::from_millis(10));
        assert_eq!(slow.in_hand(shape(8, 100), 2), 800);
        assert_eq!(slow.messages(3, 100), 300);
        // One that takes a millisecond: what a host can do in a moment, but a call's worth at
        // least.
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
