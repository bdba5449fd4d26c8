//! The threads that compile components. A component of many megabytes takes seconds of every core,
//! and messages should not have to wait for it: these threads let all others go first.

use rayon::{ThreadPool, ThreadPoolBuilder};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::component_check::Refusal;
use super::error::SandboxError;

/// How much these threads give way: one of them has a tenth of what a busy thread beside it gets.
const NICENESS: i32 = 10;

/// Threads that compile, as many as there are cores.
pub(super) struct Compiler(ThreadPool);

impl Compiler {
    pub(super) fn new() -> Result<Self, SandboxError> {
        let pool = ThreadPoolBuilder::new()
            .thread_name(|n| format!("sandbox-compile-{n}"))
            // On Linux a thread's own; where it is refused, they are threads like all others.
            .start_handler(|_| _ = rustix::process::nice(NICENESS))
            .build();
        pool.map(Self).map_err(|error| SandboxError::Thread(error.to_string()))
    }

    /// Compiles a component, or takes its compiled code from the engine's cache.
    pub(super) fn compile(&self, engine: &Engine, wasm: &[u8]) -> Result<Component, Refusal> {
        let compiled = self.0.install(|| Component::from_binary(engine, wasm));
        compiled.map_err(|error| Refusal::Compile(format!("{error:#}")))
    }
}
