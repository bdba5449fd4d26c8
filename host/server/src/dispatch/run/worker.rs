//! A worker: runs messages of a batch in one sandbox, until none is left to begin. A batch handler
//! gets many messages a call. If such a call fails, each of its messages is called again alone, by
//! any free worker. A worker never decides what becomes of a message.

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tracing::Instrument as _;

use super::backpressure::Backpressure;
use super::batch::{Batch, BatchTurn, Finished};
use super::handler_version::HandlerVersion;
use super::long_calls::CallWatch;
use crate::dispatch::lease::slots::Slot;
use host_core::id::LeaseKey;
use host_core::message::Message;
use host_core::policy::outcome::{Failure, Verdict};
use host_sandbox::{BatchRun, Busy, Run, Runner};

/// A worker gives others a turn after so many calls that did not wait.
const YIELD_AFTER: usize = 64;

struct Worker<'a> {
    batch: &'a Batch,
    version: &'a HandlerVersion,
    backpressure: &'a Backpressure,
    call_watch: &'a CallWatch,
    runner: Runner,
    /// How long the runner has computed.
    busy: Busy,
    /// The batch's last message is done.
    last: bool,
    /// A message of a batch in order did not succeed. Whether those after it wait is decided
    /// elsewhere.
    stops: bool,
}

/// Runs messages of a batch until none is left to begin, or there is backpressure. In order, it
/// also stops at a message that does not succeed. Tells `finished` when the batch's last message is
/// done, or when it has stopped at one.
pub(super) async fn work(
    turn: BatchTurn,
    version: Arc<HandlerVersion>,
    slot: Slot,
    backpressure: Backpressure,
    call_watch: CallWatch,
    finished: mpsc::UnboundedSender<LeaseKey>,
) {
    let batch = turn.batch().clone();
    let runner = version.take_runner();
    let mut worker = Worker {
        batch: &batch,
        version: &version,
        backpressure: &backpressure,
        call_watch: &call_watch,
        busy: runner.busy(),
        runner,
        last: false,
        stops: false,
    };
    let mut calls = 0;
    while !worker.stops && backpressure.may_begin() && worker.call().await {
        calls += 1;
        if calls % YIELD_AFTER == 0 {
            tokio::task::yield_now().await;
        }
    }
    let tells = worker.last || worker.stops;
    version.give_back(worker.runner);
    drop(slot);
    // Before it tells: the loop may have another worker go on from here.
    drop(turn);
    if tells {
        // Nobody listens any more when the host stops.
        let _ = finished.send(batch.lease());
    }
}

impl<'a> Worker<'a> {
    /// Call: gives the guest the next message, or messages. Whether there was one.
    async fn call(&mut self) -> bool {
        // In order, a call has one message.
        let many = self.version.batch_max().filter(|_| !self.batch.is_in_order());
        let Some((count_max, bytes_max)) = many else {
            let next = self.batch.begin();
            if let Some(message) = next {
                self.call_one(message).await;
            }
            return next.is_some();
        };
        let next = self.batch.begin_some(count_max, bytes_max);
        if let Some(which) = next.clone() {
            match self.batch.messages(which.clone()) {
                [message] => self.call_one(message).await,
                messages => self.call_many(which, messages).await,
            }
        }
        next.is_some()
    }

    async fn call_one(&mut self, message: &'a Message) {
        let span = tracing::debug_span!(
            "message",
            queue = self.version.queue(),
            id = %message.id,
            attempt = message.attempt,
            version = self.version.version()
        );
        let called = {
            // Pinned here, as each call is below: a call's state is large, and is made where it
            // stays.
            let run = pin!(run(self.batch, &mut self.runner, message));
            let run = self.call_watch.call(&self.busy, 1, run.instrument(span));
            AssertUnwindSafe(run).catch_unwind().await
        };
        let run = if let Ok(run) = called {
            run.unwrap_or_else(|| no_verdict(Verdict::Removed))
        } else {
            self.replace_runner();
            // A message without an outcome would keep its lease open for ever.
            let why = "the host panicked; see its log".to_owned();
            no_verdict(Verdict::Failed(Failure::Trap(why)))
        };
        self.stops = self.batch.is_in_order()
            && matches!(run.verdict, Verdict::Retry { .. } | Verdict::Failed(_));
        let busy = run.elapsed;
        let finished = self.finished(message, run, busy, None);
        self.finish([finished]);
    }

