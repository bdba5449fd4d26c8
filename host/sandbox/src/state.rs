//! What a host keeps for one sandbox, and the calls that a guest makes into it. Never does I/O:
//! logs go to `tracing`, follow-ups into a list, requests to `http`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::ResourceLimiter;
use wasmtime::component::{HasData, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::bindings::host::jobs::{config, log, queue, results, secrets, types};
use super::http::{Clients, Http};
use super::log::{GuestLog, Subject};
use super::meter::Meter;
use super::settings::HandlerSettings;
use host_core::id::MessageId;
use host_core::limits::{Limits, RESULT_BYTES_MAX};
use host_core::message::lane::Priority;
use host_core::message::{FOLLOW_UP_DELAY_MAX, FollowUp, check_headers};

/// Streams, timers and the like that a guest may have open at once.
const RESOURCES_MAX: usize = 256;
/// The most random bytes that a guest gets at once.
const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// Entries of all tables together.
const TABLE_ELEMENTS_MAX: usize = 200_000;
/// What an entry takes, at most: some kinds of reference are smaller.
const TABLE_ELEMENT_BYTES: usize = 16;
/// What a header costs the host beside its text.
const HEADER_BYTES: usize = size_of::<(String, String)>();

/// The state of one sandbox.
pub(super) struct State {
    settings: Arc<HandlerSettings>,
    http_clients: Option<Arc<Clients>>,
    /// Made on first use. Stands before `resources`, to be dropped before them.
    http: Option<Box<Http>>,
    /// Made on first use; most handlers never call WASI.
    wasi: Option<WasiCtx>,
    resources: ResourceTable,
    log: GuestLog,
    /// The messages of this call: the first, and those besides.
    first: MessageId,
    others: Vec<MessageId>,
    output: CallOutput,
    /// The size of the output.
    output_bytes: u64,
    pub(super) usage: Usage,
    pub(super) meter: Arc<Meter>,
    pub(super) started: Instant,
}

/// The output of a call, for its acks.
#[derive(Default)]
pub(super) struct CallOutput {
    /// What it enqueued.
    pub(super) follow_ups: Vec<FollowUp>,
    /// The results that it set, acked or not. Nothing is hashed where there are none.
    pub(super) results: BTreeMap<MessageId, Vec<u8>>,
}

impl State {
    /// The state of a new sandbox, whose first call is of these messages.
    pub(super) fn new(
        settings: Arc<HandlerSettings>,
        http_clients: Option<Arc<Clients>>,
        subject: Subject,
        meter: Arc<Meter>,
        started: Instant,
    ) -> Self {
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(RESOURCES_MAX);
        Self {
            log: GuestLog::new(settings.clone(), subject),
            usage: Usage::new(&settings.limits),
            settings,
            http_clients,
            http: None,
            wasi: None,
            resources,
            first: subject.first(),
            others: Vec::new(),
            output: CallOutput::default(),
            output_bytes: 0,
            meter,
            started,
        }
    }

    /// Begins a further call: what the one before has used up is forgotten.
    pub(super) fn begin(&mut self, subject: Subject, started: Instant) {
        self.started = started;
        self.first = subject.first();
        self.others.clear();
        self.usage.memory_refused = false;
        self.log.begin(subject);
        if let Some(http) = &mut self.http {
            http.begin();
        }
    }

    /// Whether nothing that a call has begun goes on without it.
    pub(super) fn is_quiet(&self) -> bool {
        self.http.as_ref().is_none_or(|http| http.is_quiet())
    }

    /// Says in the guest's log what its host has refused.
    pub(super) fn warn(&self, text: &str) {
        self.log.write(log::Level::Warn, text);
    }

    /// A text of the guest's, without the secrets that it was given.
    pub(super) fn shown(&self, text: String) -> String {
        self.log.shown(text)
    }

    /// Says of which messages the call is that has begun, besides the first.
    pub(super) fn with_others(&mut self, others: impl Iterator<Item = MessageId>) {
        self.others.extend(others);
    }

    /// Ends a call that gave a verdict. Returns the guest's output, or none if it is not kept.
    pub(super) fn end(&mut self, keep: bool) -> CallOutput {
        self.log.end();
        self.output_bytes = 0;
        let output = std::mem::take(&mut self.output);
        if keep { output } else { CallOutput::default() }
    }

    /// Ends a call that failed. Returns the guest's last words, if it panicked.
    pub(super) fn fail(&mut self) -> Option<String> {
        self.log.end();
        self.log.panic()
    }

    /// What a call may use.
    pub(super) fn limits(&self) -> &Limits {
        &self.settings.limits
    }
}

impl HasData for State {
    type Data<'a> = &'a mut State;
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let log = &self.log;
        let ctx = self.wasi.get_or_insert_with(|| {
            WasiCtx::builder()
                .stdout(log.stdout())
                .stderr(log.stderr())
                .max_random_size(RANDOM_BYTES_MAX)
                .allow_tcp(false)
                .allow_udp(false)
                .build()
        });
        WasiCtxView { ctx, table: &mut self.resources }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let Self { settings, http_clients, http, log, resources, .. } = self;
        let http = http.get_or_insert_with(|| {
            let clients = http_clients.clone().expect("a guest that calls it has imported it");
            Box::new(Http::new(settings.clone(), clients, log.clone()))
        });
        WasiHttpCtxView { hooks: &mut http.hooks, table: resources, ctx: &mut http.ctx }
    }
}

