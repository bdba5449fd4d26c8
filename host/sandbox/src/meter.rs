//! How long a call has kept a processor busy. Reads clocks; never waits and never decides.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// How often a guest that does not wait gives other tasks a turn, and its limits are looked at.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// After a call that was quicker than this, the next one's first slice is measured on the wall, if
/// at all: the thread's clock costs a system call.
const QUICK: Duration = Duration::from_micros(20);

/// The most that a first slice can have been: a guest that runs meets a tick by then. If more has
/// passed, the system had taken the processor away.
const FIRST_SLICE_MAX: Duration = TICK.saturating_mul(2);

/// The processor time of one call: what its thread spent on it between two waits.
///
/// Only one thread uses a meter at a time, but not always the same one; hence the atomics, which
/// need no order.
#[derive(Debug, Default)]
pub(super) struct Meter {
    used_ns: AtomicU64,
    /// The thread's clock when the present slice began; 0 in the first slice of a call that is
    /// expected to be quick.
    slice_ns: AtomicU64,
    /// The call before was quick, and the next one is expected to be.
    quick: AtomicBool,
}

impl Meter {
    /// Time on a processor up to now, without the first slice of a call that was expected to be
    /// quick; to be asked from the thread that runs the call.
    pub(super) fn used(&self) -> Duration {
        let now = thread_ns();
        let slice = match self.slice_ns.swap(now, Relaxed) {
            // Only its time on the wall is known, and the system may have taken the processor away:
            // one call that was held up so is not to pass for a long one.
            0 => 0,
            since => now.saturating_sub(since),
        };
        Duration::from_nanos(self.used_ns.fetch_add(slice, Relaxed) + slice)
    }

    /// The same at the end of a call that took `elapsed`. A call that seemed quick and was not
    /// counts as busy all that time. The next call is measured: a thread that waits for a processor
    /// does not use it.
    pub(super) fn total(&self, elapsed: Duration) -> Duration {
        self.quick.store(elapsed < QUICK, Relaxed);
        match self.slice_ns.load(Relaxed) {
            0 => elapsed.min(FIRST_SLICE_MAX),
            _ => self.used(),
        }
    }

    /// Begins a new call.
    fn begin(&self) {
        self.used_ns.store(0, Relaxed);
        self.slice_ns.store(if self.quick.load(Relaxed) { 0 } else { thread_ns() }, Relaxed);
    }
}

/// Looks at a call from outside, while it runs. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Busy(Arc<Meter>);

impl Busy {
    pub(super) const fn of(meter: Arc<Meter>) -> Self {
        Self(meter)
    }

    /// Adds to the call's time: for tests of what is decided by it.
    pub fn spend(&self, time: Duration) {
        self.0.used_ns.fetch_add(time.as_nanos() as u64, Relaxed);
    }

    /// The call's time on a processor, up to when it last waited or gave others a turn.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.0.used_ns.load(Relaxed))
    }
}

/// This thread's time on a processor.
#[must_use]
pub fn thread_time() -> Duration {
    // The clock exists wherever this compiles; without it the limit of wall time remains.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// The same in nanoseconds, never 0.
fn thread_ns() -> u64 {
    thread_time().as_nanos().max(1) as u64
}

/// A future whose time on a processor is metered.
pub(super) struct Metered<'a, F> {
    meter: &'a Meter,
    waited: bool,
    inner: F,
}

impl<'a, F> Metered<'a, F> {
    /// Meters `inner`, a call that begins now.
    pub(super) fn new(meter: &'a Meter, inner: F) -> Self {
        meter.begin();
        Self { meter, waited: false, inner }
    }
}

impl<F: Future + Unpin> Future for Metered<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if self.waited {
            // Whoever ran on this thread in between is not charged to this call.
            self.meter.slice_ns.store(thread_ns(), Relaxed);
        }
        let poll = Pin::new(&mut self.inner).poll(cx);
        if poll.is_pending() {
            self.meter.used();
            self.waited = true;
        }
        poll
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A call that keeps its thread without using a processor, as one does that waits for its turn
    /// at one.
    fn waits(meter: &Meter) -> Duration {
        meter.begin();
        let started = Instant::now();
        std::thread::sleep(Duration::from_millis(10));
        meter.total(started.elapsed())
    }

    #[test]
    fn waiting_for_a_processor_is_not_using_it() {
        let meter = Meter::default();
        assert!(waits(&meter) < Duration::from_millis(5), "of the first call nothing is expected");
        meter.quick.store(true, Relaxed);
        assert!(waits(&meter) >= Duration::from_millis(10), "it was expected to be quick");
        assert!(waits(&meter) < Duration::from_millis(5), "and no more is");
    }

    #[test]
    fn a_call_that_is_held_up_in_its_first_slice_is_no_long_one() {
        let meter = Meter::default();
        meter.quick.store(true, Relaxed);
        meter.begin();
        std::thread::sleep(Duration::from_millis(10));
        assert!(meter.used() < Duration::from_millis(5));
        let (started, begun) = (Instant::now(), thread_ns());
        while Duration::from_nanos(thread_ns() - begun) < Duration::from_millis(10) {}
        assert!(meter.used() >= Duration::from_millis(10), "what it computes from then on counts");
        assert!(meter.total(started.elapsed()) >= Duration::from_millis(10));
    }
}
