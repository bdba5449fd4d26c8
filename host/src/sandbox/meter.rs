//! How long a call has kept a processor busy. Reads clocks; never waits and never decides.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::engine::TICK;

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
    /// The thread's clock when the present slice began; 0 in the first slice, which is measured on
    /// the wall instead so that a call of a microsecond does not pay for a system call.
    slice_ns: AtomicU64,
}

impl Meter {
    /// Time on a processor up to now; to be asked from the thread that runs the call.
    pub(super) fn used(&self, started: Instant) -> Duration {
        let now = thread_ns();
        let slice = match self.slice_ns.swap(now, Relaxed) {
            0 => started.elapsed().min(FIRST_SLICE_MAX).as_nanos() as u64,
            since => now.saturating_sub(since),
        };
        Duration::from_nanos(self.used_ns.fetch_add(slice, Relaxed) + slice)
    }

    /// The same at the end of a call; one that was never looked at has been on a processor for as long as it took.
    pub(super) fn total(&self, started: Instant) -> Duration {
        match self.slice_ns.load(Relaxed) {
            0 => started.elapsed().min(FIRST_SLICE_MAX),
            _ => self.used(started),
        }
    }

    /// Begins a new call.
    pub(super) fn reset(&self) {
        self.used_ns.store(0, Relaxed);
        self.slice_ns.store(0, Relaxed);
    }
}

/// Looks at a call from outside, while it runs. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Busy(Arc<Meter>);

impl Busy {
    pub(super) const fn of(meter: Arc<Meter>) -> Self {
        Self(meter)
    }

    /// The call's time on a processor, up to when it last waited or gave others a turn.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.0.used_ns.load(Relaxed))
    }
}

/// This thread's time on a processor, never 0.
fn thread_ns() -> u64 {
    // The clock exists wherever this compiles; without it the limit of wall time remains.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(1, |time| Duration::from(time).as_nanos().max(1) as u64)
}

/// A future whose time on a processor is metered.
pub(super) struct Metered<F> {
    meter: Arc<Meter>,
    started: Instant,
    waited: bool,
    inner: F,
}

impl<F> Metered<F> {
    /// Meters `inner`, a call that begins now.
    pub(super) fn new(meter: Arc<Meter>, started: Instant, inner: F) -> Self {
        meter.reset();
        Self { meter, started, waited: false, inner }
    }
}

impl<F: Future + Unpin> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if self.waited {
            // Whoever ran on this thread in between is not charged to this call.
            self.meter.slice_ns.store(thread_ns(), Relaxed);
        }
        let poll = Pin::new(&mut self.inner).poll(cx);
        if poll.is_pending() {
            self.meter.used(self.started);
            self.waited = true;
        }
        poll
    }
}
