//! Workers: who runs the messages of a lease, and what is learnt from how they went. As many as there are slots,
//! and more when messages wait behind slow ones.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::Dispatcher;
use super::batch::Batch;
use super::slots::Slot;
use super::worker::work;
use crate::id::LeaseId;
use crate::queue::exchange::Lease;

impl Dispatcher {
    /// Gives a lease's messages to workers, one for each slot.
    pub(super) fn begin(
        &mut self,
        lease: Lease,
        slots: Vec<Slot>,
        mut bytes: OwnedSemaphorePermit,
    ) {
        let Lease { id, mut ledger, messages, expired, .. } = lease;
        let context = self.context();
        for message in expired {
            context.give_up(&mut ledger, message);
        }
        let held_kib = messages.iter().map(|m| m.payload.len()).sum::<usize>() / 1024 + 1;
        drop(bytes.split(bytes.num_permits().saturating_sub(held_kib)));
        let count = messages.len();
        let batch = Arc::new(Batch::new(id, messages));
        self.open.add(id, ledger, batch.clone(), bytes);
        // What it was told of while this lease was on its way.
        self.open.remove(&self.control.borrow().removed);
        slots.into_iter().take(count).for_each(|slot| self.spawn(&batch, slot));
    }

    /// Where messages wait behind slow ones, or behind the brake, and there are slots, more workers help.
    pub(super) fn add_workers(&self) {
        if !self.brake.is_off() {
            return;
        }
        for batch in self.open.waiting_batches() {
            let calls = batch.calls_waiting(self.loaded.load().shape().per_call as usize);
            for _ in 0..self.pace.sandboxes(batch.waiting() as u32).min(calls as u32) {
                let Some(slot) = self.loaded.load().slots().try_acquire() else { return };
                self.spawn(batch, slot);
            }
        }
    }

    /// Turns what has run into outcomes, of one lease or of all, and learns from it.
    pub(super) fn collect(&mut self, lease: Option<LeaseId>) {
        let context = self.context();
        let any = match lease {
            Some(lease) => self.open.collect(lease, &context, &mut self.pace),
            None => self.open.collect_all(&context, &mut self.pace),
        };
        if any {
            self.track.set_heavy(self.pace.is_heavy());
        }
    }

    fn spawn(&self, batch: &Arc<Batch>, slot: Slot) {
        let (batch, handler, brake) = (batch.clone(), self.loaded.load_full(), self.brake.clone());
        let (complete, stop_now) = (self.complete.0.clone(), self.shared.stop_now.clone());
        self.shared.tasks.spawn(self.track.clone().carry(|watch| async move {
            let work = work(batch, handler, slot, brake, watch, complete);
            stop_now.run_until_cancelled(work).await;
        }));
    }
}
