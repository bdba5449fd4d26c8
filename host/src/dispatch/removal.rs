//! Messages of a batch that an operator has removed while a host had them: those that nobody has begun are not
//! begun, and a guest that runs is interrupted. Costs a batch without one a look at a flag for each message.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::id::MessageId;

/// The removed messages of one batch.
#[derive(Debug, Default)]
pub(super) struct Removal {
    any: AtomicBool,
    messages: Mutex<HashSet<MessageId>>,
    told: Notify,
}

impl Removal {
    /// Tells of messages, of the batch or not.
    pub(super) fn tell(&self, removed: &HashSet<MessageId>) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).extend(removed);
        self.any.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    /// Whether a message is removed.
    pub(super) fn has(&self, message: MessageId) -> bool {
        self.any.load(Ordering::Acquire)
            && self.messages.lock().unwrap_or_else(PoisonError::into_inner).contains(&message)
    }

    /// Waits until a message is removed; if it never is, for ever.
    pub(super) async fn of(&self, message: MessageId) {
        loop {
            let told = self.told.notified();
            tokio::pin!(told);
            // Registered before the look: what is told in between is not missed.
            told.as_mut().enable();
            if self.has(message) {
                return;
            }
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_is_told_of_its_own_message_only() {
        let removal = Removal::default();
        let (mine, other) = (MessageId::new(1), MessageId::new(2));
        let mut waiting = Box::pin(removal.of(mine));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        removal.tell(&HashSet::from([other]));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(removal.has(other) && !removal.has(mine));
        removal.tell(&HashSet::from([mine]));
        assert!(futures_util::poll!(&mut waiting).is_ready());
        removal.of(other).await;
    }
}
