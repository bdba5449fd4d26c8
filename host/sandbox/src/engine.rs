//! The two wasmtime engines: how they are set up, and the clock that interrupts guests. Never looks
//! at a component's meaning and never runs a guest.

use std::sync::Arc;
use std::thread;

use wasmtime::component::Linker;
use wasmtime::{
    Cache, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use super::bindings;
use super::error::SandboxError;
use super::http::requests;
use super::image::Image;
use super::meter::TICK;
use super::reclaim::{BATCH, Reclaimer};
use super::state::State;

/// Core modules of one component: wit-bindgen's tools make three or four of it, componentize-py 38
/// of an empty Python handler, one for each library of its own.
const CORE_INSTANCES_PER_COMPONENT: u32 = 64;
/// Bytes that the globals, imports and functions of one core instance take beside its memory. No
/// limit of a deployment counts them, so all of them together bound what a sandbox takes beyond its
/// limits.
const CORE_INSTANCE_BYTES_MAX: usize = 2 << 20;
/// Memories and tables of one component; one of each is usual. componentize-qjs makes three
/// memories.
const MEMORIES_PER_COMPONENT: u32 = 4;
const TABLES_PER_COMPONENT: u32 = 4;
/// Functions that a component calls through pointers; scripting runtimes have tens of thousands.
const TABLE_ELEMENTS_MAX: usize = 100_000;

/// [`Reclaimer`]s that the pool has room for at a time. A further one finds no tables, which has
/// the same effect.
const RECLAIMERS_MAX: u32 = 16;

/// An engine and what it offers to guests.
pub(super) struct GuestEngine {
    pub(super) engine: Engine,
    pub(super) linker: Linker<State>,
    pub(super) reclaimer: Arc<Reclaimer>,
}

impl GuestEngine {
    /// Sets up an engine with a pool of `instances_max` sandboxes, and starts its clock.
    pub(super) fn new(
        image: Image,
        instances_max: u32,
        cache: Option<&Cache>,
    ) -> Result<Self, SandboxError> {
        let pooled = config(image, cache, Some(instances_max));
        let engine = Engine::new(&pooled).or_else(|error| {
            // A pool reserves gigabytes of addresses for each memory; `ulimit -v` may forbid it.
            tracing::warn!(
                instances_max,
                error = format!("{error:#}"),
                "no address space for a pool of sandboxes: each is allocated when needed, which is \
                 slower"
            );
            Engine::new(&config(image, cache, None))
        });
        let engine = engine.map_err(SandboxError::engine)?;
        let reclaimer = Arc::new(Reclaimer::new(engine.clone(), image));
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(SandboxError::engine)?;
        bindings::Handler::add_to_linker::<State, State>(&mut linker, |state| state)
            .map_err(SandboxError::engine)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)
            .map_err(SandboxError::engine)?;
        requests::bound(&mut linker).map_err(SandboxError::engine)?;
        tick(&engine)?;
        Ok(Self { engine, linker, reclaimer })
    }
}

fn config(image: Image, cache: Option<&Cache>, pool: Option<u32>) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .memory_init_cow(image == Image::Big)
        // Otherwise an environment variable of the host would decide.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .cache(cache.cloned());
    if let Some(instances_max) = pool {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool_of(instances_max)));
    }
    config
}

fn pool_of(instances_max: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances_max)
        .total_core_instances(instances_max.saturating_mul(CORE_INSTANCES_PER_COMPONENT) + 1_000)
        .total_memories(instances_max.saturating_mul(MEMORIES_PER_COMPONENT))
        .total_tables(instances_max.saturating_mul(TABLES_PER_COMPONENT) + RECLAIMERS_MAX * BATCH)
        .total_stacks(instances_max)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        // Those of a component are fewer; a [`Reclaimer`] has them all in one module.
        .max_tables_per_module(BATCH)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_core_instance_size(CORE_INSTANCE_BYTES_MAX)
        .max_component_instance_size(10 << 20)
        // A table has a few hundred entries: wiping them beats giving a page back and faulting it
        // in anew.
        .table_keep_resident(64 << 10)
        .decommit_batch_size(BATCH as usize);
    pool
}

/// Advances the engine's epoch from a thread of its own, since a tokio worker may be the very one
/// that a guest keeps busy. Ends with the engine.
fn tick(engine: &Engine) -> Result<(), SandboxError> {
    let engine = engine.weak();
    thread::Builder::new()
        .name("sandbox-tick".into())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                thread::sleep(TICK);
            }
        })
        .map(drop)
        .map_err(|error| SandboxError::Thread(error.to_string()))
}
