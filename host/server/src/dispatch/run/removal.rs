//! Messages of a batch that an operator removes while a host has them. No worker begins such a
//! message, and a call that runs is interrupted. A batch without any costs a look at a flag for
//! each message.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use host_core::id::MessageId;
use host_core::message::Message;

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

    /// Waits until one of these messages is removed; if none ever is, for ever.
    pub(super) async fn of_any(&self, messages: &[Message]) {
        loop {
            let told = self.told.notified();
            tokio::pin!(told);
            // Registered before the look: what is told in between is not missed.
            told.as_mut().enable();
            if messages.iter().any(|message| self.has(message.id)) {
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
        let message = |id| Message {
            position: 0,
            id: MessageId::new(id),
            attempt: 1,
            enqueued_at: std::time::UNIX_EPOCH,
            headers: host_core::message::Headers::default(),
            unreadable: None,
            payload: bytes::Bytes::new(),
        };
        let (mine, other) = ([message(1)], [message(2), message(3)]);
        let mut waiting = Box::pin(removal.of_any(&mine));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        removal.tell(&HashSet::from([other[1].id]));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(removal.has(other[1].id) && !removal.has(mine[0].id));
        removal.tell(&HashSet::from([mine[0].id]));
        assert!(futures_util::poll!(&mut waiting).is_ready());
        removal.of_any(&other).await;
    }
}
