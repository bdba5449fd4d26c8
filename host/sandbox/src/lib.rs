//! Runs handlers. The only crate that names wasmtime: a component's bytes go in, verdicts come out.
//! It never speaks to Postgres and knows no lease.
//!
//! ```text
//! Sandbox ── compile(bytes) ──► Compiled ── handler(settings) ──► Handler ── runner() ──► Runner
//! one a host                    one a component                   one a version           one a worker
//! ```
//!
//! A guest can touch only what its settings grant: messages, its configuration, a log, follow-ups, HTTP to
//! servers and secrets by name. It has no files and no environment, and everything that it can use up has a
//! limit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use wasmtime::Cache;
use wasmtime::component::Component;

use host_core::grant::HttpGrant;
use host_core::limits::{BATCH_SIZE_DEFAULT, Isolation, Limits};
use host_core::message::{PayloadType, QueueShape};
use host_core::secret::{SecretName, Secrets};

mod bindings;
mod cache;
mod check;
mod compiler;
mod engine;
mod failure;
mod http;
mod live;
mod log;
mod measure;
mod meter;
mod reclaim;
mod runner;
mod state;
mod trial;

pub use check::Refusal;
use compiler::Compiler;
use engine::{Image, Workshop};
pub use meter::{Busy, thread_time};
use reclaim::Reclaimer;
pub use runner::{BatchRun, Run, Runner};
use state::State;
pub use trial::{Bounds, Checked, Terms, Trial, try_here};

/// Targets of the log that write a line for each mistake of a guest or of its servers, however many they make:
/// to be left out. What is worth knowing is said as the guest's own, within its limit.
pub const LOGS_WITHOUT_LIMIT: [&str; 2] = ["wasmtime_wasi_http", "rustls"];

/// What a host grants to all its guests together.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Sandboxes that exist at once; a [`Runner`] may hold one each.
    pub instances_max: u32,
    /// Where compiled code is kept between runs; `None` compiles anew each time. The directory is
    /// made if it is missing, and must belong to this host's user alone.
    pub cache_dir: Option<PathBuf>,
}

