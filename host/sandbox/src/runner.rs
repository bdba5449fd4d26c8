//! Runs messages: calls the guest, bounds the call, keeps the sandbox for the next one if it may.
//! Knows nothing of leases; messages go in, verdicts come out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::code::LoadedHandler;
use super::instance::Instance;
use super::log::Subject;
use super::meter::{Busy, Meter};
use super::state::CallOutput;
use super::timeout::within_timeout;
use host_core::id::MessageId;
use host_core::limits::Isolation;
use host_core::message::{FollowUp, Message};
use host_core::policy::outcome::{Failure, Verdict};

/// One worker's sandbox.
///
/// While it lives it may hold one of [`SandboxConfig::instances_max`](super::SandboxConfig): under
/// [`Isolation::Batch`] also between two messages. Whoever makes runners must not have more of them
/// than that.
pub struct Runner {
    loaded: Arc<LoadedHandler>,
    meter: Arc<Meter>,
    /// The sandbox that the next call finds, under [`Isolation::Batch`]. It changes hands with each
    /// call.
    warm: Option<Box<Instance>>,
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
    /// What the handler output as the result; `None` unless the verdict is [`Verdict::Ack`].
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
    /// Messages that the handler enqueued; empty unless a verdict is [`Verdict::Ack`].
    pub follow_ups: Vec<FollowUp>,
    /// What the handler output as results, acked or not.
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
    pub(super) fn new(loaded: Arc<LoadedHandler>) -> Self {
        Self { loaded, meter: Arc::default(), warm: None, id: String::new() }
    }

    /// The memory of the sandbox that the next message would find, in bytes; `None`: there is none.
    #[must_use]
    pub fn warm_bytes(&self) -> Option<u64> {
        self.warm.as_ref().map(|instance| instance.bytes())
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
                let mut instance = Instance::ready(ready, loaded, subject, meter, started).await?;
                let (verdict, output) = instance.handle(&loaded.settings, id, message).await?;
                Ok((instance, verdict, output))
            });
            within_timeout(loaded.settings.limits.timeout, meter, started, call).await
        };
        let (verdict, output) = match called {
            Ok((instance, verdict, output)) => {
                self.keep(instance);
                (verdict, output)
            }
            Err(failure) => (Verdict::Failed(failure), CallOutput::default()),
        };
        let CallOutput { follow_ups, mut results } = output;
        let result = results.remove(&message.id);
        let elapsed = started.elapsed();
        let cpu = self.meter.total(elapsed);
        Run { verdict, follow_ups, result, elapsed, cpu }
    }

    /// Calls a handler that takes batches with some messages, at least one. As with
    /// [`run`](Self::run), dropping the future interrupts it.
    ///
    /// # Panics
    /// If the handler takes one message a call, see
    /// [`Handler::batch_size`](super::Handler::batch_size).
    pub async fn run_batch(&mut self, messages: &[Message]) -> BatchRun {
        let started = Instant::now();
        let ready = self.take_warm(started);
        let Self { loaded, meter, .. } = self;
        let called = {
            let call = pin!(async {
                let subject = Subject::of_batch(&messages[0], messages.len() - 1);
                let mut instance = Instance::ready(ready, loaded, subject, meter, started).await?;
                let (verdicts, output) = instance.handle_batch(&loaded.settings, messages).await?;
                Ok((instance, verdicts, output))
            });
            within_timeout(loaded.settings.limits.timeout, meter, started, call).await
        };
        let (verdicts, output) = match called {
            Ok((instance, verdicts, output)) => {
                self.keep(instance);
                (Ok(verdicts), output)
            }
            Err(failure) => (Err(failure), CallOutput::default()),
        };
        let CallOutput { follow_ups, results } = output;
        let elapsed = started.elapsed();
        let cpu = self.meter.total(elapsed);
        BatchRun { verdicts, follow_ups, results, elapsed, cpu }
    }

    /// Taken, not borrowed: a call that fails, or is dropped in the middle, takes its sandbox
    /// along, for a trap poisons it. And the old one goes before a new one comes.
    fn take_warm(&mut self, now: Instant) -> Option<Box<Instance>> {
        self.warm.take().filter(|instance| instance.is_usable(now))
    }

    fn keep(&mut self, instance: Box<Instance>) {
        if self.loaded.settings.isolation == Isolation::Batch && instance.is_quiet() {
            self.warm = Some(instance);
        }
    }
}