    async fn call_many(&mut self, which: Range<usize>, messages: &'a [Message]) {
        let span = tracing::debug_span!(
            "messages",
            queue = self.version.queue(),
            first = %messages[0].id,
            count = messages.len(),
            version = self.version.version()
        );
        let called = {
            let run = pin!(run_many(self.batch, &mut self.runner, messages));
            let run = self.call_watch.call(&self.busy, messages.len() as u32, run.instrument(span));
            AssertUnwindSafe(run).catch_unwind().await
        };
        let why = match called {
            Ok(Some(run)) => match self.together(messages, run) {
                Ok(finished) => return self.finish(finished),
                Err(failure) => failure.to_string(),
            },
            Ok(None) => "one of them was removed".to_owned(),
            Err(_) => {
                self.replace_runner();
                "the host panicked; see its log".to_owned()
            }
        };
        let queue = self.version.queue();
        let count = messages.len();
        tracing::debug!(queue, count, %why, "a call failed; its messages are called alone");
        self.batch.call_alone(which);
    }

    /// After a panic, in which the runner may have been left half done.
    fn replace_runner(&mut self) {
        self.runner = self.version.take_runner();
        self.busy = self.runner.busy();
    }

    /// What came of the messages of one call. Its follow-ups are kept with one message, and all
    /// that were acked with them are tied to that.
    fn together(
        &self,
        messages: &[Message],
        BatchRun { verdicts, follow_ups, mut results, elapsed, cpu }: BatchRun,
    ) -> Result<Vec<Finished>, Failure> {
        let verdicts = verdicts?;
        let count = messages.len() as u32;
        let busy = elapsed / count;
        let cpu = cpu / count;
        let first_acked = verdicts.iter().position(|verdict| *verdict == Verdict::Ack);
        let keeper = first_acked.filter(|_| !follow_ups.is_empty()).map(|at| messages[at].position);
        let mut follow_ups = Some(follow_ups);
        let finished = |(message, verdict): (&Message, Verdict)| {
            let keeps = keeper == Some(message.position);
            let tied_to = keeper.filter(|_| verdict == Verdict::Ack);
            let follow_ups = follow_ups.take_if(|_| keeps).unwrap_or_default();
            let result = results.remove(&message.id).filter(|_| verdict == Verdict::Ack);
            let run = Run { verdict, follow_ups, result, elapsed, cpu };
            self.finished(message, run, busy, tied_to)
        };
        Ok(messages.iter().zip(verdicts).map(finished).collect())
    }

    fn finished(
        &self,
        message: &Message,
        run: Run,
        busy: Duration,
        tied_to: Option<u32>,
    ) -> Finished {
        Finished {
            position: message.position,
            id: message.id,
            attempt: message.attempt,
            version: self.version.version(),
            held: self.backpressure.hold(run.bytes()),
            run,
            busy,
            tied_to,
        }
    }

    fn finish(&mut self, finished: impl IntoIterator<Item = Finished>) {
        self.last = self.batch.finish(finished);
    }
}

/// Runs a message. `None`: an operator has removed it before it was done.
async fn run(batch: &Batch, runner: &mut Runner, message: &Message) -> Option<Run> {
    let removal = batch.removal();
    if removal.has(message.id) {
        return None;
    }
    if let Some(why) = &message.unreadable {
        return Some(no_verdict(Verdict::Failed(Failure::Unreadable(why.clone()))));
    }
    let run = pin!(runner.run(message));
    let removed = pin!(removal.of_any(slice::from_ref(message)));
    tokio::select! {
        biased;
        run = run => Some(run),
        () = removed => None,
    }
}

/// Runs many in one call. `None`: an operator has removed one of them before they were done.
async fn run_many(batch: &Batch, runner: &mut Runner, messages: &[Message]) -> Option<BatchRun> {
    let removal = batch.removal();
    if messages.iter().any(|message| removal.has(message.id)) {
        return None;
    }
    let run = pin!(runner.run_batch(messages));
    let removed = pin!(removal.of_any(messages));
    tokio::select! {
        biased;
        run = run => Some(run),
        () = removed => None,
    }
}

const fn no_verdict(verdict: Verdict) -> Run {
    Run {
        verdict,
        follow_ups: Vec::new(),
        result: None,
        elapsed: Duration::ZERO,
        cpu: Duration::ZERO,
    }
}
