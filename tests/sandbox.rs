//! The sandbox against real components: what misbehaves is contained and named, what is no handler
//! is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use host_core::deployment::secret::Secrets;
use host_core::id::MessageId;
use host_core::limits::{Isolation, Limits};
use host_core::message::lane::Lanes;
use host_core::message::{Headers, Message, PayloadType, QueueShape};
use host_core::policy::outcome::{Failure, Verdict};
use host_sandbox::{Handler, HandlerSettings, Refusal, Run, Sandbox, SandboxConfig, SandboxError};

mod attacks;
mod batches;
mod contained;
mod flood;
mod http;
mod kept;
mod logged;
mod mutated;
mod plugins;
mod refused;
mod results;
mod secrets;
mod ssrf;
mod webhook;

/// Sandboxes of the pool that the tests share: as many as they hold at once, and a few.
const INSTANCES_MAX: u32 = 64;

/// One for all tests: a host has one too, and compiled components are worth sharing.
static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| {
    // Each test loads its plugin anew, with settings of its own: mostly from here.
    let cache_dir = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled"));
    let config = SandboxConfig { instances_max: INSTANCES_MAX, cache_dir };
    Sandbox::new(&config).expect("a sandbox")
});

/// The component that `make plugins` built.
fn plugin(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins");
    let path = dir.join(name).with_extension("wasm");
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run `make plugins`", path.display()))
}

/// A queue of every payload type, named after it, and a small one.
fn settings() -> HandlerSettings {
    let shape = |payload_type| QueueShape {
        payload_type,
        payload_bytes_max: 1 << 20,
        lanes: Lanes::One,
        is_unique: false,
    };
    let small = QueueShape { payload_bytes_max: 10, ..shape(PayloadType::Text) };
    let mut targets = vec![
        ("small".to_owned(), small),
        ("outbox".to_owned(), shape(PayloadType::Jsonb)),
        ("thumbnails".to_owned(), shape(PayloadType::Bytea)),
    ];
    targets.extend(PayloadType::ALL.map(|kind| (kind.sql_name().to_owned(), shape(kind))));
    let targets = targets.into_iter().collect();
    HandlerSettings {
        queue: "work".into(),
        version: 3,
        payload_type: PayloadType::Text,
        max_attempts: 5,
        limits: Limits::default(),
        batch_size: None,
        isolation: Isolation::Message,
        config: BTreeMap::new(),
        http: vec![],
        secret_names: BTreeSet::new(),
        secrets: Secrets::default(),
        targets: Arc::new(ArcSwap::from_pointee(targets)),
    }
}

/// A handler of a component.
fn made(sandbox: &Sandbox, wasm: &[u8], settings: HandlerSettings) -> Result<Handler, Refusal> {
    sandbox.handler(&sandbox.compile(wasm)?, settings)
}

fn load(name: &str, settings: HandlerSettings) -> Handler {
    made(&SANDBOX, &plugin(name), settings).expect("a handler")
}

fn message(payload: impl Into<bytes::Bytes>) -> Message {
    Message {
        position: 0,
        id: MessageId::new(100_000_000_007),
        attempt: 1,
        enqueued_at: SystemTime::now(),
        headers: Headers::default(),
        payload: payload.into(),
        unreadable: None,
    }
}

/// Runs one command of `misbehave` in a sandbox of its own.
async fn misbehave(settings: HandlerSettings, command: &'static str) -> Run {
    load("misbehave", settings).runner().run(&message(command)).await
}

fn with_limits(change: impl FnOnce(&mut Limits)) -> HandlerSettings {
    let mut settings = settings();
    change(&mut settings.limits);
    settings
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("valid text format")
}

/// The body of a function `handle` that acks: the verdict at 0 is zero.
pub const ACKS: &str = "(i32.const 0)";

/// A component of the world `handler`, made of this core module's memory and more, and the body of
/// its `handle`.
pub fn handler_of(core: &str, handle: &str) -> Vec<u8> {
    wat(&handler_text(core, handle))
}

pub fn handler_text(core: &str, handle: &str) -> String {
    format!(
        r#"(component
        (import "host:jobs/types@1.0.0" (instance $types
            (type $trace' (record (field "traceparent" string) (field "tracestate" string)))
            (export "trace-context" (type $trace (eq $trace')))
            (type $message' (record
                (field "id" string) (field "queue" string) (field "payload" (list u8))
                (field "content-type" string) (field "headers" (list (tuple string string)))
                (field "attempt" u32) (field "max-attempts" u32) (field "enqueued-at-ms" u64)
                (field "deadline-ms" u64) (field "trace" (option $trace))))
            (export "message" (type (eq $message')))
            (type $retry' (record (field "after-ms" (option u64)) (field "reason" string)))
            (export "retry-options" (type $retry (eq $retry')))
            (type $failure' (record (field "reason" string)))
            (export "failure" (type $failure (eq $failure')))
            (type $verdict' (variant (case "ack") (case "retry" $retry)
                (case "dead-letter" $failure)))
            (export "verdict" (type (eq $verdict')))))
        (alias export $types "message" (type $message))
        (alias export $types "verdict" (type $verdict))
        (core module $m
            {core}
            ;; Everything it is given goes to one place.
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func (export "handle") (param i32) (result i32) {handle}))
        (core instance $i (instantiate $m))
        (func (export "handle") (param "message" $message) (result $verdict)
            (canon lift (core func $i "handle") (memory (core memory $i "memory"))
                (realloc (core func $i "realloc")))))"#
    )
}
