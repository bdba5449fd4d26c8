//! The messages of one lease while they run. Workers pull from it, one call at a time. So a slow
//! message holds up only the worker that has it.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::removal::Removal;
use host_core::id::{LeaseKey, MessageId};
use host_core::memory_gauge::MemoryHold;
use host_core::message::Message;
use host_sandbox::Run;

/// A lease's messages, and what came of those that are done.
#[derive(Debug)]
pub(crate) struct Batch {
    lease: LeaseKey,
    messages: Vec<Message>,
    /// The next message that nobody has begun.
    next: AtomicUsize,
    /// The same when it was asked last whether it is stuck.
    next_before: AtomicUsize,
    /// Of a batch handler: those whose call together has failed, to be called each alone.
    alone: Mutex<Vec<usize>>,
    left: AtomicUsize,
    abandoned: AtomicBool,
    done: Mutex<Vec<Finished>>,
    removal: Removal,
    /// One worker at a time, who stops at a message that did not succeed.
    in_order: bool,
    /// The workers that it has.
    workers: AtomicUsize,
}

/// The right to run messages of a batch; given back when dropped.
#[derive(Debug)]
pub(crate) struct BatchTurn(Arc<Batch>);

impl BatchTurn {
    /// The batch.
    pub(super) const fn batch(&self) -> &Arc<Batch> {
        &self.0
    }
}

impl Drop for BatchTurn {
    fn drop(&mut self) {
        self.0.workers.fetch_sub(1, Ordering::Release);
    }
}

/// A message that has run.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Which.
    pub position: u32,
    /// The message's id.
    pub id: MessageId,
    /// Its attempt, from 1.
    pub attempt: u32,
    /// The version of the handler that ran it.
    pub version: i32,
    /// What came of it.
    pub run: Run,
    /// The memory that its follow-ups and its result take.
    pub held: Option<MemoryHold>,
    /// Its share of the time of the sandbox that ran it.
    pub busy: Duration,
    /// The message that has the follow-ups of the call that acked both: neither is settled without
    /// the other.
    pub tied_to: Option<u32>,
}

impl Batch {
    /// The messages of a lease; `in_order`: to be run one after the other.
    #[must_use]
    pub(crate) fn new(lease: LeaseKey, messages: Vec<Message>, in_order: bool) -> Self {
        let left = AtomicUsize::new(messages.len());
        Self {
            lease,
            messages,
            next: AtomicUsize::new(0),
            next_before: AtomicUsize::new(0),
            alone: Mutex::default(),
            abandoned: AtomicBool::new(false),
            left,
            done: Mutex::default(),
            removal: Removal::default(),
            in_order,
            workers: AtomicUsize::new(0),
        }
    }

    /// Messages that nobody has begun.
    #[must_use]
    pub(crate) fn waiting(&self) -> usize {
        self.unbegun() + self.alone().len()
    }

    /// The calls that these take, with so many messages each.
    #[must_use]
    pub(crate) fn calls_waiting(&self, per_call: usize) -> usize {
        self.unbegun().div_ceil(per_call) + self.alone().len()
    }

    fn unbegun(&self) -> usize {
        self.messages.len().saturating_sub(self.next.load(Ordering::Relaxed))
    }

    fn alone(&self) -> MutexGuard<'_, Vec<usize>> {
        self.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that no further message is begun; says how many were not.
    pub(crate) fn abandon(&self) -> usize {
        let all = self.messages.len();
        let unbegun = all.saturating_sub(self.next.swap(all, Ordering::Relaxed));
        self.abandoned.store(true, Ordering::Release);
        unbegun + self.alone().drain(..).count()
    }

    /// Of a lease that is over: how many messages nobody has heard of.
    pub(crate) fn forget(&self) -> usize {
        self.take_finished().len() + self.abandon()
    }

    /// A turn at running messages, unless they keep their order and somebody has it.
    pub(crate) fn take_turn(self: &Arc<Self>) -> Option<BatchTurn> {
        let one_more = |now| (now == 0 || !self.in_order).then_some(now + 1);
        let taken = self.workers.fetch_update(Ordering::Acquire, Ordering::Relaxed, one_more);
        taken.is_ok().then(|| BatchTurn(self.clone()))
    }

    /// How many more workers it could do with, of a batch that was leased ahead. `worth`: how many
    /// are worth using for so many messages. In order, it has its first only: whether one goes on
    /// after a message is decided elsewhere.
    pub(super) fn workers_wanted(&self, per_call: usize, worth: impl FnOnce(u32) -> u32) -> usize {
        let has = self.workers();
        if self.in_order {
            return usize::from(has == 0 && !self.is_begun());
        }
        let most = self.calls_waiting(per_call);
        (worth(self.waiting() as u32) as usize).min(most).saturating_sub(has)
    }

    /// The workers that it has.
    pub(crate) fn workers(&self) -> usize {
        self.workers.load(Ordering::Acquire)
    }

