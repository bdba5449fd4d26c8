//! Runs messages: makes a sandbox, calls the guest, bounds the call, names what went wrong. Knows
//! nothing of leases; a message goes in, a verdict comes out.

use std::fmt::Write;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wasmtime::{Store, StoreContextMut, UpdateDeadline};

use super::Loaded;
use super::bindings;
use super::bindings::host::jobs::types;
use super::failure::{Exceeded, failure};
use super::meter::{Busy, Meter, Metered};
use super::state::State;
use crate::limits::Isolation;
use crate::message::{FollowUp, Message};
use crate::outcome::{Failure, Verdict};

/// Under `Isolation::Batch` a sandbox is replaced after so many messages: what a guest leaks is
/// bounded.
const MESSAGES_MAX: u32 = 1_000;
/// And after so long.
const AGE_MAX: Duration = Duration::from_mins(1);
/// What a guest may hand to one call of the host, beyond what its follow-ups may hold, in bytes. A
/// text or payload over a limit of its own shall be refused by that limit, not trap here.
const HOSTCALL_BYTES: usize = 16 << 20;
/// Handles of resources that a guest may hold at once.
const HANDLES_MAX: usize = 1_024;

/// One worker's sandbox.
///
/// While it lives it may hold one of [`SandboxConfig::instances_max`](super::SandboxConfig): under
/// [`Isolation::Batch`] also between two messages. Whoever makes runners must not have more of them
/// than that.
pub struct Runner {
    loaded: Arc<Loaded>,
    meter: Arc<Meter>,
    /// The sandbox that the next message finds, under [`Isolation::Batch`].
    warm: Option<Live>,
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
    /// From the call to its verdict, the making of a sandbox included.
    pub elapsed: Duration,
    /// Of that, on a processor.
    pub cpu: Duration,
}

/// A sandbox in which a guest is ready to be called.
struct Live {
    store: Store<State>,
    guest: bindings::Handler,
    born: Instant,
    served: u32,
}

impl Runner {
    pub(super) fn new(loaded: Arc<Loaded>) -> Self {
        Self { loaded, meter: Arc::default(), warm: None, id: String::new() }
    }

    /// Whether it holds a sandbox that the next message would find.
    #[must_use]
    pub const fn is_warm(&self) -> bool {
        self.warm.is_some()
    }

    /// Calls the handler with one message. It never fails: a failure is a [`Verdict::Failed`].
    ///
    /// Needs a tokio runtime with time. Dropping the future interrupts the guest at its next turn
    /// and frees its sandbox.
    pub async fn run(&mut self, message: &Message) -> Run {
        let started = Instant::now();
        let timeout = self.loaded.settings.limits.timeout;
        // Two guards of wall time: a guest that computes is interrupted by a tick, one that waits in
        // a call of the host by this.
        let deadline = (started + timeout).into();
        let called = tokio::time::timeout_at(deadline, self.call(message, started)).await;
        let (verdict, follow_ups) = match called {
            Ok(Ok(done)) => done,
            Ok(Err(failure)) => (Verdict::Failed(failure), Vec::new()),
            Err(_elapsed) => (Verdict::Failed(Failure::Timeout(timeout)), Vec::new()),
        };
        Run { verdict, follow_ups, elapsed: started.elapsed(), cpu: self.meter.total(started) }
    }

    /// How busy its call is, to be asked while that runs.
    #[must_use]
    pub fn busy(&self) -> Busy {
        Busy::of(self.meter.clone())
    }

    async fn call(
        &mut self,
        message: &Message,
        started: Instant,
    ) -> Result<(Verdict, Vec<FollowUp>), Failure> {
        let Self { loaded, meter, warm, id, .. } = self;
        id.clear();
        // Writing to a string cannot fail.
        let _ = write!(id, "{}", message.id);
        // Taken, not borrowed: a call that fails, or is dropped in the middle, takes its sandbox
        // along, for a trap poisons it. And the old one goes before a new one comes.
        let ready = warm.take().filter(|live| live.is_usable(started));
        let call = async {
            let mut live = match ready {
                Some(live) => live,
                None => Live::start(loaded, message, meter, started).await?,
            };
            let done = live.handle(loaded, id, message, started).await?;
            Ok((live, done))
        };
        let (live, done) = Metered::new(meter.clone(), started, pin!(call)).await?;
        if loaded.settings.isolation == Isolation::Batch && live.store.data().is_quiet() {
            *warm = Some(live);
        }
        Ok(done)
    }
}

