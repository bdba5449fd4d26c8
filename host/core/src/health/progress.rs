//! Whether a host's loops still go round. Each loop says when it will be round again. A gate says
//! that somebody passes while others wait. What is overdue is late, and what stays late stands
//! still. Pure: the time is passed in.
//!
//! Time is counted in looks, and a long gap between two looks counts as a short one. A process that
//! was stopped, or a machine that slept, looks late too: its loops could not run either.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a loop that waits for nothing in particular goes round.
pub const ROUND_EVERY: Duration = Duration::from_secs(5);
/// By when a loop is round again that has not said otherwise.
const ROUND_WITHIN: Duration = Duration::from_secs(30);
/// What one look adds to the clock at most.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// A loop that is late by this stands still, and nobody waits for it.
const STANDS_STILL_AFTER: Duration = Duration::from_secs(15);
/// Not due at all.
const NEVER: u64 = u64::MAX;

/// The loops and gates of one host. Cheap to clone; the clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<ProgressState>);

#[derive(Debug, Default)]
struct ProgressState {
    /// How long the looks have gone on, in milliseconds.
    clock_ms: AtomicU64,
    looked_at: Mutex<Option<Instant>>,
    next_number: AtomicU64,
    watched: Mutex<BTreeMap<u64, Arc<Watched>>>,
}

#[derive(Debug)]
struct Watched {
    name: String,
    /// On the clock.
    due_ms: AtomicU64,
}

/// What is overdue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    /// The loop or the gate.
    pub name: String,
    /// For how long it has been.
    pub by: Duration,
}

impl Late {
    /// Whether it is not worth waiting for any longer.
    #[must_use]
    pub fn stands_still(&self) -> bool {
        self.by >= STANDS_STILL_AFTER
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} makes no progress; it is {} s late", self.name, self.by.as_secs())
    }
}

impl Progress {
    /// Watches a loop until what it returns is dropped. It is not due before it says so.
    #[must_use]
    pub fn watch(&self, name: impl Into<String>) -> Watch {
        let watched = Arc::new(Watched { name: name.into(), due_ms: AtomicU64::new(NEVER) });
        let number = self.0.next_number.fetch_add(1, Ordering::Relaxed);
        self.watched().insert(number, watched.clone());
        Watch { progress: self.clone(), number, watched }
    }

    /// Watches a gate. While somebody waits, somebody passes, or gives back a place, within
    /// `bound`.
    #[must_use]
    pub fn gate(&self, name: impl Into<String>, bound: Duration) -> Gate {
        Gate { watch: self.watch(name), bound, waiting: Mutex::new(0) }
    }

    /// Lets the clock go on until `now`.
    pub fn look(&self, now: Instant) {
        let mut looked_at = self.0.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let gap = looked_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        *looked_at = Some(now);
        self.0.clock_ms.fetch_add(gap.min(LOOK_MAX).as_millis() as u64, Ordering::Relaxed);
    }

    /// What is late at the last look, and for the longest.
    #[must_use]
    pub fn late(&self) -> Option<Late> {
        let clock_ms = self.clock_ms();
        let watched = self.watched();
        let due_ms = |w: &&Arc<Watched>| w.due_ms.load(Ordering::Relaxed);
        let first = watched.values().min_by_key(due_ms)?;
        let by = clock_ms.checked_sub(due_ms(&first)).filter(|ms| *ms > 0)?;
        Some(Late { name: first.name.clone(), by: Duration::from_millis(by) })
    }

    /// Forgets all that is watched: nothing of it runs any more, or nobody waits for it.
    pub fn forget(&self) {
        self.watched().clear();
    }

    fn clock_ms(&self) -> u64 {
        self.0.clock_ms.load(Ordering::Relaxed)
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Watched>>> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A loop that is watched.
#[derive(Debug)]
pub struct Watch {
    progress: Progress,
    number: u64,
    watched: Arc<Watched>,
}

impl Watch {
    /// Goes round now, and again within the usual time: it waits for [`ROUND_EVERY`] at most.
    pub fn round(&self) {
        self.within(ROUND_WITHIN);
    }

    /// Goes round now, and again when it has waited for so long.
    pub fn round_after(&self, wait: Duration) {
        self.within(wait.saturating_add(ROUND_WITHIN));
    }

    /// Goes round now, and again within `bound`.
    pub fn within(&self, bound: Duration) {
        let due_ms = self.progress.clock_ms().saturating_add(bound.as_millis() as u64);
        self.watched.due_ms.store(due_ms, Ordering::Relaxed);
    }

    /// Is not due: it waits for a gate, or for what may take as long as it likes.
    pub fn rest(&self) {
        self.watched.due_ms.store(NEVER, Ordering::Relaxed);
    }

    /// Is not due until what it returns is dropped: it waits at gates, which are watched
    /// themselves, and is bounded beyond them. Then it goes round.
    #[must_use]
    pub fn at_gates(&self) -> AtGates<'_> {
        self.rest();
        AtGates(self)
    }
}

/// A loop that waits at gates.
#[derive(Debug)]
pub struct AtGates<'a>(&'a Watch);

