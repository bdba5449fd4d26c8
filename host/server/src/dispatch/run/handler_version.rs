//! A version of a handler as a host runs it: a compiled component, and a few warm sandboxes.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::dispatch::lease::pace::CallShape;
use crate::dispatch::lease::slots::Slots;
use host_sandbox::{Handler, Runner};

/// The memory of a sandbox of ordinary size, in bytes.
const WARM_UNIT_BYTES: u64 = 2 << 20;

/// Shared by the workers that run it; an older version lives until its last message is done.
pub struct HandlerVersion {
    handler: Handler,
    slots: Slots,
    warm: Mutex<Vec<(Runner, OwnedSemaphorePermit)>>,
    /// Room for the sandboxes that the host keeps and that are not in use, over all handlers; in
    /// [`WARM_UNIT_BYTES`].
    warm_room: Arc<Semaphore>,
}

impl std::fmt::Debug for HandlerVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandlerVersion").field("version", &self.version()).finish_non_exhaustive()
    }
}

impl HandlerVersion {
    /// A version that is ready to run.
    #[must_use]
    pub fn new(handler: Handler, slots: Slots, warm_room: Arc<Semaphore>) -> Self {
        Self { handler, slots, warm: Mutex::default(), warm_room }
    }

    /// The queue's name.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.handler.settings().queue
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> i32 {
        self.handler.settings().version
    }

    /// What its guests are told of the queue's policy.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.handler.settings().max_attempts
    }

    /// How it is called.
    #[must_use]
    pub fn shape(&self) -> CallShape {
        let per_call = self.handler.batch_size().unwrap_or(1);
        CallShape { concurrency: self.slots.concurrency(), per_call }
    }

    /// Of a batch handler: messages of a call, and their payload in bytes, at most. They are copied
    /// into the guest, which wants room to work with them.
    #[must_use]
    pub fn batch_max(&self) -> Option<(usize, u64)> {
        let count = self.handler.batch_size()? as usize;
        Some((count, self.handler.settings().limits.memory_bytes / 4))
    }

    /// Where its slots come from.
    #[must_use]
    pub const fn slots(&self) -> &Slots {
        &self.slots
    }

    /// A warm sandbox, or a new one.
    pub(crate) fn take_runner(&self) -> Runner {
        let warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner).pop();
        warm.map_or_else(|| self.handler.runner(), |(runner, _)| runner)
    }

    /// Keeps a sandbox warm, if it is worth keeping and there is room.
    pub(crate) fn give_back(&self, runner: Runner) {
        let Some(bytes) = runner.warm_bytes() else { return };
        let units = u32::try_from(bytes.div_ceil(WARM_UNIT_BYTES).max(1)).unwrap_or(u32::MAX);
        if let Ok(room) = self.warm_room.clone().try_acquire_many_owned(units) {
            self.warm.lock().unwrap_or_else(PoisonError::into_inner).push((runner, room));
        }
    }
}
