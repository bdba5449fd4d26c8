//! When to look for messages. A look that finds some is followed by another at once. Looks in vain
//! are followed by longer and longer waits, and at last by sleep: then a flag in the database has
//! producers notify. A notification is only a hint, so the looks go on until the queue is at rest
//! (see [`crate::rest`]). Pure: the time is passed in.

use std::time::{Duration, Instant};

use crate::rest::look_anyway_after;
use host_queue::lease::Wait;

/// After messages were found, this many looks in vain are followed by another at once. Where some
/// came, more will, and a round trip is a wait already.
const EAGER: u32 = 2;
/// The wait after the looks that come at once.
const FIRST: Duration = Duration::from_millis(1);
/// When the waits have grown to this, the host says that it sleeps.
const SLEEP_FROM: Duration = Duration::from_millis(8);
/// Leases under way at once while there are messages.
const LEASING_MAX: usize = 3;

/// What the last looks have found.
#[derive(Clone, Copy, Debug)]
enum Looking {
    /// Messages, and there are more: several looks at once.
    Busy,
    /// Messages, a moment ago: this many looks in vain are followed by another at once.
    Eager { looks_left: u32 },
    /// Nothing: the next look in vain is followed by this wait.
    BackingOff { wait: Duration },
}

/// What the queue's limits allow.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// Messages may start.
    Off,
    /// No message starts before this time.
    Until(Instant),
    /// No message starts before this time, or before one is settled: too many are in flight.
    UntilSettled(Instant),
}

/// What producers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announcement {
    /// This host sleeps: notify it.
    Asleep,
    /// No host sleeps: notify nobody.
    Awake,
}

/// What is known of the flag in the database that has producers notify.
#[derive(Clone, Copy, Debug)]
enum Flag {
    /// Nothing yet, and a host that was killed may have left it. It is not touched before messages
    /// are found: other hosts may sleep.
    Inherited,
    /// Another host may have changed it.
    Unknown,
    /// This host has set it.
    Said(Announcement),
}

/// When one handler looks for messages.
#[derive(Debug)]
pub(crate) struct Idle {
    next_look: Instant,
    looking: Looking,
    limit: Limit,
    flag: Flag,
    /// A notification has come since the last look. Other hosts have it too, and a host that found
    /// something clears the flag.
    woken: bool,
    /// There may be something at this time, whatever a look that is under way finds.
    by: Option<Instant>,
    wait_max: Duration,
    /// Whether producers notify at all.
    wake_up: bool,
    /// The last look was the last until something wakes it.
    rests: bool,
}

/// What comes after a look that has found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another look: something may have come since without a stir.
    LookOn,
    /// Rest, until the queue is stirred.
    MayRest,
}

impl Idle {
    /// Looks at once, and then at least every `wait_max`.
    #[must_use]
    pub(crate) const fn new(wait_max: Duration, now: Instant) -> Self {
        Self {
            next_look: now,
            looking: Looking::BackingOff { wait: FIRST },
            limit: Limit::Off,
            flag: Flag::Inherited,
            woken: false,
            by: None,
            wait_max,
            wake_up: true,
            rests: false,
        }
    }

    /// Whether it does not look until something wakes it.
    #[must_use]
    pub(crate) const fn rests(&self) -> bool {
        self.rests
    }

    /// When to look next. `None`: first, one of the looks that are under way must answer.
    #[must_use]
    pub(crate) fn next_look(&self, under_way: usize) -> Option<Instant> {
        let most = if matches!(self.looking, Looking::Busy) { LEASING_MAX } else { 1 };
        (under_way < most).then(|| match self.limit {
            Limit::Off => self.next_look,
            Limit::Until(time) | Limit::UntilSettled(time) => self.next_look.max(time),
        })
    }

    /// A look has found messages; `more`: and there are more.
    pub(crate) const fn found(&mut self, more: bool, now: Instant) {
        if matches!(self.flag, Flag::Inherited) {
            self.flag = Flag::Unknown;
        }
        self.looking = if more { Looking::Busy } else { Looking::Eager { looks_left: EAGER } };
        self.woken = false;
        self.rests = false;
        self.next_look = now;
    }

