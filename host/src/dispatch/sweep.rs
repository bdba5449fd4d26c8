//! Sweeps: looks for leases that dead hosts, or lost replies, have left.

use std::time::{Duration, Instant};

use super::Dispatcher;
use super::parts::Control;
use super::trip;

/// How often a handler looks.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

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
}