    /// Whether no message has begun since the last time that this was asked.
    pub(super) fn is_stuck(&self) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        self.next_before.swap(next, Ordering::Relaxed) == next
    }

    /// Whether a message has begun.
    pub(super) fn is_begun(&self) -> bool {
        self.next.load(Ordering::Relaxed) > 0
    }

    /// Whether the messages keep their order.
    pub(crate) const fn is_in_order(&self) -> bool {
        self.in_order
    }

    /// Whether a message may be running, of a batch in order.
    pub(crate) fn is_busy(&self) -> bool {
        self.workers() > 0
    }

    /// Tells of messages that an operator has removed; they may be of other batches.
    pub(crate) fn remove(&self, removed: &HashSet<MessageId>) {
        self.removal.tell(removed);
    }

    /// The message at a position.
    #[must_use]
    pub(crate) fn message(&self, position: u32) -> Option<&Message> {
        self.messages.iter().find(|m| m.position == position)
    }

    /// What has run since the last time.
    pub(crate) fn take_finished(&self) -> Vec<Finished> {
        std::mem::take(&mut self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The lease.
    pub(super) const fn lease(&self) -> LeaseKey {
        self.lease
    }

    /// Which of its messages an operator has removed.
    pub(super) const fn removal(&self) -> &Removal {
        &self.removal
    }

    /// The next message, which nobody else begins.
    pub(super) fn begin(&self) -> Option<&Message> {
        self.messages.get(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The messages of the next call, which nobody else begins: at most so many, and of so many
    /// bytes unless it is one. One that is to be called alone comes alone, and before the others.
    pub(super) fn begin_some(&self, count_max: usize, bytes_max: u64) -> Option<Range<usize>> {
        if let Some(at) = self.alone().pop() {
            return Some(at..at + 1);
        }
        let end = |from: usize| from + fitting(&self.messages[from..], count_max, bytes_max);
        let more = |from| (from < self.messages.len()).then(|| end(from));
        let from = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(from..end(from))
    }

    /// The messages of a call.
    pub(super) fn messages(&self, which: Range<usize>) -> &[Message] {
        &self.messages[which]
    }

    /// Has the messages of a call that has failed called each alone.
    pub(super) fn call_alone(&self, which: Range<usize>) {
        let mut alone = self.alone();
        if !self.abandoned.load(Ordering::Acquire) {
            // Taken from the end: the first come first.
            alone.extend(which.rev());
        }
    }

    /// Notes what has run: the messages of one call at once, so that they are settled at once.
    /// Returns whether these were the last.
    pub(super) fn finish(&self, finished: impl IntoIterator<Item = Finished>) -> bool {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let before = done.len();
        done.extend(finished);
        let count = done.len() - before;
        drop(done);
        self.left.fetch_sub(count, Ordering::AcqRel) == count
    }
}

/// How many of these messages one call takes; at least 1.
fn fitting(messages: &[Message], count_max: usize, bytes_max: u64) -> usize {
    let mut bytes = 0;
    let fits = |message: &&Message| {
        bytes += message.bytes() as u64;
        // One that cannot be read comes alone, and is not run.
        bytes <= bytes_max && message.unreadable.is_none()
    };
    messages.iter().take(count_max).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_core::id::LeaseId;
    use host_core::message::Headers;

    fn batch(payloads: &[usize]) -> Batch {
        let message = |(position, &bytes): (usize, &usize)| Message {
            position: position as u32,
            id: MessageId::new(position as i64),
            attempt: 1,
            enqueued_at: std::time::UNIX_EPOCH,
            headers: Headers::default(),
            payload: vec![0; bytes].into(),
            unreadable: None,
        };
        let lease = LeaseKey { id: LeaseId::new(1), token: uuid::Uuid::nil() };
        Batch::new(lease, payloads.iter().enumerate().map(message).collect(), false)
    }

    #[test]
    fn calls_are_bounded_by_count_and_by_bytes() {
        let batch = batch(&[1, 1, 1, 100, 1, 9, 1]);
        let calls: Vec<_> = std::iter::from_fn(|| batch.begin_some(2, 10)).collect();
        assert_eq!(calls, [0..2, 2..3, 3..4, 4..6, 6..7]);
        assert_eq!(batch.waiting(), 0);
    }

    #[test]
    fn a_message_that_cannot_be_read_comes_alone() {
        let mut batch = batch(&[1; 4]);
        batch.messages[1].unreadable = Some("torn".into());
        let calls: Vec<_> = std::iter::from_fn(|| batch.begin_some(4, 10)).collect();
        assert_eq!(calls, [0..1, 1..2, 2..4]);
    }

    #[test]
    fn what_has_failed_together_comes_alone_and_first() {
        let batch = batch(&[1; 6]);
        let first = batch.begin_some(3, 10).unwrap();
        batch.call_alone(first);
        assert_eq!((batch.waiting(), batch.calls_waiting(3)), (6, 4));
        let calls: Vec<_> = std::iter::from_fn(|| batch.begin_some(3, 10)).collect();
        assert_eq!(calls, [0..1, 1..2, 2..3, 3..6]);
        batch.call_alone(0..3);
        batch.abandon();
        batch.call_alone(3..6);
        assert_eq!(batch.begin_some(3, 10), None);
    }
}