    /// A look has found nothing.
    pub(crate) fn nothing(&mut self, next: Next, now: Instant) {
        if std::mem::take(&mut self.woken) {
            self.flag = Flag::Unknown;
        }
        let looks_left = match self.looking {
            Looking::Busy => EAGER,
            Looking::Eager { looks_left } => looks_left,
            Looking::BackingOff { wait } => return self.back_off(wait, next, now),
        };
        self.looking = match looks_left - 1 {
            0 => Looking::BackingOff { wait: FIRST },
            looks_left => Looking::Eager { looks_left },
        };
        self.next_look = now;
    }

    fn back_off(&mut self, wait: Duration, next: Next, now: Instant) {
        // Not before producers know that this host sleeps.
        let is_said = matches!(self.flag, Flag::Said(Announcement::Asleep));
        self.rests = next == Next::MayRest && (is_said || !self.wake_up && wait > SLEEP_FROM);
        // Up to a quarter less, so that hosts do not look in step.
        let wait_now = wait.mul_f64(1.0 - fastrand::f64() / 4.0);
        self.next_look = now + if self.rests { look_anyway_after() } else { wait_now };
        self.looking = Looking::BackingOff { wait: (wait * 2).min(self.wait_max) };
        if let Some(by) = self.by {
            self.next_look = self.next_look.min(by);
            self.by = (by > now).then_some(by);
        }
    }

    /// Looks no later than then.
    pub(crate) fn look_by(&mut self, at: Instant) {
        self.next_look = self.next_look.min(at);
        self.by = Some(self.by.map_or(at, |by| by.min(at)));
    }

    /// The queue's limits let nothing start, or nothing of some lanes.
    pub(crate) fn limited(&mut self, limit: Wait, now: Instant) {
        if limit.others_may_start {
            self.some_limited(limit, now);
        } else {
            self.all_limited(limit, now);
        }
    }

    /// No look for that time, whoever wakes the host, and producers need not notify. But not for
    /// very long: the limits may be changed.
    fn all_limited(&mut self, limit: Wait, now: Instant) {
        self.looking = Looking::BackingOff { wait: FIRST };
        self.rests = false;
        self.next_look = now;
        let spread = if limit.until_settled { 1.0 - fastrand::f64() / 4.0 } else { 1.0 };
        let until = now + limit.time.min(self.wait_max).mul_f64(spread);
        self.limit =
            if limit.until_settled { Limit::UntilSettled(until) } else { Limit::Until(until) };
    }

    /// This is a look in vain, but the time is known at which there will be something. Producers
    /// shall notify soon: a look at many lanes costs something.
    fn some_limited(&mut self, limit: Wait, now: Instant) {
        let wait = match self.looking {
            Looking::Busy | Looking::Eager { .. } => SLEEP_FROM,
            Looking::BackingOff { wait } => wait.max(SLEEP_FROM),
        };
        self.by = None;
        self.looking = Looking::BackingOff { wait };
        self.nothing(Next::LookOn, now);
        self.look_by(now + limit.time);
        self.limit = if limit.until_settled { Limit::UntilSettled(now) } else { Limit::Off };
    }

    /// Messages are about to be settled: if too many were in flight, others may start.
    pub(crate) fn settled(&mut self, now: Instant) {
        if matches!(self.limit, Limit::UntilSettled(_)) {
            self.limit = Limit::Off;
            self.next_look = self.next_look.min(now);
        }
    }

    /// A message may have come.
    pub(crate) fn wake(&mut self, now: Instant) {
        self.next_look = self.next_look.min(now);
        self.woken = true;
        self.rests = false;
        if let Looking::BackingOff { wait } = &mut self.looking {
            *wait = (*wait).min(SLEEP_FROM * 2);
        }
    }

    /// The queue is paused: producers need wake nobody.
    pub(crate) const fn rest(&mut self) {
        if let Looking::BackingOff { wait } = &mut self.looking {
            *wait = FIRST;
        }
    }

    /// Does not look before this has passed.
    pub(crate) fn wait(&mut self, now: Instant, wait: Duration) {
        self.next_look = now + wait;
        self.rests = false;
    }

