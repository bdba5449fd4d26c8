//! A sandbox in which a guest is ready to be called: how it is made, and what is said in a call.
//! Never bounds a call's wall time: `runner` does.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wasmtime::{StoreContextMut, UpdateDeadline};

use super::bindings;
use super::bindings::host::jobs::types;
use super::code::{LoadedHandler, Pre};
use super::failure::{Exceeded, failure};
use super::log::Subject;
use super::meter::Meter;
use super::reclaim::Reclaimed;
use super::settings::HandlerSettings;
use super::state::{CallOutput, State};
use host_core::message::Message;
use host_core::policy::outcome::{Failure, Verdict};

/// Under `Isolation::Batch` a sandbox is replaced after so many messages: what a guest leaks is
/// bounded.
const MESSAGES_MAX: usize = 1_000;
/// And after so long.
const AGE_MAX: Duration = Duration::from_mins(1);
/// What a guest may hand to one call of the host, beyond what its follow-ups may hold, in bytes. A
/// text or payload over a limit of its own shall be refused by that limit, not trap here.
const HOSTCALL_BYTES: usize = 16 << 20;
/// Handles of resources that a guest may hold at once.
const HANDLES_MAX: usize = 1_024;

/// A sandbox between two calls.
pub(super) struct Instance {
    store: Reclaimed,
    guest: Guest,
    born: Instant,
    /// The same in milliseconds since 1970: a call's deadline is told from it, without a look at
    /// that clock.
    born_ms: u64,
    /// Messages, those of the next call included.
    served: usize,
}

enum Guest {
    One(bindings::Handler),
    Many(bindings::batch::BatchHandler),
}

impl Instance {
    /// The sandbox that is there, or a new one, for a call that has begun.
    pub(super) async fn ready(
        warm: Option<Box<Self>>,
        loaded: &LoadedHandler,
        subject: Subject,
        meter: &Arc<Meter>,
        started: Instant,
    ) -> Result<Box<Self>, Failure> {
        if let Some(mut instance) = warm {
            instance.store.data_mut().begin(subject, started);
            instance.store.set_epoch_deadline(1);
            return Ok(instance);
        }
        // On the heap: it would make the state of every call as large as that of the making of a
        // sandbox.
        Box::pin(Self::new(loaded, subject, meter, started)).await
    }

    async fn new(
        loaded: &LoadedHandler,
        subject: Subject,
        meter: &Arc<Meter>,
        started: Instant,
    ) -> Result<Box<Self>, Failure> {
        let limits = &loaded.settings.limits;
        let state = State::new(
            loaded.settings.clone(),
            loaded.http.clone(),
            subject,
            meter.clone(),
            started,
        );
        let mut store = Reclaimed::new(&loaded.code.reclaimer, state);
        store.limiter(|state| &mut state.usage);
        let follow_up_bytes = usize::try_from(limits.follow_up_bytes).unwrap_or(usize::MAX);
        store.set_hostcall_fuel(follow_up_bytes.saturating_add(HOSTCALL_BYTES));
        store.set_max_component_handles(HANDLES_MAX);
        store.epoch_deadline_callback(on_tick);
        store.set_epoch_deadline(1);
        let guest = match &loaded.code.pre {
            Pre::One(pre) => pre.instantiate_async(&mut *store).await.map(Guest::One),
            Pre::Many(pre) => pre.instantiate_async(&mut *store).await.map(Guest::Many),
        };
        match guest {
            Ok(guest) => {
                let born_ms =
                    since_1970_ms(SystemTime::now()) - started.elapsed().as_millis() as u64;
                Ok(Box::new(Self { store, guest, born: started, born_ms, served: 0 }))
            }
            Err(error) => Err(failure(&error, store.data_mut(), true)),
        }
    }

    /// Whether a further call may find it.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.served < MESSAGES_MAX && now.duration_since(self.born) < AGE_MAX
    }

    /// The most that its memories and tables can have, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.store.data().usage.bytes()
    }

    /// Whether nothing that a call has begun goes on without it.
    pub(super) fn is_quiet(&self) -> bool {
        self.store.data().is_quiet()
    }

    /// When the call that has begun must have ended.
    fn deadline_ms(&self, settings: &HandlerSettings) -> u64 {
        let time = self.store.data().started.duration_since(self.born) + settings.limits.timeout;
        self.born_ms + time.as_millis() as u64
    }

    /// Hands one message to the guest. `id` is the message's, as text.
    pub(super) async fn handle(
        &mut self,
        settings: &HandlerSettings,
        id: &str,
        message: &Message,
    ) -> Result<(Verdict, CallOutput), Failure> {
        let Guest::One(guest) = &self.guest else {
            let messages = std::slice::from_ref(message);
            let (mut verdicts, output) = Box::pin(self.handle_batch(settings, messages)).await?;
            return Ok((verdicts.remove(0), output));
        };
        self.served += 1;
        let headers = headers(message);
        let given = given(settings, self.deadline_ms(settings), id, &headers, message);
        match guest.call_handle(&mut *self.store, given).await {
            Ok(verdict) => {
                let state = self.store.data_mut();
                let verdict = in_words(verdict, |reason| state.shown(reason));
                let output = state.end(verdict == Verdict::Ack);
                Ok((verdict, output))
            }
            Err(error) => Err(failure(&error, self.store.data_mut(), false)),
        }
    }

    /// Hands many messages to the guest.
    pub(super) async fn handle_batch(
        &mut self,
        settings: &HandlerSettings,
        messages: &[Message],
    ) -> Result<(Vec<Verdict>, CallOutput), Failure> {
        let Guest::Many(guest) = &self.guest else { panic!("it takes one message a call") };
        self.served += messages.len();
        self.store.data_mut().with_others(messages[1..].iter().map(|message| message.id));
        let ids: Vec<String> = messages.iter().map(|message| message.id.to_string()).collect();
        let all_headers: Vec<_> = messages.iter().map(headers).collect();
        let deadline_ms = self.deadline_ms(settings);
        let parts = messages.iter().zip(&ids).zip(&all_headers);
        let all: Vec<_> = parts
            .map(|((message, id), headers)| given(settings, deadline_ms, id, headers, message))
            .collect();
        match guest.call_handle_batch(&mut *self.store, &all).await {
            Ok(verdicts) => {
                let state = self.store.data_mut();
                if verdicts.len() != messages.len() {
                    state.fail();
                    let (verdicts, messages) = (verdicts.len(), messages.len());
                    return Err(Failure::Verdicts { verdicts, messages });
                }
                let verdicts = verdicts.into_iter();
                let verdicts: Vec<_> =
                    verdicts.map(|v| in_words(v, |reason| state.shown(reason))).collect();
                let output = state.end(verdicts.contains(&Verdict::Ack));
                Ok((verdicts, output))
            }
            Err(error) => Err(failure(&error, self.store.data_mut(), false)),
        }
    }
}

fn headers(message: &Message) -> Vec<(&str, &str)> {
    message.headers.iter().collect()
}

/// A message as the guest is given it.
fn given<'a>(
    settings: &'a HandlerSettings,
    deadline_ms: u64,
    id: &'a str,
    headers: &'a [(&'a str, &'a str)],
    message: &'a Message,
) -> types::Message<'a> {
    types::Message {
        id,
        queue: &settings.queue,
        payload: &message.payload,
        content_type: settings.payload_type.content_type(),
        headers,
        attempt: message.attempt,
        max_attempts: settings.max_attempts,
        enqueued_at_ms: since_1970_ms(message.enqueued_at),
        deadline_ms,
        trace: trace_context(headers),
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
    if state.meter.used() > limits.cpu {
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
