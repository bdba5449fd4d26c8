//! Workers: who runs the messages of a lease, and what is learnt from how they went. As many as there are slots,
//! and more when messages wait behind slow ones.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use super::Dispatcher;
use super::batch::Batch;
use super::slots::Slot;
use super::worker::work;
use host_core::id::LeaseKey;
use host_core::message::Message;
use host_queue::exchange::Lease;

impl Dispatcher {
    /// Gives the messages of leases to workers, one for each slot; each lease its share of these.
    pub(super) fn begin(
        &mut self,
        leases: Vec<Lease>,
        mut slots: Vec<Slot>,
        mut bytes: OwnedSemaphorePermit,
    ) {
        let mut left = leases.len();
        for lease in leases {
            let held_kib = lease.messages.iter().map(Message::bytes).sum::<usize>() / 1024 + 1;
            let held = bytes.split(held_kib.min(bytes.num_permits()));
            let held = held.expect("it has that many");
            let workers = if lease.ledger.is_in_order() { 1 } else { slots.len() / left };
            left -= 1;
            let its_slots = slots.split_off(slots.len().saturating_sub(workers));
            self.begin_one(lease, its_slots, held);
        }
    }

    fn begin_one(&mut self, lease: Lease, slots: Vec<Slot>, bytes: OwnedSemaphorePermit) {
        let Lease { mut ledger, messages, expired, .. } = lease;
        let context = self.context();
        for message in expired {
            context.give_up(&mut ledger, message);
        }
        let count = messages.len();
        let batch = Arc::new(Batch::new(ledger.key(), messages, ledger.is_in_order()));
        self.open.add(ledger, batch.clone(), bytes);
        // What it was told of while this lease was on its way.
        self.open.remove(&self.control.borrow().removed);
        slots.into_iter().take(count).for_each(|slot| self.spawn(&batch, slot));
    }

    /// A lease's messages are done; or one of a lease in order did not succeed: should it be given up on, those after it
    /// go on, else they wait for it. Then its lane is free, or another's turn has come.
    pub(super) fn collect(&mut self, lease: LeaseKey, now: Instant) {
        self.idle.settled(now);
        let context = self.context();
        let any = self.open.collect(lease, &context, &mut self.pace);
        self.learn(any);
        if self.turns.in_order() {
            self.idle.look_by(now);
            self.add_workers();
        }
    }

    /// Where messages wait behind slow ones, or behind the brake, and there are slots, more workers help.
    pub(super) fn add_workers(&self) {
        if !self.brake.is_off() {
            return;
        }
        for batch in self.open.waiting_batches() {
            let calls = batch.calls_waiting(self.loaded.load().shape().per_call as usize);
            let most = if batch.is_in_order() { 1 } else { calls as u32 };
            for _ in 0..self.pace.sandboxes(batch.waiting() as u32).min(most) {
                let Some(slot) = self.loaded.load().slots().try_acquire() else { return };
                self.spawn(batch, slot);
            }
        }
    }

    /// What has run of all leases, done or not.
    pub(super) fn collect_all(&mut self) {
        let context = self.context();
        let any = self.open.collect_all(&context, &mut self.pace);
        self.learn(any);
    }

    /// From the messages that have run, if `any` have: which threads the next ones begin on.
    fn learn(&self, any: bool) {
        if any {
            self.track.expect(self.pace.standing());
        }
    }

    fn spawn(&self, batch: &Arc<Batch>, slot: Slot) {
        let Some(turn) = batch.turn() else { return };
        let (handler, brake) = (self.loaded.load_full(), self.brake.clone());
        let (complete, stop_now) = (self.complete.0.clone(), self.shared.stop_now.clone());
        self.shared.tasks.spawn(self.track.clone().carry(|watch| async move {
            let work = work(turn, handler, slot, brake, watch, complete);
            // A guest that computes is not to have one more turn.
            tokio::select! {
                biased;
                () = stop_now.cancelled() => {}
                () = work => {}
            }
        }));
    }
}
