//! The messages of a lease while they run. Any number of workers pull from it, one message at a time,
//! so a slow message holds up nobody but the worker that has it.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tracing::Instrument as _;

use super::brake::Brake;
use super::loaded::Loaded;
use super::removal::Removal;
use super::slots::Slot;
use crate::budget::Held;
use crate::id::{LeaseId, MessageId};
use crate::message::Message;
use crate::outcome::{Failure, Verdict};
use crate::sandbox::{Run, Runner};

/// A worker gives others a turn after so many messages that did not wait.
const TURN: usize = 64;

/// A lease's messages, and what came of those that are done.
#[derive(Debug)]
pub struct Batch {
    lease: LeaseId,
    messages: Vec<Message>,
    /// The next message that nobody has begun.
    next: AtomicUsize,
    left: AtomicUsize,
    done: Mutex<Vec<Finished>>,
    removal: Removal,
    /// One worker at a time, who stops at a message that did not succeed.
    in_order: bool,
    /// It has one; only looked at in order.
    busy: AtomicBool,
}

/// The right to run messages of a batch; given back when dropped.
#[derive(Debug)]
pub struct Turn(Arc<Batch>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

/// A message that has run.
#[derive(Debug)]
pub struct Finished {
    /// Which.
    pub position: u32,
    /// Its attempt, from 1.
    pub attempt: u32,
    /// The version of the handler that ran it.
    pub version: i32,
    /// What came of it.
    pub run: Run,
    /// The memory that its follow-ups take.
    pub held: Option<Held>,
}

impl Batch {
    /// The messages of a lease; `in_order`: to be run one after the other.
    #[must_use]
    pub fn new(lease: LeaseId, messages: Vec<Message>, in_order: bool) -> Self {
        let left = AtomicUsize::new(messages.len());
        Self {
            lease,
            messages,
            next: AtomicUsize::new(0),
            left,
            done: Mutex::default(),
            removal: Removal::default(),
            in_order,
            busy: AtomicBool::new(false),
        }
    }

    /// Messages that nobody has begun.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.messages.len().saturating_sub(self.next.load(Ordering::Relaxed))
    }

    /// Sees to it that no further message is begun; says how many were not.
    pub fn abandon(&self) -> usize {
        let all = self.messages.len();
        all.saturating_sub(self.next.swap(all, Ordering::Relaxed))
    }

    /// Of a lease that is over: how many messages nobody has heard of.
    pub fn forget(&self) -> usize {
        self.take_finished().len() + self.abandon()
    }

    /// A turn at running messages, unless they keep their order and somebody has it.
    pub fn turn(self: &Arc<Self>) -> Option<Turn> {
        let taken = self.busy.swap(true, Ordering::Acquire) && self.in_order;
        (!taken).then(|| Turn(self.clone()))
    }

    /// Whether the messages keep their order.
    pub const fn is_in_order(&self) -> bool {
        self.in_order
    }

    /// Whether a message may be running, of a batch in order.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Tells of messages that an operator has removed; they may be of other batches.
    pub fn remove(&self, removed: &HashSet<MessageId>) {
        self.removal.tell(removed);
    }

    /// The attempt of the message at a position.
    #[must_use]
    pub fn attempt(&self, position: u32) -> Option<u32> {
        self.messages.iter().find(|m| m.position == position).map(|m| m.attempt)
    }

    /// What has run since the last time.
    pub fn take_finished(&self) -> Vec<Finished> {
        std::mem::take(&mut self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&self) -> Option<&Message> {
        self.messages.get(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns whether it was the last.
    fn finish(&self, finished: Finished) -> bool {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(finished);
        self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// Runs messages of a batch until none is left to begin, or the brake is on; in order, until one does not succeed. Tells
/// `complete` when the batch's last is done, or that one.
pub async fn work(
    mine: Turn,
    handler: Arc<Loaded>,
    slot: Slot,
    brake: Brake,
    complete: mpsc::UnboundedSender<LeaseId>,
) {
    let batch = &mine.0.clone();
    let mut runner = handler.take_runner();
    let mut turn = 0;
    let (mut last, mut stops) = (false, false);
    while !stops
        && brake.is_off()
        && let Some(message) = batch.begin()
    {
        let span = tracing::debug_span!(
            "message",
            queue = handler.queue(),
            id = %message.id,
            attempt = message.attempt,
            version = handler.version()
        );
        let run = AssertUnwindSafe(run(batch, &mut runner, message).instrument(span));
        let run = run.catch_unwind().await.unwrap_or_else(|_| {
            runner = handler.take_runner();
            // A message without an outcome would keep its lease open for ever.
            no_verdict(Verdict::Failed(Failure::Trap("the host panicked; see its log".into())))
        });
        let (position, attempt) = (message.position, message.attempt);
        let version = handler.version();
        let held = brake.hold(&run.follow_ups);
        stops = batch.in_order && matches!(run.verdict, Verdict::Retry { .. } | Verdict::Failed(_));
        last = batch.finish(Finished { position, attempt, version, run, held });
        turn += 1;
        if turn % TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
    handler.give_back(runner);
    drop(slot);
    let lease = batch.lease;
    // Whoever is told may have another go on from here.
    drop(mine);
    if last || stops {
        // Nobody listens any more when the host stops.
        let _ = complete.send(lease);
    }
}

/// Runs a message, unless it is removed before it is done.
async fn run(batch: &Batch, runner: &mut Runner, message: &Message) -> Run {
    if batch.removal.has(message.id) {
        return no_verdict(Verdict::Removed);
    }
    tokio::select! {
        biased;
        run = runner.run(message) => run,
        () = batch.removal.of(message.id) => no_verdict(Verdict::Removed),
    }
}

const fn no_verdict(verdict: Verdict) -> Run {
    Run { verdict, follow_ups: Vec::new(), elapsed: Duration::ZERO }
}