/// Why there can be no sandbox on this host.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// wasmtime does not work here.
    #[error("cannot set up WebAssembly: {0}")]
    Engine(String),
    /// No thread for the clock that interrupts guests, or to compile them.
    #[error("cannot start a thread for the sandbox: {0}; raise the limit of processes")]
    Thread(String),
    /// A component cannot be tried.
    #[error("cannot start a process to check a component: {0}; raise the limit of processes")]
    Process(std::io::Error),
    /// Nobody's certificate could be verified.
    #[error(
        "a grant of https needs root certificates and this machine has none: install ca-certificates"
    )]
    Roots,
    /// The directory for compiled code cannot be used.
    #[error(
        "cannot keep compiled code in {}: {what}; choose another directory", dir.display()
    )]
    Cache {
        /// The directory that was asked for.
        dir: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl SandboxError {
    #[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
    fn engine(error: wasmtime::Error) -> Self {
        Self::Engine(format!("{error:#}"))
    }
}

/// Loads handlers. One a host; cheap to clone.
#[derive(Clone)]
pub struct Sandbox(Arc<Shared>);

struct Shared {
    instances_max: u32,
    cache: Option<Cache>,
    compiler: Compiler,
    small: Arc<Workshop>,
    /// Made when the first component asks for it: many hosts never need it.
    big: Mutex<Option<Arc<Workshop>>>,
    tls: http::Tls,
    peers: http::Peers,
}

/// How a handler is called: what its deployment and its queue say.
#[derive(Clone, Debug)]
pub struct HandlerSettings {
    /// The queue's name.
    pub queue: String,
    /// The version, for the log.
    pub version: i32,
    /// What the queue's payloads are.
    pub payload_type: PayloadType,
    /// The queue's; told to the handler.
    pub max_attempts: u32,
    /// What one call may use.
    pub limits: Limits,
    /// Messages of a call, at most, for a component that takes many; `None`: the default.
    pub batch_size: Option<u32>,
    /// When a sandbox is thrown away.
    pub isolation: Isolation,
    /// What `host deploy --config` gave.
    pub config: BTreeMap<String, String>,
    /// The HTTP requests that `host deploy --http` allows.
    pub http: Vec<HttpGrant>,
    /// The secrets that `host deploy --secret` allows.
    pub secret_names: BTreeSet<SecretName>,
    /// Where their values are found.
    pub secrets: Secrets,
    /// Where follow-ups may go.
    pub targets: FollowUpTargets,
}

/// The queues that exist, so that a guest hears at once of a follow-up that cannot be stored.
/// Swapped when the catalog changes.
pub type FollowUpTargets = Arc<ArcSwap<HashMap<String, QueueShape>>>;

/// A component, checked and compiled. Its handlers share the compiled code. Cheap to clone.
#[derive(Clone)]
pub struct Compiled(Arc<Code>);

struct Code {
    pre: Pre,
    reclaimer: Arc<Reclaimer>,
    /// The linear memory that it starts with, in bytes.
    initial_memory_bytes: u64,
    /// Whether it can make requests.
    has_http: bool,
}

/// A version of a handler, compiled and ready. Cheap to clone.
#[derive(Clone)]
pub struct Handler(Arc<Loaded>);

struct Loaded {
    code: Arc<Code>,
    settings: Arc<HandlerSettings>,
    /// For a component that can make requests.
    http: Option<Arc<http::Clients>>,
}

/// A component that is ready to be started, by the world that it targets.
enum Pre {
    One(bindings::HandlerPre<State>),
    Many(bindings::batch::BatchHandlerPre<State>),
}

impl Sandbox {
    /// Sets up the engine, its pool and its cache.
    ///
    /// # Errors
    /// If the machine does not allow it, or the cache directory is not this host's own.
    pub fn new(config: &SandboxConfig) -> Result<Self, SandboxError> {
        let cache = config.cache_dir.as_deref().map(cache::open).transpose()?;
        let small = Arc::new(Workshop::new(Image::Small, config.instances_max, cache.as_ref())?);
        let (instances_max, big) = (config.instances_max, Mutex::default());
        let (compiler, tls) = (Compiler::new()?, http::Tls::default());
        let peers = http::Peers::default();
        Ok(Self(Arc::new(Shared { instances_max, cache, compiler, small, big, tls, peers })))
    }

    /// Checks a component and compiles it, or takes its compiled code from the cache.
    ///
    /// Takes up to seconds of processor time: call it on a thread that may block.
    ///
    /// # Errors
    /// Why the component cannot be deployed here.
    pub fn compile(&self, wasm: &[u8]) -> Result<Compiled, Refusal> {
        let inspected = check::inspect(wasm)?;
        let workshop = self.workshop(inspected.image)?;
        let component = self.0.compiler.compile(&workshop.engine, wasm)?;
        let interface = |error: wasmtime::Error| Refusal::Interface(format!("{error:#}"));
        let pre = workshop.linker.instantiate_pre(&component).map_err(interface)?;
        let pre = if inspected.takes_batches {
            Pre::Many(bindings::batch::BatchHandlerPre::new(pre).map_err(interface)?)
        } else {
            Pre::One(bindings::HandlerPre::new(pre).map_err(interface)?)
        };
        let initial_memory_bytes = initial_memory_bytes(&component);
        let (reclaimer, has_http) = (workshop.reclaimer.clone(), inspected.has_http);
        Ok(Compiled(Arc::new(Code { pre, reclaimer, initial_memory_bytes, has_http })))
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
        let (needed_bytes, limit_bytes) = (code.initial_memory_bytes, settings.limits.memory_bytes);
        if needed_bytes > limit_bytes {
            return Err(Refusal::Memory { needed_bytes, limit_bytes });
        }
        let http = code.has_http.then(|| self.http_clients(&settings)).transpose()?;
        Ok(Handler(Arc::new(Loaded { code, settings: Arc::new(settings), http })))
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
        let (tls, threads) = (self.0.tls.config(verifies)?, self.0.peers.threads()?);
        Ok(Arc::new(http::Clients::new(&tls, &threads, keeps)))
    }

    fn workshop(&self, image: Image) -> Result<Arc<Workshop>, SandboxError> {
        if image == Image::Small {
            return Ok(self.0.small.clone());
        }
        let mut big = self.0.big.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(workshop) = &*big {
            return Ok(workshop.clone());
        }
        let workshop = Workshop::new(image, self.0.instances_max, self.0.cache.as_ref())?;
        Ok(big.insert(Arc::new(workshop)).clone())
    }
}

impl Handler {
    /// A sandbox for one worker.
    #[must_use]
    pub fn runner(&self) -> Runner {
        Runner::new(self.0.clone())
    }

    /// How many messages it takes a call, at most; `None`: it takes one, by a function that takes no more.
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