impl Live {
    async fn start(
        loaded: &Loaded,
        message: &Message,
        meter: &Arc<Meter>,
        started: Instant,
    ) -> Result<Self, Failure> {
        let settings = &loaded.settings;
        let state = State::new(loaded, message, meter.clone(), started);
        let mut store = Store::new(loaded.pre.engine(), state);
        store.limiter(|state| &mut state.usage);
        let follow_up_bytes =
            usize::try_from(settings.limits.follow_up_bytes).unwrap_or(usize::MAX);
        store.set_hostcall_fuel(follow_up_bytes.saturating_add(HOSTCALL_BYTES));
        store.set_max_component_handles(HANDLES_MAX);
        store.epoch_deadline_callback(on_tick);
        store.set_epoch_deadline(1);
        match loaded.pre.instantiate_async(&mut store).await {
            Ok(guest) => Ok(Self { store, guest, born: started, served: 0 }),
            Err(error) => Err(failure(&error, store.data_mut(), true)),
        }
    }

    fn is_usable(&self, now: Instant) -> bool {
        self.served < MESSAGES_MAX && now.duration_since(self.born) < AGE_MAX
    }

    async fn handle(
        &mut self,
        loaded: &Loaded,
        id: &str,
        message: &Message,
        started: Instant,
    ) -> Result<(Verdict, Vec<FollowUp>), Failure> {
        let settings = &loaded.settings;
        if self.served > 0 {
            self.store.data_mut().begin(message, started);
            self.store.set_epoch_deadline(1);
        }
        self.served += 1;
        let headers: Vec<_> =
            message.headers.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let message = bindings::Message {
            id,
            queue: &settings.queue,
            payload: &message.payload,
            content_type: settings.payload_type.content_type(),
            headers: &headers,
            attempt: message.attempt,
            max_attempts: settings.max_attempts,
            enqueued_at_ms: since_1970_ms(message.enqueued_at),
            deadline_ms: since_1970_ms(SystemTime::now() + settings.limits.timeout),
            trace: trace_context(&headers),
        };
        match self.guest.call_handle(&mut self.store, message).await {
            Ok(verdict) => {
                let state = self.store.data_mut();
                let verdict = in_words(verdict, |reason| state.shown(reason));
                let follow_ups = state.end(verdict == Verdict::Ack);
                Ok((verdict, follow_ups))
            }
            Err(error) => Err(failure(&error, self.store.data_mut(), false)),
        }
    }
}

/// The guest's verdict in the host's words; `shown` makes its reason fit to be read.
fn in_words(verdict: types::Verdict, shown: impl Fn(String) -> String) -> Verdict {
    match verdict {
        types::Verdict::Ack => Verdict::Ack,
        types::Verdict::Retry(types::RetryOptions { after_ms, reason }) => {
            Verdict::Retry { after: after_ms.map(Duration::from_millis), reason: shown(reason) }
        }
        types::Verdict::DeadLetter(types::Failure { reason }) => {
            Verdict::DeadLetter { reason: shown(reason) }
        }
    }
}

/// Called from within the guest, at the first turn of a loop or call of a function after each tick.
#[expect(clippy::needless_pass_by_value, reason = "the signature is wasmtime's")]
fn on_tick(store: StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    let state = store.data();
    let limits = state.limits();
    if state.meter.used(state.started) > limits.cpu {
        return Err(Exceeded::Cpu.into());
    }
    if state.started.elapsed() > limits.timeout {
        return Err(Exceeded::Timeout.into());
    }
    // Through tokio, whose budget a bare yield would get around.
    Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
}

fn since_1970_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn trace_context<'a>(headers: &[(&'a str, &'a str)]) -> Option<types::TraceContext<'a>> {
    let find = |name| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let traceparent = find("traceparent")?;
    Some(types::TraceContext { traceparent, tracestate: find("tracestate").unwrap_or_default() })
}