impl types::Host for State {}

impl log::Host for State {
    fn write(&mut self, level: log::Level, text: String) -> wasmtime::Result<()> {
        self.log.write(level, &text);
        Ok(())
    }
}

impl config::Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.settings.config.get(&key).cloned())
    }

    fn get_all(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.settings.config.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

impl secrets::Host for State {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        let granted = self.settings.secret_names.iter().find(|granted| granted.as_str() == name);
        let secrets = self.settings.secrets.load();
        let Some(secret) = granted.and_then(|name| secrets.get(name)) else { return Ok(None) };
        self.log.hide(secret);
        Ok(Some(secret.reveal().to_owned()))
    }
}

impl queue::Host for State {
    fn enqueue(
        &mut self,
        message: queue::FollowUp,
    ) -> wasmtime::Result<Result<(), queue::Refusal>> {
        Ok(self.accept(message))
    }
}

impl results::Host for State {
    fn set(
        &mut self,
        id: String,
        bytes: Vec<u8>,
    ) -> wasmtime::Result<Result<(), results::Refusal>> {
        Ok(self.set_result(id, bytes))
    }
}

impl State {
    /// Finds what Postgres would refuse, and with it the whole settlement; the cheap questions
    /// first.
    fn accept(&mut self, message: queue::FollowUp) -> Result<(), queue::Refusal> {
        let targets = self.settings.targets.load();
        if !targets.has(&message.queue) {
            return Err(queue::Refusal::UnknownQueue(message.queue));
        }
        let shape = targets.shape(&message.queue);
        if let Some(shape) = shape
            && message.payload.len() as u64 > shape.payload_bytes_max
        {
            return Err(queue::Refusal::PayloadTooLarge(shape.payload_bytes_max));
        }
        let limits = &self.settings.limits;
        if self.output.follow_ups.len() >= limits.follow_ups as usize {
            let text = format!("{} follow-up messages a call", limits.follow_ups);
            return Err(queue::Refusal::LimitExceeded(text));
        }
        let bytes = self.output_bytes + bytes_of(&message);
        if bytes > limits.follow_up_bytes {
            let text = format!("{} bytes of follow-up messages a call", limits.follow_up_bytes);
            return Err(queue::Refusal::LimitExceeded(text));
        }
        if let Some(shape) = shape {
            let stored = shape.payload_type.check(&message.payload);
            if stored.map_err(queue::Refusal::InvalidPayload)? > shape.payload_bytes_max {
                return Err(queue::Refusal::PayloadTooLarge(shape.payload_bytes_max));
            }
        }
        check_headers(&message.headers).map_err(queue::Refusal::InvalidPayload)?;
        let delay = Duration::from_millis(message.delay_ms);
        if delay > FOLLOW_UP_DELAY_MAX {
            let years = FOLLOW_UP_DELAY_MAX.as_secs() / (365 * 24 * 60 * 60);
            let text = format!("queue {} takes no delay beyond {years} years", message.queue);
            return Err(queue::Refusal::NotTaken(text));
        }
        let priority = message.priority.map(priority_of);
        if let Some(shape) = shape {
            shape.check(message.key.as_deref(), priority, message.unique_key.as_deref()).map_err(
                |lack| queue::Refusal::NotTaken(format!("queue {} {lack}", message.queue)),
            )?;
        }
        self.output_bytes = bytes;
        self.output.follow_ups.push(FollowUp {
            queue: message.queue,
            payload: message.payload,
            headers: message.headers,
            delay,
            key: message.key,
            priority,
            unique_key: message.unique_key,
            hidden: self.log.hidden(),
        });
        Ok(())
    }

