//! Runs messages: calls the guest, bounds the call, keeps the sandbox for the next one if it may. Knows
//! nothing of leases; messages go in, verdicts come out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::task::unconstrained;
use tokio::time::sleep_until;

use super::Loaded;
use super::live::Live;
use super::log::Subject;
use super::meter::{Busy, Meter, Metered};
use super::state::Left;
use host_core::id::MessageId;
use host_core::limits::Isolation;
use host_core::message::{FollowUp, Message};
use host_core::outcome::{Failure, Verdict};

/// One worker's sandbox.
///
/// While it lives it may hold one of [`SandboxConfig::instances_max`](super::SandboxConfig): under
/// [`Isolation::Batch`] also between two messages. Whoever makes runners must not have more of them
/// than that.
pub struct Runner {
    loaded: Arc<Loaded>,
    meter: Arc<Meter>,
    /// The sandbox that the next call finds, under [`Isolation::Batch`]. It changes hands with each call.
    warm: Option<Box<Live>>,
    /// The message's id as text; kept so that it is not allocated for each message.
    id: String,
}

/// What came of one call.
#[derive(Debug)]
pub struct Run {
    /// What the handler said, or how the call failed.
    pub verdict: Verdict,
    /// What the handler enqueued; empty unless the verdict is [`Verdict::Ack`].
    pub follow_ups: Vec<FollowUp>,
    /// What the handler left as the result; `None` unless the verdict is [`Verdict::Ack`].
    pub result: Option<Vec<u8>>,
    /// From the call to its verdict, the making of a sandbox included.
    pub elapsed: Duration,
    /// Of that, on a processor; of a call with many messages, this one's share.
    pub cpu: Duration,
}

/// What came of one call with many messages.
#[derive(Debug)]
pub struct BatchRun {
    /// What the handler said of each, or how the call failed, which says nothing of any of them.
    pub verdicts: Result<Vec<Verdict>, Failure>,
    /// What the handler enqueued; empty unless one of the verdicts is [`Verdict::Ack`].
    pub follow_ups: Vec<FollowUp>,
    /// What the handler left as results, acked or not.
    pub results: BTreeMap<MessageId, Vec<u8>>,
    /// From the call to its verdicts, the making of a sandbox included.
    pub elapsed: Duration,
    /// Of that, on a processor.
    pub cpu: Duration,
}

impl Run {
    /// What its follow-ups and its result take of a host's memory, in bytes, nearly.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let follow_ups: u64 = self.follow_ups.iter().map(FollowUp::bytes).sum();
        follow_ups + self.result.as_ref().map_or(0, Vec::len) as u64
    }
}

impl Runner {
    pub(super) fn new(loaded: Arc<Loaded>) -> Self {
        Self { loaded, meter: Arc::default(), warm: None, id: String::new() }
    }

    /// The memory of the sandbox that the next message would find, in bytes; `None`: there is none.
    #[must_use]
    pub fn warm_bytes(&self) -> Option<u64> {
        self.warm.as_ref().map(|live| live.bytes())
    }

    /// How busy its call is, to be asked while that runs.
    #[must_use]
    pub fn busy(&self) -> Busy {
        Busy::of(self.meter.clone())
    }

    /// Calls the handler with one message. It never fails: a failure is a [`Verdict::Failed`].
    ///
    /// Needs a tokio runtime with time. Dropping the future interrupts the guest at its next turn
    /// and frees its sandbox.
    pub async fn run(&mut self, message: &Message) -> Run {
        let started = Instant::now();
        let ready = self.take_warm(started);
        let Self { loaded, meter, id, .. } = self;
        id.clear();
        // Writing to a string cannot fail.
        let _ = write!(id, "{}", message.id);
        let called = {
            let call = pin!(async {
                let subject = Subject::of(message);
                let mut live = Live::ready(ready, loaded, subject, meter, started).await?;
                let (verdict, left) = live.handle(&loaded.settings, id, message).await?;
                Ok((live, verdict, left))
            });
            bounded(loaded, meter, started, call).await
        };
        let (verdict, left) = match called {
            Ok((live, verdict, left)) => {
                self.keep(live);
                (verdict, left)
            }
            Err(failure) => (Verdict::Failed(failure), Left::default()),
        };
        let Left { follow_ups, mut results } = left;
        let result = results.remove(&message.id);
        let elapsed = started.elapsed();
        let cpu = self.meter.total(elapsed);
        Run { verdict, follow_ups, result, elapsed, cpu }
    }

    /// Calls a handler that takes batches with some messages, at least one. As with [`run`](Self::run), dropping
    /// the future interrupts it.
    ///
    /// # Panics
    /// If the handler takes one message a call, see [`Handler::batch_size`](super::Handler::batch_size).
    pub async fn run_batch(&mut self, messages: &[Message]) -> BatchRun {
        let started = Instant::now();
        let ready = self.take_warm(started);
        let Self { loaded, meter, .. } = self;
        let called = {
            let call = pin!(async {
                let subject = Subject::of_batch(&messages[0], messages.len() - 1);
                let mut live = Live::ready(ready, loaded, subject, meter, started).await?;
                let (verdicts, left) = live.handle_batch(&loaded.settings, messages).await?;
                Ok((live, verdicts, left))
            });
            bounded(loaded, meter, started, call).await
        };
        let (verdicts, left) = match called {
            Ok((live, verdicts, left)) => {
                self.keep(live);
                (Ok(verdicts), left)
            }
            Err(failure) => (Err(failure), Left::default()),
        };
        let Left { follow_ups, results } = left;
        let elapsed = started.elapsed();
        let cpu = self.meter.total(elapsed);
        BatchRun { verdicts, follow_ups, results, elapsed, cpu }
    }

    /// Taken, not borrowed: a call that fails, or is dropped in the middle, takes its sandbox along, for
    /// a trap poisons it. And the old one goes before a new one comes.
    fn take_warm(&mut self, now: Instant) -> Option<Box<Live>> {
        self.warm.take().filter(|live| live.is_usable(now))
    }

    fn keep(&mut self, live: Box<Live>) {
        if self.loaded.settings.isolation == Isolation::Batch && live.is_quiet() {
            self.warm = Some(live);
        }
    }
}

/// Bounds a call's wall time, and meters its time on a processor. Two guards of wall time: a guest that computes
/// is interrupted by a tick, one that waits in a call of the host by this. The call stays where it is pinned:
/// moving its state takes longer than a quick guest.
fn bounded<'a, T>(
    loaded: &Loaded,
    meter: &'a Meter,
    started: Instant,
    call: impl Future<Output = Result<T, Failure>> + Unpin + 'a,
) -> impl Future<Output = Result<T, Failure>> + 'a {
    let timeout = loaded.settings.limits.timeout;
    let mut metered = Metered::new(meter, call);
    let mut timer = None;
    poll_fn(move |cx| {
        if let Poll::Ready(called) = metered.poll_unpin(cx) {
            return Poll::Ready(called);
        }
        // Made for a call that waits: most do not. It rings also if the guest has used up its task's budget.
        let ring = || Box::pin(unconstrained(sleep_until((started + timeout).into())));
        timer.get_or_insert_with(ring).poll_unpin(cx).map(|()| Err(Failure::Timeout(timeout)))
    })
}
