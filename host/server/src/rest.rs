//! Whether a queue is at rest: a look found nothing, and nothing can have come since. A loop does
//! not look at a queue at rest; so an idle queue costs its share of one statement for all queues.
//!
//! A queue is calm when its ids have not moved, no transaction that may have written to it is open,
//! and this host has done nothing with it meanwhile. A look that begins while it is calm and finds
//! nothing needs no other until the queue is stirred. Here is what the loops of one queue share;
//! `serve::rest_watch` finds out. Pure but for the channel: the time is passed in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use host_queue::maintenance::rest::Mark;

/// A queue at rest is looked at all the same after this time: something may have come that moved no
/// id, such as a partition that was attached with rows.
pub const LOOK_ANYWAY_AFTER: Duration = Duration::from_mins(30);
/// A host that was lost may have had a settlement under way. So there is a second alarm.
const ALARM_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The wait of a loop that rests. Up to a quarter less, so that queues do not come in step.
#[must_use]
pub fn look_anyway_after() -> Duration {
    LOOK_ANYWAY_AFTER.mul_f64(1.0 - fastrand::f64() / 4.0)
}

/// What the loops of a queue are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rest {
    /// Raised when something may have come.
    stirs: u64,
    /// Raised when a host may have left leases behind, or the server may be another.
    alarms: u64,
    /// What was written before now can be seen, and the next to write will stir.
    is_calm: bool,
}

/// One queue on this host.
#[derive(Debug, Default)]
pub struct QueueRest {
    rest: watch::Sender<Rest>,
    /// This host has leased or settled something of it since the last look at its mark.
    is_active: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The mark that was seen last.
    mark: Option<Mark>,
    /// The marks could not be read.
    is_lost: bool,
    alarm_again_at: Option<Instant>,
}

/// What stirred a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stir {
    /// A message may have come.
    Message,
    /// Besides, leases may have been left behind.
    Alarm,
}

impl QueueRest {
    /// What a loop of this queue sees of it.
    #[must_use]
    pub fn observe(self: &Arc<Self>) -> RestObserver {
        let receiver = self.rest.subscribe();
        let seen = *receiver.borrow();
        RestObserver { queue: self.clone(), receiver, seen, at_look: Rest::default() }
    }

    /// Leases may have been left behind, or the server may be another.
    pub fn alarm(&self, now: Instant) {
        self.known().alarm_again_at = Some(now + ALARM_AGAIN_AFTER);
        self.stir(Stir::Alarm);
    }

    /// Takes in the queue's mark. Whether it is calm as far as this host knows: the open
    /// transactions say the rest.
    pub fn look(&self, mark: Mark, now: Instant) -> bool {
        let is_active = self.is_active.swap(false, Ordering::Relaxed);
        let mut known = self.known();
        let is_stirred = known.mark.replace(mark) != Some(mark);
        let was_lost = std::mem::take(&mut known.is_lost);
        let again = known.alarm_again_at.take_if(|at| *at <= now).is_some();
        drop(known);
        if was_lost {
            self.alarm(now);
        } else if again {
            self.stir(Stir::Alarm);
        } else if is_stirred {
            self.stir(Stir::Message);
        }
        !is_active
    }

