//! Slots: the right to use a sandbox. Taken before a message is leased, so that none is held that
//! cannot run.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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

/// One sandbox's worth. Given back when dropped.
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

    /// Waits for one.
    pub async fn acquire(self) -> Slot {
        const OPEN: &str = "these semaphores are never closed";
        let own = self.own.acquire_owned().await.expect(OPEN);
        let from = match self.reserve.try_acquire_owned() {
            Ok(reserved) => reserved,
            Err(_) => self.host.acquire_owned().await.expect(OPEN),
        };
        Slot { _own: own, _from: from }
    }

    /// One, if there is one now.
    #[must_use]
    pub fn try_acquire(&self) -> Option<Slot> {
        let own = self.own.clone().try_acquire_owned().ok()?;
        let reserved = self.reserve.clone().try_acquire_owned();
        let from = reserved.or_else(|_| self.host.clone().try_acquire_owned()).ok()?;
        Some(Slot { _own: own, _from: from })
    }
}

/// Waits for the one that is being waited for; if none is, for ever.
pub(super) async fn wait_for(waiting: &mut Option<BoxFuture<'static, Slot>>) -> Slot {
    match waiting {
        Some(slot) => slot.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_handler_has_one_however_busy_the_host_is() {
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
}