impl Drop for AtGates<'_> {
    fn drop(&mut self) {
        self.0.round();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.progress.watched().remove(&self.number);
    }
}

/// Few places that many wait for. A holder that is not polled gives none back, and then nobody
/// passes.
#[derive(Debug)]
pub struct Gate {
    watch: Watch,
    bound: Duration,
    waiting: Mutex<usize>,
}

impl Gate {
    /// Waits at the gate until what it returns is dropped, or says that it has passed. Whoever
    /// gives up has not.
    #[must_use]
    pub fn wait(&self) -> Waiting<'_> {
        let mut waiting = self.waiting();
        *waiting += 1;
        if self.watch.watched.due_ms.load(Ordering::Relaxed) == NEVER {
            self.watch.within(self.bound);
        }
        drop(waiting);
        Waiting(self)
    }

    /// Notes that a place was given back.
    pub fn moved(&self) {
        let waiting = self.waiting();
        if *waiting > 0 { self.watch.within(self.bound) } else { self.watch.rest() }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits at a gate.
#[derive(Debug)]
pub struct Waiting<'a>(&'a Gate);

impl Waiting<'_> {
    /// It waits no longer: it has a place, or knows that there is none.
    pub fn passed(self) {
        let gate = self.0;
        drop(self);
        gate.moved();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        *self.0.waiting() -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks as often as a host does for so long.
    fn look_for(progress: &Progress, now: &mut Instant, time: Duration) {
        for _ in 0..time.as_millis() / 250 {
            *now += Duration::from_millis(250);
            progress.look(*now);
        }
    }

    #[test]
    fn a_loop_is_late_by_its_own_bound_and_stands_still_later() {
        let (progress, mut now) = (Progress::default(), Instant::now());
        progress.look(now);
        let (quick, slow) = (progress.watch("quick"), progress.watch("slow"));
        quick.within(SECOND * 2);
        slow.within(SECOND * 60);
        look_for(&progress, &mut now, SECOND * 2);
        assert_eq!(progress.late(), None);
        look_for(&progress, &mut now, SECOND * 3);
        let late = progress.late().unwrap();
        assert_eq!(
            (late.name.as_str(), late.by, late.stands_still()),
            ("quick", SECOND * 3, false)
        );
        assert_eq!(late.to_string(), "quick makes no progress; it is 3 s late");
        look_for(&progress, &mut now, STANDS_STILL_AFTER);
        assert!(progress.late().unwrap().stands_still());
        quick.round();
        assert_eq!(progress.late(), None);
        drop(slow);
        quick.rest();
        look_for(&progress, &mut now, SECOND * 1_000);
        assert_eq!(progress.late(), None);
    }

    #[test]
    fn a_host_that_was_frozen_itself_is_not_late() {
        let (progress, mut now) = (Progress::default(), Instant::now());
        progress.look(now);
        let watch = progress.watch("loop");
        watch.within(SECOND * 5);
        now += SECOND * 3_600;
        progress.look(now);
        assert_eq!(progress.late(), None);
        look_for(&progress, &mut now, SECOND * 5);
        assert!(progress.late().is_some());
    }

    #[test]
    fn what_ended_or_is_forgotten_is_not_waited_for() {
        let (progress, mut now) = (Progress::default(), Instant::now());
        progress.look(now);
        let (ended, stuck) = (progress.watch("ended"), progress.watch("stuck"));
        ended.within(SECOND);
        stuck.within(SECOND * 2);
        look_for(&progress, &mut now, SECOND * 9);
        assert_eq!(progress.late().unwrap().name, "ended");
        drop(ended);
        assert_eq!(progress.late().unwrap().name, "stuck");
        progress.forget();
        stuck.within(SECOND);
        look_for(&progress, &mut now, SECOND * 9);
        assert_eq!(progress.late(), None);
    }

    #[test]
    fn a_gate_is_late_when_nobody_passes_however_many_come_and_go() {
        let (progress, mut now) = (Progress::default(), Instant::now());
        progress.look(now);
        let gate = progress.gate("gate", SECOND * 10);
        gate.wait().passed();
        look_for(&progress, &mut now, SECOND * 100);
        assert_eq!(progress.late(), None, "nobody waits");
        for _ in 0..20 {
            let waiting = gate.wait();
            look_for(&progress, &mut now, SECOND);
            drop(waiting);
        }
        assert!(progress.late().is_some(), "none of those who gave up has passed");
        gate.moved();
        assert_eq!(progress.late(), None);
        let waiting = gate.wait();
        for _ in 0..20 {
            look_for(&progress, &mut now, SECOND * 9);
            assert_eq!(progress.late(), None, "others pass");
            gate.moved();
        }
        look_for(&progress, &mut now, SECOND * 11);
        assert!(progress.late().is_some());
        waiting.passed();
        assert_eq!(progress.late(), None);
    }
}