    /// Whether it was found calm.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.rest.borrow().is_calm
    }

    /// Nobody else can have written to it since its mark was read.
    pub fn calm(&self) {
        self.set_calm(true);
        if self.is_active.load(Ordering::Relaxed) {
            self.set_calm(false);
        }
    }

    /// Its mark cannot be read: it is looked at all the time.
    pub fn lose_track(&self) {
        let mut known = self.known();
        known.mark = None;
        let was_lost = std::mem::replace(&mut known.is_lost, true);
        drop(known);
        // Those that rest already have to know as well.
        if !was_lost {
            self.stir(Stir::Message);
        }
    }

    fn stir(&self, why: Stir) {
        self.rest.send_modify(|rest| {
            rest.stirs += 1;
            rest.alarms += u64::from(why == Stir::Alarm);
            rest.is_calm = false;
        });
    }

    fn set_calm(&self, is_calm: bool) {
        self.rest.send_if_modified(|rest| std::mem::replace(&mut rest.is_calm, is_calm) != is_calm);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one loop has seen of its queue.
#[derive(Debug)]
pub struct RestObserver {
    queue: Arc<QueueRest>,
    receiver: watch::Receiver<Rest>,
    /// The loop knows of this.
    seen: Rest,
    /// As it was when the last look began.
    at_look: Rest,
}

impl RestObserver {
    /// A look begins. Call it before anything is sent.
    pub fn begin_look(&mut self) {
        self.at_look = *self.receiver.borrow();
    }

    /// Whether a look that has found nothing now needs no other before the queue is stirred.
    #[must_use]
    pub fn may_rest(&self) -> bool {
        self.at_look.is_calm && self.at_look.stirs == self.receiver.borrow().stirs
    }

    /// Has leased or settled something.
    pub fn note_activity(&self) {
        self.queue.is_active.store(true, Ordering::Relaxed);
        if self.queue.is_calm() {
            self.queue.set_calm(false);
        }
    }

    /// Waits until the queue is stirred, or not calm any more: this host has done something with
    /// it.
    pub async fn disturbed(&mut self) {
        loop {
            let rest = *self.receiver.borrow_and_update();
            let before = std::mem::replace(&mut self.seen, rest);
            if !rest.is_calm || before.stirs != rest.stirs {
                return;
            }
            if self.receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until the queue is stirred. Stirs that nobody waited for count once.
    pub async fn stirred(&mut self) -> Stir {
        loop {
            let rest = *self.receiver.borrow_and_update();
            let before = std::mem::replace(&mut self.seen, rest);
            if before.alarms != rest.alarms {
                return Stir::Alarm;
            }
            if before.stirs != rest.stirs {
                return Stir::Message;
            }
            if self.receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Arc<QueueRest>, RestObserver) {
        let queue = Arc::new(QueueRest::default());
        let observer = queue.observe();
        (queue, observer)
    }

    fn mark(id: i64) -> Mark {
        Mark { message: Some(id), ..Mark::default() }
    }

    #[tokio::test]
    async fn a_look_that_begins_in_calm_is_the_last() {
        let (queue, mut observer) = pair();
        let now = Instant::now();
        assert!(queue.look(mark(5), now));
        assert_eq!(observer.stirred().await, Stir::Message, "what was before is unknown");
        observer.begin_look();
        queue.calm();
        assert!(!observer.may_rest(), "it began before");
        observer.begin_look();
        assert!(observer.may_rest());
        assert!(queue.look(mark(5), now));
        assert!(observer.may_rest(), "nothing came");
        queue.look(mark(6), now);
        assert!(!observer.may_rest(), "something came while it looked");
        assert_eq!(observer.stirred().await, Stir::Message);
        observer.begin_look();
        assert!(!observer.may_rest(), "who inserted may not have committed");
    }

    #[tokio::test]
    async fn what_this_host_does_keeps_a_queue_awake_and_stirs_nothing() {
        let (queue, mut observer) = pair();
        let now = Instant::now();
        queue.look(mark(5), now);
        observer.stirred().await;
        queue.calm();
        observer.begin_look();
        observer.note_activity();
        assert!(!queue.is_calm(), "at once");
        queue.calm();
        assert!(!queue.is_calm(), "whoever asked for the locks knew nothing of it");
        assert!(!queue.look(mark(5), now) && !queue.is_calm());
        observer.disturbed().await;
        assert!(observer.may_rest(), "its own look was in calm");
        assert!(queue.look(mark(5), now), "nothing more was done");
        let stirred = tokio::time::timeout(Duration::ZERO, observer.stirred()).await;
        assert!(stirred.is_err());
    }

    #[tokio::test]
    async fn an_alarm_comes_twice_and_a_lost_mark_is_one() {
        let (queue, mut observer) = pair();
        let now = Instant::now();
        queue.look(mark(5), now);
        observer.stirred().await;
        queue.calm();
        queue.alarm(now);
        assert!(!queue.is_calm());
        assert_eq!(observer.stirred().await, Stir::Alarm);
        assert!(queue.look(mark(5), now + ALARM_AGAIN_AFTER));
        assert_eq!(observer.stirred().await, Stir::Alarm, "once more");
        queue.calm();
        queue.lose_track();
        assert!(!queue.is_calm());
        assert_eq!(observer.stirred().await, Stir::Message, "whoever rests looks again");
        queue.lose_track();
        queue.look(mark(5), now);
        assert_eq!(observer.stirred().await, Stir::Alarm, "the server may be another");
    }
}
