//! What other crates load and run handlers with: a sandbox compiles components, and makes handlers
//! of them.

use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::Cache;
use wasmtime::component::Component;

use super::code::{Code, LoadedHandler, Pre};
use super::compiler::Compiler;
use super::component_check::{self, Refusal};
use super::engine::GuestEngine;
use super::error::SandboxError;
use super::image::Image;
use super::runner::Runner;
use super::settings::{HandlerSettings, SandboxConfig};
use super::{bindings, cache, http};
use host_core::deployment::grant::HttpGrant;
use host_core::limits::BATCH_SIZE_DEFAULT;

/// Loads handlers. One a host; cheap to clone.
#[derive(Clone)]
pub struct Sandbox(Arc<SandboxParts>);

struct SandboxParts {
    instances_max: u32,
    cache: Option<Cache>,
    compiler: Compiler,
    small: Arc<GuestEngine>,
    /// Made when the first component asks for it: many hosts never need it.
    big: Mutex<Option<Arc<GuestEngine>>>,
    tls: http::Tls,
    peers: http::Peers,
}

/// A component, checked and compiled. Its handlers share the compiled code. Cheap to clone.
#[derive(Clone)]
pub struct Compiled(Arc<Code>);

/// A version of a handler, compiled and ready. Cheap to clone.
#[derive(Clone)]
pub struct Handler(Arc<LoadedHandler>);

impl Sandbox {
    /// Sets up the engine, its pool and its cache.
    ///
    /// # Errors
    /// If the machine does not allow it, or the cache directory is not this host's own.
    pub fn new(config: &SandboxConfig) -> Result<Self, SandboxError> {
        let cache = config.cache_dir.as_deref().map(cache::open).transpose()?;
        let small = Arc::new(GuestEngine::new(Image::Small, config.instances_max, cache.as_ref())?);
        Ok(Self(Arc::new(SandboxParts {
            instances_max: config.instances_max,
            cache,
            compiler: Compiler::new()?,
            small,
            big: Mutex::default(),
            tls: http::Tls::default(),
            peers: http::Peers::default(),
        })))
    }

    /// Checks a component and compiles it, or takes its compiled code from the cache.
    ///
    /// Takes up to seconds of processor time: call it on a thread that may block.
    ///
    /// # Errors
    /// Why the component cannot be deployed here.
    pub fn compile(&self, wasm: &[u8]) -> Result<Compiled, Refusal> {
        let inspected = component_check::inspect(wasm)?;
        let guest_engine = self.guest_engine(inspected.image)?;
        let component = self.0.compiler.compile(&guest_engine.engine, wasm)?;
        let interface = |error: wasmtime::Error| Refusal::Interface(format!("{error:#}"));
        let pre = guest_engine.linker.instantiate_pre(&component).map_err(interface)?;
        let pre = if inspected.takes_batches {
            Pre::Many(bindings::batch::BatchHandlerPre::new(pre).map_err(interface)?)
        } else {
            Pre::One(bindings::HandlerPre::new(pre).map_err(interface)?)
        };
        let initial_memory_bytes = initial_memory_bytes(&component);
        Ok(Compiled(Arc::new(Code {
            pre,
            reclaimer: guest_engine.reclaimer.clone(),
            initial_memory_bytes,
            has_http: inspected.has_http,
        })))
    }

    /// Makes a handler of a compiled component.
    ///
    /// # Errors
    /// Why the component cannot run under these settings.
    pub fn handler(
        &self,
        compiled: &Compiled,
        settings: HandlerSettings,
    ) -> Result<Handler, Refusal> {
        let code = compiled.0.clone();
        let needed_bytes = code.initial_memory_bytes;
        let limit_bytes = settings.limits.memory_bytes;
        if needed_bytes > limit_bytes {
            return Err(Refusal::Memory { needed_bytes, limit_bytes });
        }
        let http = code.has_http.then(|| self.http_clients(&settings)).transpose()?;
        Ok(Handler(Arc::new(LoadedHandler { code, settings: Arc::new(settings), http })))
    }

    /// Components that were taken from the cache instead of compiled, since the host started.
    #[must_use]
    pub fn cache_hits(&self) -> usize {
        self.0.cache.as_ref().map_or(0, Cache::cache_hits)
    }

    fn http_clients(&self, settings: &HandlerSettings) -> Result<Arc<http::Clients>, SandboxError> {
        let verifies = settings.http.iter().any(HttpGrant::is_https);
        // A guest that chooses its servers could have a connection kept to each of ever more.
        let keeps = !settings.http.iter().any(HttpGrant::is_wildcard);
        let tls = self.0.tls.config(verifies)?;
        let threads = self.0.peers.threads()?;
        Ok(Arc::new(http::Clients::new(&tls, &threads, keeps)))
    }

    fn guest_engine(&self, image: Image) -> Result<Arc<GuestEngine>, SandboxError> {
        if image == Image::Small {
            return Ok(self.0.small.clone());
        }
        let mut big = self.0.big.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guest_engine) = &*big {
            return Ok(guest_engine.clone());
        }
        let guest_engine = GuestEngine::new(image, self.0.instances_max, self.0.cache.as_ref())?;
        Ok(big.insert(Arc::new(guest_engine)).clone())
    }
}

impl Handler {
    /// A sandbox for one worker.
    #[must_use]
    pub fn runner(&self) -> Runner {
        Runner::new(self.0.clone())
    }

    /// How many messages it takes a call, at most; `None`: it takes one, by a function that takes
    /// no more.
    #[must_use]
    pub fn batch_size(&self) -> Option<u32> {
        match self.0.code.pre {
            Pre::One(_) => None,
            Pre::Many(_) => Some(self.0.settings.batch_size.unwrap_or(BATCH_SIZE_DEFAULT)),
        }
    }

    /// What it was loaded with.
    #[must_use]
    pub fn settings(&self) -> &HandlerSettings {
        &self.0.settings
    }
}

/// The largest memory that a component starts with, in bytes.
fn initial_memory_bytes(component: &Component) -> u64 {
    const PAGE_BYTES: u64 = 64 << 10;
    let pages = component.resources_required().and_then(|needs| needs.max_initial_memory_size);
    pages.unwrap_or(0).saturating_mul(PAGE_BYTES)
}
