//! One open lease: what it still has to settle, and in which order. Never does I/O.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::outcome_context::{Call, OutcomeContext};
use crate::dispatch::run::batch::{Batch, Finished};
use host_core::id::LeaseKey;
use host_core::policy::outcome::{Failure, Outcome, Verdict, outcome};
use host_core::settlement::{Dead, Effects, Ledger, Retry, Settlement};
use host_queue::error::QueueError;
use host_queue::lease::Lease;

/// How long a settlement waits that Postgres refuses, and that has nothing more to leave out.
pub(super) const SETTLEMENT_REFUSED_AGAIN: Duration = Duration::from_secs(5);

/// Which leases are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Those whose messages are all done.
    Final,
    /// All that have something to say.
    Partial,
}

/// An open lease: its messages that run, and its settlements that wait.
#[derive(Debug)]
pub(super) struct OpenLease {
    ledger: Ledger,
    batch: Arc<Batch>,
    /// Settlements in order, without the one that is under way.
    waiting: VecDeque<Settlement>,
    under_way: bool,
    again_at: Option<Instant>,
    /// The version that ran the newest of its messages.
    version: i32,
    _payload: OwnedSemaphorePermit,
}

impl OpenLease {
    pub(super) fn new(
        lease: Lease,
        payload: OwnedSemaphorePermit,
        context: &OutcomeContext,
    ) -> Self {
        let Lease { mut ledger, messages, expired, .. } = lease;
        for message in expired {
            context.expire(&mut ledger, message);
        }
        let batch = Arc::new(Batch::new(ledger.key(), messages, ledger.is_in_order()));
        Self {
            ledger,
            batch,
            waiting: VecDeque::new(),
            under_way: false,
            again_at: None,
            version: 0,
            _payload: payload,
        }
    }

    pub(super) const fn key(&self) -> LeaseKey {
        self.ledger.key()
    }

    pub(super) const fn batch(&self) -> &Arc<Batch> {
        &self.batch
    }

    /// Messages without an outcome.
    pub(super) const fn rest(&self) -> usize {
        self.ledger.rest()
    }

    /// When to try the next settlement again.
    pub(super) const fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// Whether all is settled.
    pub(super) fn is_over(&self) -> bool {
        self.ledger.rest() == 0 && !self.ledger.has_pending() && self.waiting.is_empty()
    }

    /// Record: a message has run, and this is its outcome.
    pub(super) fn record(&mut self, finished: Finished, context: &OutcomeContext) {
        if self.ledger.rest() == 0 {
            // It ran after a message that could not be settled, and will run again.
            return;
        }
        let Finished { position, id, attempt, version, run, held, tied_to, .. } = finished;
        self.version = version;
        let outcome = outcome(run.verdict, &context.policy, attempt, fastrand::f64());
        context.failures.note(version, Some(id), &outcome);
        let call = Some(Call { version, elapsed: Some(run.elapsed) });
        let entry = |error: String| context.entry(attempt, call, &error);
        let effects = Effects { follow_ups: run.follow_ups, result: run.result, held };
        self.ledger.record(position, outcome, effects, entry);
        if let Some(keeper) = tied_to {
            self.ledger.tie(position, keeper);
        }
    }

    /// Whether a settlement must wait: for its next try, or for a message that runs and is not the
    /// lease's any more once this is settled. In order, the next message of its key would run
    /// beside it.
    pub(super) fn must_wait(&self, now: Instant) -> bool {
        let runs_on = self.ledger.is_in_order() && self.ledger.rest() == 0 && self.batch.is_busy();
        runs_on || self.again_at.is_some_and(|at| now < at)
    }

    /// The next settlement, if none is under way.
    pub(super) fn ready(&mut self, extent: Extent) -> Option<Settlement> {
        if self.under_way {
            return None;
        }
        let is_due = extent == Extent::Partial || self.ledger.rest() == 0;
        if self.waiting.is_empty() && is_due {
            self.waiting.extend(self.ledger.take());
        }
        let first = self.waiting.pop_front()?;
        self.under_way = true;
        self.again_at = None;
        Some(first)
    }

    /// The settlement is no longer under way.
    pub(super) const fn answered(&mut self) {
        self.under_way = false;
    }

    /// Tries a settlement again, unchanged.
    pub(super) fn try_again(&mut self, sent: Settlement, at: Instant) {
        self.waiting.push_front(sent);
        self.again_at = Some(at);
    }

    /// Postgres refuses a settlement. A follow-up may be to blame. So the calls that have
    /// follow-ups are settled one by one. A call that is refused again fails, and is settled
    /// without its follow-ups.
    pub(super) fn refused(
        &mut self,
        mut sent: Settlement,
        error: &QueueError,
        context: &OutcomeContext,
        now: Instant,
    ) {
        if let Some(part) = sent.split_off_follow_ups() {
            self.ledger.made_in_parts(2);
            self.waiting.push_front(sent);
            self.waiting.push_front(part);
        } else if let Some(&(position, _)) = sent.follow_ups.first() {
            sent.follow_ups.clear();
            sent.results.clear();
            sent.held.clear();
            for position in sent.call_of(position) {
                self.follow_up_refused(&mut sent, position, error, context);
            }
            self.waiting.push_front(sent);
        } else {
            self.try_again(sent, now + SETTLEMENT_REFUSED_AGAIN);
        }
    }

    /// What becomes of a message whose call's follow-ups cannot be stored.
    fn follow_up_refused(
        &mut self,
        sent: &mut Settlement,
        position: u32,
        error: &QueueError,
        context: &OutcomeContext,
    ) {
        let verdict = Verdict::Failed(Failure::FollowUp(error.to_string()));
        let message = self.batch.message(position);
        let attempt = message.map_or(1, |m| m.attempt);
        let call = Some(Call { version: self.version, elapsed: None });
        let entry = |error: String| context.entry(attempt, call, &error);
        let outcome = outcome(verdict, &context.policy, attempt, fastrand::f64());
        context.failures.note(self.version, message.map(|m| m.id), &outcome);
        match outcome {
            Outcome::Reschedule { delay, error } => {
                let retry = Retry { position, delay, entry: entry(error) };
                if self.ledger.is_in_order() {
                    *sent = self.ledger.end_with(retry, sent, self.waiting.drain(..));
                } else {
                    sent.retries.push(retry);
                }
            }
            Outcome::DeadLetter { reason, error } => {
                sent.dead.push(Dead { position, reason, entry: entry(error) });
            }
            Outcome::Ack | Outcome::Removed => {}
        }
    }
}
