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

    /// Starts more workers for batches whose messages wait, while slots are free.
    pub(crate) fn add<'a>(&self, waiting: impl Iterator<Item = &'a Arc<Batch>>, pace: Pace) {
        if !self.may_begin() {
            return;
        }
        for batch in waiting {
            let calls = batch.calls_waiting(self.version.load().shape().per_call as usize);
            let most = if batch.is_in_order() { 1 } else { calls as u32 };
            for _ in 0..pace.sandboxes(batch.waiting() as u32).min(most) {
                let Some(slot) = self.version.load().slots().try_acquire() else { return };
                self.spawn(batch, slot);
            }
        }
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
