//! When to look for messages. A look that finds some is followed by another at once; one that finds none
//! by longer and longer waits, and at last by sleep: then a flag in the database has producers
//! notify. A notification is only a hint: looking never stops. Pure but for the time passed in.

use std::time::{Duration, Instant};

use host_queue::exchange::Wait;

/// After messages were found, so many looks in vain are followed by another at once: where some came,
/// more will, and a round trip is a wait already.
const EAGER: u32 = 2;
/// The wait after the looks that come at once.
const FIRST: Duration = Duration::from_millis(1);
/// When the waits have grown to this, the host says that it sleeps.
const SLEEP_FROM: Duration = Duration::from_millis(8);
/// Leases on their way at once while there are messages.
const LEASING_MAX: usize = 3;

/// What is known of the flag in the database that has producers notify.
#[derive(Clone, Copy, Debug)]
enum Flag {
    /// Nothing yet. It is not touched before messages are found: other hosts may sleep. But it may be left of a host
    /// that was killed.
    Inherited,
    /// It may have been changed.
    Unknown,
    /// As this host has set it.
    Said(bool),
}

/// One handler's state of waiting.
#[derive(Debug)]
pub(crate) struct Idle {
    next_look: Instant,
    /// Looks in vain that are followed by another at once.
    eager: u32,
    wait: Duration,
    wait_max: Duration,
    /// Messages were there at the last look.
    busy: bool,
    flag: Flag,
    /// A notification has come since the last look. Other hosts have it too, and those that found
    /// something clear the flag.
    woken: bool,
    /// There may be something at that time, whatever a look that is on its way finds.
    by: Option<Instant>,
    /// The queue's limits let nothing start before: no use looking.
    limited_until: Instant,
    /// Or before something is settled.
    full_up: bool,
}

impl Idle {
    /// Looks at once, and then at least every `wait_max`.
    #[must_use]
    pub(crate) const fn new(wait_max: Duration, now: Instant) -> Self {
        Self {
            next_look: now,
            eager: 0,
            wait: FIRST,
            wait_max,
            busy: false,
            flag: Flag::Inherited,
            woken: false,
            by: None,
            limited_until: now,
            full_up: false,
        }
    }

    /// When to look next, if not only after one of those that are on their way.
    #[must_use]
    pub(crate) fn next_look(&self, on_their_way: usize) -> Option<Instant> {
        let most = if self.busy { LEASING_MAX } else { 1 };
        (on_their_way < most).then(|| self.next_look.max(self.limited_until))
    }

    /// A look has found messages; `more`: and there are more.
    pub(crate) const fn found(&mut self, more: bool, now: Instant) {
        if matches!(self.flag, Flag::Inherited) {
            self.flag = Flag::Unknown;
        }
        self.busy = more;
        self.woken = false;
        self.eager = EAGER;
        self.wait = FIRST;
        self.next_look = now;
    }

    /// A look has found nothing.
    pub(crate) fn nothing(&mut self, now: Instant) {
        self.busy = false;
        if std::mem::take(&mut self.woken) {
            self.flag = Flag::Unknown;
        }
        if self.eager > 0 {
            self.eager -= 1;
            self.next_look = now;
            return;
        }
        // Up to a quarter less, so that hosts do not look in step.
        self.next_look = now + self.wait.mul_f64(1.0 - fastrand::f64() / 4.0);
        self.wait = (self.wait * 2).min(self.wait_max);
        if let Some(by) = self.by.take() {
            self.next_look = self.next_look.min(by);
        }
    }

    /// Looks no later than then.
    pub(crate) fn look_by(&mut self, at: Instant) {
        self.next_look = self.next_look.min(at);
        self.by = Some(self.by.map_or(at, |by| by.min(at)));
    }

    /// The queue's limits let nothing start: no look for so long, whoever wakes us. Not for very long: the
    /// limits may be changed. Producers need not notify. Where others may start, it is a look that finds nothing, but
    /// that it is known when there will be something.
    pub(crate) fn limited(&mut self, limit: Wait, now: Instant) {
        self.busy = false;
        self.eager = 0;
        if limit.others_may_start {
            self.by = None;
            // Producers shall notify soon: looking at many lanes costs something.
            self.wait = self.wait.max(SLEEP_FROM);
            self.nothing(now);
            self.look_by(now + limit.time);
            self.full_up = limit.until_settled;
            return;
        }
        self.wait = FIRST;
        self.next_look = now;
        let spread = if limit.until_settled { 1.0 - fastrand::f64() / 4.0 } else { 1.0 };
        self.limited_until = now + limit.time.min(self.wait_max).mul_f64(spread);
        self.full_up = limit.until_settled;
    }

    /// Messages are about to be settled: if too many were in flight, others may start.
    pub(crate) fn settled(&mut self, now: Instant) {
        if self.full_up {
            self.full_up = false;
            self.limited_until = now;
            self.next_look = self.next_look.min(now);
        }
    }

    /// A message may have come.
    pub(crate) fn wake(&mut self, now: Instant) {
        self.next_look = self.next_look.min(now);
        self.wait = self.wait.min(SLEEP_FROM * 2);
        self.woken = true;
    }

    /// Nothing will be looked for until further notice.
    pub(crate) const fn rest(&mut self) {
        self.wait = FIRST;
    }

    /// Does not look before this has passed.
    pub(crate) fn wait(&mut self, now: Instant, wait: Duration) {
        self.next_look = now + wait;
    }

