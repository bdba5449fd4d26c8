//! The workers of one handler. A lease has as many as it has slots, and more when its messages wait
//! behind slow ones.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::backpressure::Backpressure;
use super::batch::Batch;
use super::handler_version::HandlerVersion;
use super::long_calls::Track;
use super::worker::work;
use crate::dispatch::config::HostResources;
use crate::dispatch::lease::pace::{Pace, Standing};
use crate::dispatch::lease::slots::Slot;
use host_core::id::LeaseKey;

/// Starts the workers of one handler.
pub(crate) struct Workers {
    version: Arc<ArcSwap<HandlerVersion>>,
    /// On which threads their calls begin.
    track: Track,
    /// Stops new messages while the follow-ups of those before wait to be settled.
    backpressure: Backpressure,
    /// Told when the last message of a lease is done.
    finished: mpsc::UnboundedSender<LeaseKey>,
    tasks: TaskTracker,
    cores: u32,
    stop_now: CancellationToken,
    /// Interrupts their calls when this is dropped, as with the queue: nobody will settle them.
    _interrupt: DropGuard,
}

impl Workers {
    /// None yet. Returns also where they tell which leases have no more messages to run.
    pub(crate) fn new(
        host: &HostResources,
        version: Arc<ArcSwap<HandlerVersion>>,
    ) -> (Self, mpsc::UnboundedReceiver<LeaseKey>) {
        let (finished, receiver) = mpsc::unbounded_channel();
        let workers = Self {
            version,
            track: Track::new(&host.long_calls),
            backpressure: Backpressure::new(host.follow_ups.clone(), host.follow_up_bytes_max),
            finished,
            tasks: host.tasks.clone(),
            cores: host.cores,
            stop_now: host.stop_now.clone(),
            _interrupt: host.stop_now.clone().drop_guard(),
        };
        (workers, receiver)
    }

    /// Whether messages may begin.
    pub(crate) fn may_begin(&self) -> bool {
        self.backpressure.may_begin()
    }

    /// Says what the next calls are likely to do.
    pub(crate) fn expect(&self, standing: Standing) {
        self.track.expect(standing);
    }

    /// Starts a worker for each slot, but no more than there are messages.
    pub(crate) fn start(&self, batch: &Arc<Batch>, slots: Vec<Slot>) {
        slots.into_iter().take(batch.waiting()).for_each(|slot| self.spawn(batch, slot));
    }

    /// Starts more workers for batches whose messages wait, while slots are free. What was leased
    /// ahead waits anyway: there, only where no message has begun since the last time.
    pub(crate) fn add<'a>(&self, waiting: impl Iterator<Item = &'a Arc<Batch>>, pace: Pace) {
        if !self.may_begin() {
            return;
        }
        let ahead = pace.leases_ahead();
        for batch in waiting.filter(|batch| batch.is_stuck() || !ahead) {
            let calls = batch.calls_waiting(self.version.load().shape().per_call as usize);
            let most = if batch.is_in_order() { 1 } else { calls as u32 };
            for _ in 0..pace.sandboxes(batch.waiting() as u32).min(most) {
                let Some(slot) = self.version.load().slots().try_acquire() else { return };
                self.spawn(batch, slot);
            }
        }
    }

    /// Starts workers for batches that were leased ahead, the oldest first, while slots are free.
    /// Whether one waits for a slot.
    pub(crate) fn add_ahead<'a>(
        &self,
        waiting: impl Iterator<Item = &'a Arc<Batch>>,
        running: usize,
        pace: Pace,
    ) -> bool {
        let shape = self.version.load().shape();
        let mut more = (pace.workers(shape, self.cores) as usize).saturating_sub(running);
        for batch in self.ahead(waiting, pace) {
            for _ in 0..self.wanted(batch, pace).min(more) {
                more -= 1;
                let Some(slot) = self.version.load().slots().try_acquire() else { return true };
                self.spawn(batch, slot);
            }
        }
        false
    }

    /// Starts a worker for the oldest of these that wants one. Returns the slot if none does.
    pub(crate) fn start_one_ahead<'a>(
        &self,
        waiting: impl Iterator<Item = &'a Arc<Batch>>,
        pace: Pace,
        slot: Slot,
    ) -> Option<Slot> {
        match self.ahead(waiting, pace).first() {
            Some(batch) => {
                self.spawn(batch, slot);
                None
            }
            None => Some(slot),
        }
    }

    /// Those that want a worker, the oldest first.
    fn ahead<'a>(
        &self,
        waiting: impl Iterator<Item = &'a Arc<Batch>>,
        pace: Pace,
    ) -> Vec<&'a Arc<Batch>> {
        if !self.may_begin() {
            return Vec::new();
        }
        let mut ahead: Vec<_> = waiting.filter(|batch| self.wanted(batch, pace) > 0).collect();
        ahead.sort_by_key(|batch| batch.lease().id);
        ahead
    }

    /// Where the database is near, a lease comes with its slots.
    fn wanted(&self, batch: &Batch, pace: Pace) -> usize {
        let per_call = self.version.load().shape().per_call as usize;
        let wanted = batch.workers_wanted(per_call, |messages| pace.sandboxes(messages));
        if pace.leases_ahead() || !batch.is_begun() { wanted } else { 0 }
    }

    fn spawn(&self, batch: &Arc<Batch>, slot: Slot) {
        let Some(turn) = batch.take_turn() else { return };
        let version = self.version.load_full();
        let backpressure = self.backpressure.clone();
        let finished = self.finished.clone();
        let stop_now = self.stop_now.clone();
        self.tasks.spawn(self.track.clone().carry(|call_watch| async move {
            let work = work(turn, version, slot, backpressure, call_watch, finished);
            // A guest that computes is not to have one more turn.
            tokio::select! {
                biased;
                () = stop_now.cancelled() => {}
                () = work => {}
            }
        }));
    }
}
