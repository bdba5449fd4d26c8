//! Slots and memory for messages. A slot is the right to use a sandbox. The loop takes both before
//! it leases, so that it leases no message that cannot run. Where the database is far, it takes
//! only the memory: a slot would stand idle until the messages are here.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Payload that each handler has in reserve, in KiB.
const RESERVE_KIB: usize = 1 << 10;
/// Payload that one lease may hold, in KiB.
const LEASE_KIB_MAX: usize = 16 << 10;

/// Where one handler's slots come from.
#[derive(Clone, Debug)]
pub struct Slots {
    /// The host's, shared by all handlers; first come, first served.
    host: Arc<Semaphore>,
    /// One that is the handler's own: however busy the host is with others, it moves on (I5).
    reserve: Arc<Semaphore>,
    /// The deployment's limit.
    own: Arc<Semaphore>,
    concurrency: u32,
}

/// The right to use one sandbox. Given back when dropped.
#[derive(Debug)]
pub struct Slot {
    _own: OwnedSemaphorePermit,
    _from: OwnedSemaphorePermit,
}

impl Slots {
    /// For a handler that may use `concurrency` of them.
    #[must_use]
    pub fn new(host: Arc<Semaphore>, concurrency: u32) -> Self {
        let own = Arc::new(Semaphore::new(concurrency as usize));
        Self { host, reserve: Arc::new(Semaphore::new(1)), own, concurrency }
    }

    /// The deployment's limit.
    #[must_use]
    pub const fn concurrency(&self) -> u32 {
        self.concurrency
    }

    /// Whether the handler itself has all that it may have.
    #[must_use]
    pub(crate) fn are_all_used(&self) -> bool {
        self.own.available_permits() == 0
    }

    /// Waits for a slot.
    pub async fn acquire(self) -> Slot {
        const OPEN: &str = "these semaphores are never closed";
        let own = self.own.acquire_owned().await.expect(OPEN);
        let from = match self.reserve.try_acquire_owned() {
            Ok(reserved) => reserved,
            Err(_) => self.host.acquire_owned().await.expect(OPEN),
        };
        Slot { _own: own, _from: from }
    }

    /// A slot, if one is free.
    #[must_use]
    pub fn try_acquire(&self) -> Option<Slot> {
        let own = self.own.clone().try_acquire_owned().ok()?;
        let reserved = self.reserve.clone().try_acquire_owned();
        let from = reserved.or_else(|_| self.host.clone().try_acquire_owned()).ok()?;
        Some(Slot { _own: own, _from: from })
    }
}

/// A loop's wait for a slot, if it waits.
#[derive(Default)]
pub(crate) struct SlotWait(Option<BoxFuture<'static, Slot>>);

impl SlotWait {
    /// Whether the loop waits.
    pub(crate) const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Waits from now on, unless it waits already.
    pub(crate) fn begin(&mut self, slots: &Slots) {
        self.0.get_or_insert_with(|| Box::pin(slots.clone().acquire()));
    }

    /// Waits no more.
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }

    /// The slot that the loop waits for. Never ready if it waits for none.
    pub(crate) async fn slot(&mut self) -> Slot {
        let Some(waiting) = &mut self.0 else { return std::future::pending().await };
        let slot = waiting.await;
        self.0 = None;
        slot
    }
}

/// Where the memory for one handler's payloads comes from.
#[derive(Debug)]
pub(crate) struct PayloadMemory {
    /// The host's, shared by all handlers, in KiB.
    host: Arc<Semaphore>,
    /// The handler's own when the host's is used up (I5), in KiB.
    reserve: Arc<Semaphore>,
}

impl PayloadMemory {
    /// For one handler of a host with this much memory.
    pub(crate) fn new(host_kib: Arc<Semaphore>) -> Self {
        Self { host: host_kib, reserve: Arc::new(Semaphore::new(RESERVE_KIB)) }
    }

    /// The right to hold the payload of one lease: as much as there is.
    pub(crate) fn take(&self) -> Option<OwnedSemaphorePermit> {
        some_of(&self.host).or_else(|| self.take_reserve())
    }

    /// The same, of the handler's own only.
    pub(crate) fn take_reserve(&self) -> Option<OwnedSemaphorePermit> {
        some_of(&self.reserve)
    }
}

fn some_of(memory: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    let kib = memory.available_permits().clamp(1, LEASE_KIB_MAX);
    memory.clone().try_acquire_many_owned(kib as u32).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_handler_has_a_slot_however_busy_the_host_is() {
        let host = Arc::new(Semaphore::new(2));
        let greedy = Slots::new(host.clone(), 10);
        let held: Vec<_> = std::iter::from_fn(|| greedy.try_acquire()).collect();
        assert_eq!(held.len(), 3);
        let modest = Slots::new(host, 10);
        let one = modest.clone().acquire().await;
        assert!(modest.try_acquire().is_none());
        drop(held);
        assert!(modest.try_acquire().is_some());
        drop(one);
    }

    #[test]
    fn a_deployments_limit_holds() {
        let slots = Slots::new(Arc::new(Semaphore::new(100)), 2);
        let held: Vec<_> = std::iter::from_fn(|| slots.try_acquire()).collect();
        assert_eq!(held.len(), 2);
    }

    #[test]
    fn every_handler_has_memory_however_much_the_others_hold() {
        let host = Arc::new(Semaphore::new(LEASE_KIB_MAX + 1));
        let memory = PayloadMemory::new(host.clone());
        let held = [memory.take(), memory.take(), memory.take()];
        let kib = held.iter().flatten().map(OwnedSemaphorePermit::num_permits);
        assert_eq!(kib.collect::<Vec<_>>(), [LEASE_KIB_MAX, 1, RESERVE_KIB]);
        assert!(memory.take().is_none());
        assert!(PayloadMemory::new(host).take().is_some());
    }

    #[tokio::test]
    async fn a_loop_waits_for_one_slot_at_a_time() {
        let slots = Slots::new(Arc::new(Semaphore::new(0)), 1);
        let mut wait = SlotWait::default();
        assert!(futures_util::poll!(Box::pin(wait.slot())).is_pending());
        wait.begin(&slots);
        wait.begin(&slots);
        let slot = wait.slot().await;
        assert!(!wait.is_on());
        wait.begin(&slots);
        assert!(futures_util::poll!(Box::pin(wait.slot())).is_pending());
        drop(slot);
        wait.slot().await;
    }
}