    /// What is to be told to producers: `true`: notify, we sleep; `false`: no need. Told before a look,
    /// so that no message falls between the two; that there is no need, as soon as it is known: a host
    /// that has its hands full may not look for long.
    pub(crate) fn announce(&mut self, wake_up: bool) -> Option<bool> {
        let sleeps = wake_up && !self.busy && self.wait > SLEEP_FROM;
        let said = match self.flag {
            Flag::Inherited => false,
            Flag::Unknown => !sleeps,
            Flag::Said(said) => said,
        };
        if said != sleeps {
            self.flag = Flag::Said(sleeps);
        }
        (said != sleeps).then_some(sleeps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_then_the_host_sleeps_and_a_message_wakes_it() {
        let mut now = Instant::now();
        let mut idle = Idle::new(Duration::from_secs(1), now);
        let mut announced = Vec::new();
        for _ in 0..20 {
            assert_eq!(idle.next_look(1), None, "idle: one look at a time");
            announced.extend(idle.announce(true));
            idle.nothing(now);
            let next = idle.next_look(0).unwrap();
            assert!(next > now && next <= now + Duration::from_secs(1));
            now = next;
        }
        assert_eq!(announced, [true], "said once that it sleeps");
        idle.nothing(now);
        idle.wake(now);
        assert_eq!(idle.next_look(0), Some(now));
        idle.found(true, now);
        assert_eq!(idle.next_look(1), Some(now), "busy: several looks at once");
        assert_eq!(idle.announce(true), Some(false));
    }

    #[test]
    fn where_messages_came_it_looks_again_at_once_and_then_less_and_less_often() {
        let now = Instant::now();
        let mut idle = Idle::new(Duration::from_secs(1), now);
        idle.found(false, now);
        for _ in 0..EAGER {
            idle.nothing(now);
            assert_eq!(idle.next_look(0), Some(now));
        }
        let mut waits = Vec::new();
        for _ in 0..3 {
            idle.nothing(now);
            waits.extend(idle.next_look(0).map(|next| next - now));
        }
        assert!(waits.is_sorted() && waits[0] > Duration::ZERO, "{waits:?}");
    }

    #[test]
    fn what_another_host_may_have_cleared_is_said_again() {
        let now = Instant::now();
        let mut idle = Idle::new(Duration::from_secs(1), now);
        (0..20).for_each(|_| idle.nothing(now));
        assert_eq!(idle.announce(true), Some(true));
        idle.nothing(now);
        assert_eq!(idle.announce(true), None);
        idle.wake(now);
        assert_eq!(idle.announce(true), None, "first a look, at once");
        idle.nothing(now);
        assert_eq!(idle.announce(true), Some(true));
    }

    #[test]
    fn what_is_known_to_come_is_looked_for_then() {
        let now = Instant::now();
        let mut idle = Idle::new(Duration::from_secs(1), now);
        (0..20).for_each(|_| idle.nothing(now));
        let due = now + Duration::from_millis(100);
        idle.look_by(due);
        assert_eq!(idle.next_look(0), Some(due));
        idle.nothing(now);
        assert_eq!(idle.next_look(0), Some(due), "a look that was on its way knew nothing of it");
        idle.nothing(due);
        assert!(idle.next_look(0).unwrap() > due, "once");
    }

    #[test]
    fn a_limited_queue_is_not_looked_at_before_its_time_or_before_there_is_room() {
        let now = Instant::now();
        let mut idle = Idle::new(Duration::from_secs(1), now);
        let wait = |time, until_settled| Wait { time, until_settled, others_may_start: false };
        idle.limited(wait(Duration::from_millis(300), false), now);
        idle.wake(now);
        idle.settled(now);
        assert_eq!(idle.next_look(0), Some(now + Duration::from_millis(300)));
        assert_eq!((idle.next_look(1), idle.announce(true)), (None, None));
        idle.limited(wait(Duration::from_hours(1), false), now);
        assert_eq!(idle.next_look(0), Some(now + Duration::from_secs(1)), "limits may change");
        idle.limited(wait(Duration::from_millis(50), true), now);
        assert!(idle.next_look(0) > Some(now + Duration::from_millis(37)));
        idle.settled(now);
        assert_eq!(idle.next_look(0), Some(now));
    }

    #[test]
    fn where_only_some_lanes_are_limited_others_wake_it() {
        let now = Instant::now();
        let mut idle = Idle::new(Duration::from_secs(1), now);
        let time = Duration::from_millis(5);
        idle.found(true, now);
        idle.limited(Wait { time, until_settled: false, others_may_start: true }, now);
        assert_eq!(idle.next_look(1), None);
        assert_eq!(idle.next_look(0), Some(now + time));
        assert_eq!(idle.announce(true), Some(true), "it sleeps until then");
        idle.wake(now);
        assert_eq!(idle.next_look(0), Some(now));
        idle.limited(Wait { time: time * 100, until_settled: true, others_may_start: true }, now);
        assert!(idle.next_look(0) > Some(now));
        idle.settled(now);
        assert_eq!(idle.next_look(0), Some(now));
    }

    #[test]
    fn without_wake_up_it_only_looks() {
        let now = Instant::now();
        let mut idle = Idle::new(Duration::from_secs(1), now);
        (0..20).for_each(|_| idle.nothing(now));
        assert_eq!(idle.announce(false), None);
    }
}