    fn set_result(&mut self, id: String, bytes: Vec<u8>) -> Result<(), results::Refusal> {
        let known = id.parse().map(MessageId::new).ok();
        let known = known.filter(|id| self.first == *id || self.others.contains(id));
        let Some(message) = known else { return Err(results::Refusal::UnknownMessage(id)) };
        if bytes.len() > RESULT_BYTES_MAX {
            return Err(results::Refusal::TooLarge(RESULT_BYTES_MAX as u64));
        }
        let before = self.output.results.get(&message).map_or(0, Vec::len) as u64;
        let left_bytes = self.output_bytes - before + bytes.len() as u64;
        let bytes_max = self.settings.limits.follow_up_bytes;
        if left_bytes > bytes_max {
            let text = format!("{bytes_max} bytes of follow-up messages and results a call");
            return Err(results::Refusal::LimitExceeded(text));
        }
        self.output_bytes = left_bytes;
        self.output.results.insert(message, bytes);
        Ok(())
    }
}

/// What a follow-up costs the host.
fn bytes_of(message: &queue::FollowUp) -> u64 {
    let header = |(key, value): &(String, String)| key.len() + value.len() + HEADER_BYTES;
    let keys = [&message.key, &message.unique_key].into_iter().flatten().map(String::len);
    let headers = message.headers.iter().map(header);
    (message.payload.len() + headers.chain(keys).sum::<usize>()) as u64
}

const fn priority_of(priority: queue::Priority) -> Priority {
    match priority {
        queue::Priority::High => Priority::High,
        queue::Priority::Normal => Priority::Normal,
        queue::Priority::Low => Priority::Low,
    }
}

/// How much of the host a sandbox holds, and whether it asked for more than it may.
pub(super) struct Usage {
    memory_bytes: u64,
    memory_bytes_max: u64,
    table_elements: usize,
    /// The guest was refused memory in this call: if it dies now, that is why.
    pub(super) memory_refused: bool,
}

impl Usage {
    fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes: 0,
            memory_bytes_max: limits.memory_bytes,
            table_elements: 0,
            memory_refused: false,
        }
    }
}

impl Usage {
    /// The most that the sandbox's memories and tables can have in the host's memory.
    pub(super) const fn bytes(&self) -> u64 {
        self.memory_bytes + (self.table_elements * TABLE_ELEMENT_BYTES) as u64
    }
}

impl ResourceLimiter for Usage {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // All memories of the component together.
        let wanted = self.memory_bytes + desired.saturating_sub(current) as u64;
        let granted = wanted <= self.memory_bytes_max;
        if granted {
            self.memory_bytes = wanted;
        } else {
            self.memory_refused = true;
        }
        Ok(granted)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let wanted = self.table_elements + desired.saturating_sub(current);
        let granted = wanted <= TABLE_ELEMENTS_MAX;
        if granted {
            self.table_elements = wanted;
        }
        Ok(granted)
    }
}
