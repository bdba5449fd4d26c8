//! Sweeps: looks for leases that dead hosts, or lost replies, have left.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::Dispatcher;
use super::parts::Control;
use super::trip;
use host_queue::error::QueueError;

/// How often a handler looks.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How long after a lost reply: longer than `strays` takes for a reply that is only late.
const LOST_REPLY_AFTER: Duration = Duration::from_secs(4);
/// How long after a stray was found whose messages something hides.
const HIDDEN_AGAIN: Duration = Duration::from_secs(5);

impl Dispatcher {
    pub(super) const fn may_sweep(&self, control: &Control) -> bool {
        control.leasing && !self.sweeping
    }

    /// Looks for leases without a master, now and then and when told to.
    pub(super) fn sweep(&mut self, control: &Control, now: Instant) {
        if !self.may_sweep(control) || self.sweep_at > now {
            return;
        }
        self.sweep_at = now + SWEEP_EVERY;
        self.sweeping = true;
        let shared = self.shared.clone();
        self.trips.push(Box::pin(trip::find_strays(shared, self.statements.clone(), self.handler)));
    }

    /// A lease failed. Breaks when the queue, or the handler, is gone.
    pub(super) fn cannot_lease(
        &mut self,
        error: &QueueError,
        was_stray: bool,
        now: Instant,
    ) -> ControlFlow<()> {
        if was_stray && matches!(error, QueueError::Hidden(_)) {
            // It stays as it is. All others go on.
            self.sweep_at = self.sweep_at.min(now + HIDDEN_AGAIN);
            return ControlFlow::Continue(());
        }
        // Whether the lease was made is not known: look for it when the server can be reached again.
        self.sweep_at = self.sweep_at.min(now + LOST_REPLY_AFTER);
        if matches!(error, QueueError::Gone) {
            tracing::info!(queue = %self.queue, handler = %self.name, "the queue or the handler is gone");
            return ControlFlow::Break(());
        }
        let wait = if error.is_passing() { 200 } else { 1_000 };
        self.idle.wait(now, Duration::from_millis(wait));
        ControlFlow::Continue(())
    }
}