    /// What to tell producers, if they do not know it yet. "Asleep" is told before a look: so no
    /// message falls between the two. "Awake" is told at once. A busy host may not look again for a
    /// while.
    pub(crate) fn announce(&mut self, wake_up: bool) -> Option<Announcement> {
        self.wake_up = wake_up;
        let sleeps = match self.looking {
            Looking::Busy | Looking::Eager { .. } => false,
            Looking::BackingOff { wait } => wake_up && wait > SLEEP_FROM,
        };
        let announcement = if sleeps { Announcement::Asleep } else { Announcement::Awake };
        let is_known = match self.flag {
            Flag::Inherited => !sleeps,
            Flag::Unknown => false,
            Flag::Said(said) => said == announcement,
        };
        if is_known {
            return None;
        }
        self.flag = Flag::Said(announcement);
        Some(announcement)
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
            idle.nothing(Next::LookOn, now);
            let next = idle.next_look(0).unwrap();
            assert!(next > now && next <= now + Duration::from_secs(1));
            now = next;
        }
        assert_eq!(announced, [Announcement::Asleep], "said once that it sleeps");
        idle.nothing(Next::LookOn, now);
        idle.wake(now);
        assert_eq!(idle.next_look(0), Some(now));
        idle.found(true, now);
        assert_eq!(idle.next_look(1), Some(now), "busy: several looks at once");
        assert_eq!(idle.announce(true), Some(Announcement::Awake));
    }

    #[test]
    fn where_messages_came_it_looks_again_at_once_and_then_less_and_less_often() {
        let now = Instant::now();
        let mut idle = Idle::new(Duration::from_secs(1), now);
        idle.found(false, now);
        for _ in 0..EAGER {
            idle.nothing(Next::LookOn, now);
            assert_eq!(idle.next_look(0), Some(now));
        }
        let mut waits = Vec::new();
        for _ in 0..3 {
            idle.nothing(Next::LookOn, now);
            waits.extend(idle.next_look(0).map(|next| next - now));
        }
        assert!(waits.is_sorted() && waits[0] > Duration::ZERO, "{waits:?}");
    }

    #[test]
    fn what_another_host_may_have_cleared_is_said_again() {
        let now = Instant::now();
        let mut idle = Idle::new(Duration::from_secs(1), now);
        (0..20).for_each(|_| idle.nothing(Next::LookOn, now));
        assert_eq!(idle.announce(true), Some(Announcement::Asleep));
        idle.nothing(Next::LookOn, now);
        assert_eq!(idle.announce(true), None);
        idle.wake(now);
        assert_eq!(idle.announce(true), None, "first a look, at once");
        idle.nothing(Next::LookOn, now);
        assert_eq!(idle.announce(true), Some(Announcement::Asleep));
    }

    #[test]
    fn what_is_known_to_come_is_looked_for_then() {
        let now = Instant::now();
        let mut idle = Idle::new(Duration::from_secs(1), now);
        (0..20).for_each(|_| idle.nothing(Next::LookOn, now));
        let due = now + Duration::from_millis(100);
        idle.look_by(due);
        assert_eq!(idle.next_look(0), Some(due));
        idle.nothing(Next::LookOn, now);
        assert_eq!(idle.next_look(0), Some(due), "a look that was under way knew nothing of it");
        idle.nothing(Next::MayRest, now);
        assert_eq!(idle.next_look(0), Some(due), "however often it looks before");
        (0..2).for_each(|_| idle.nothing(Next::LookOn, due));
        assert!(idle.next_look(0).unwrap() > due, "not for ever");
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
        assert_eq!(idle.announce(true), Some(Announcement::Asleep), "it sleeps until then");
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
        (0..20).for_each(|_| idle.nothing(Next::LookOn, now));
        assert_eq!(idle.announce(false), None);
    }

    #[test]
    fn at_rest_it_does_not_look_until_it_is_woken_or_something_is_due() {
        let now = Instant::now();
        let mut idle = Idle::new(Duration::from_secs(1), now);
        (0..20).for_each(|_| idle.nothing(Next::MayRest, now));
        assert!(!idle.rests(), "producers do not know yet that it sleeps");
        assert_eq!(idle.announce(true), Some(Announcement::Asleep));
        idle.nothing(Next::MayRest, now);
        assert!(idle.rests() && idle.next_look(0) > Some(now + Duration::from_mins(20)));
        idle.wake(now);
        assert!(!idle.rests());
        assert_eq!(idle.next_look(0), Some(now));
        idle.nothing(Next::MayRest, now);
        assert!(!idle.rests(), "another host may have cleared the flag");
        let due = now + Duration::from_secs(5);
        idle.announce(true);
        idle.look_by(due);
        idle.nothing(Next::MayRest, now);
        assert!(idle.rests());
        assert_eq!(idle.next_look(0), Some(due));
    }
}
