//! Loading a deployment: from its row in the catalog to a handler that can run. What is in the
//! database is not trusted: bytes are checked against their digest, and only WebAssembly is taken,
//! which another process compiles before this one does. Never puts a handler in force.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::sync::{OnceCell, Semaphore, mpsc};
use tokio::task::JoinSet;

use host_core::deployment::digest::Digest;
use host_core::deployment::secret::Secrets;
use host_core::id::SessionId;
use host_queue::catalog::{self, Deployment, LoadReport, Queue};
use host_queue::connect::{Database, retry};
use host_sandbox::{
    CompileCheck, Compiled, FollowUpTargets, Handler, HandlerSettings, Sandbox, Terms,
};

/// Deployments that are loaded at once: while some are compiled, the next are read. More would only
/// hold more components in memory.
const AT_ONCE: usize = 4;

/// How long handlers of one component share its failure. Longer than their loads take turns, and
/// shorter than it takes an operator to mend it.
const FAILURE_KEPT: Duration = Duration::from_secs(10);

/// A deployment, and what its queue says that its guests are told.
#[derive(Clone, PartialEq)]
pub(super) struct WantedVersion {
    pub(super) queue: Queue,
    pub(super) deployment: Deployment,
}

/// A handler that can run.
pub(super) struct Ready {
    pub(super) handler: Handler,
    /// Sandboxes at once.
    pub(super) concurrency: u32,
}

/// What loading needs. Cheap to clone.
#[derive(Clone)]
pub(super) struct Loader {
    pub(super) sandbox: Sandbox,
    pub(super) compile_check: CompileCheck,
    /// Where the sandbox finds what the compile check has compiled.
    pub(super) cache_dir: Option<PathBuf>,
    pub(super) targets: FollowUpTargets,
    pub(super) secrets: Secrets,
    pub(super) components: Components,
}

impl Loader {
    /// Makes a handler of a deployment. Compiles its component, unless that was done before. An
    /// error is text for the operator.
    pub(super) async fn load(
        self,
        database: Database,
        wanted: WantedVersion,
    ) -> Result<Ready, String> {
        let WantedVersion { queue, deployment } = wanted;
        let settings = deployment.settings.map_err(|e| e.to_string())?;
        let cell = self.components.cell(&deployment.sha256);
        let terms = Terms {
            memory_bytes: settings.limits.memory_bytes,
            http: settings.http.clone(),
            cache_dir: self.cache_dir.clone(),
        };
        let compile = || self.compile(&database, &deployment.sha256, &terms);
        let compiled = cell.get_or_try_init(compile).await?.clone();
        let concurrency = settings.concurrency;
        let settings = HandlerSettings {
            queue: queue.name.to_string(),
            version: deployment.version,
            payload_type: queue.settings.payload_type,
            max_attempts: queue.settings.policy.max_attempts,
            limits: settings.limits,
            batch_size: settings.batch_size,
            isolation: settings.isolation,
            config: settings.config,
            http: settings.http,
            secret_names: settings.secrets,
            secrets: self.secrets,
            targets: self.targets,
        };
        let handler = self.sandbox.handler(&compiled, settings).map_err(|e| e.to_string())?;
        Ok(Ready { handler, concurrency })
    }

    /// Reads a component, has another process try it, and compiles it.
    async fn compile(
        &self,
        database: &Database,
        sha256: &Digest,
        terms: &Terms,
    ) -> Result<Compiled, String> {
        // What has just failed for the same terms would fail again, for each handler in turn.
        if let Some(why) = self.components.failure(sha256, terms) {
            return Err(why);
        }
        let compiled = self.compile_anew(database, sha256, terms).await;
        if let Err(why) = &compiled {
            self.components.failed(sha256, terms, why);
        }
        compiled
    }

    async fn compile_anew(
        &self,
        database: &Database,
        sha256: &Digest,
        terms: &Terms,
    ) -> Result<Compiled, String> {
        let _turn = self.components.0.turns.acquire().await;
        let wasm = retry("read a component", || async {
            let client = database.get().await?;
            client.ask(catalog::component(&client, sha256)).await
        });
        let wasm = wasm.await.map_err(|e| e.to_string())?;
        tracing::debug!(%sha256, "component read");
        self.compile_check.run(&wasm, terms).await.map_err(|e| e.to_string())?;
        let sandbox = self.sandbox.clone();
        let compiled = tokio::task::spawn_blocking(move || sandbox.compile(&wasm)).await;
        let compiled = compiled.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        tracing::debug!(%sha256, "component compiled");
        Ok(compiled)
    }
}

/// The components of this host's handlers. Each is read, checked and compiled once, however many
/// handlers have it. A failure is kept for [`FAILURE_KEPT`]: after that, a handler tries again.
#[derive(Clone)]
pub(super) struct Components(Arc<Inner>);

struct Inner {
    compiled: Mutex<HashMap<Digest, Arc<OnceCell<Compiled>>>>,
    failures: Mutex<HashMap<Digest, Failure>>,
    turns: Semaphore,
}

/// Why a component could not be compiled for some terms.
struct Failure {
    terms: Terms,
    why: String,
    at: Instant,
}

impl Default for Components {
    fn default() -> Self {
        Self(Arc::new(Inner {
            compiled: Mutex::default(),
            failures: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
        }))
    }
}

impl Components {
    /// The place of a compiled component. The first handler that needs it compiles it, and the
    /// others wait.
    fn cell(&self, sha256: &Digest) -> Arc<OnceCell<Compiled>> {
        self.lock().entry(sha256.clone()).or_default().clone()
    }

    /// Forgets the components that no deployment has. Handlers that still run keep theirs.
    pub(super) fn retain(&self, deployments: &[Deployment]) {
        let deployed: HashSet<&Digest> = deployments.iter().map(|d| &d.sha256).collect();
        self.lock().retain(|sha256, _| deployed.contains(sha256));
        self.failures().retain(|sha256, _| deployed.contains(sha256));
    }

    /// Why the component could not be compiled for these terms, a moment ago.
    fn failure(&self, sha256: &Digest, terms: &Terms) -> Option<String> {
        let failures = self.failures();
        let failure = failures.get(sha256).filter(|failure| failure.terms == *terms)?;
        (failure.at.elapsed() < FAILURE_KEPT).then(|| failure.why.clone())
    }

    fn failed(&self, sha256: &Digest, terms: &Terms, why: &str) {
        let failure = Failure { terms: terms.clone(), why: why.to_owned(), at: Instant::now() };
        self.failures().insert(sha256.clone(), failure);
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<Digest, Failure>> {
        self.0.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Arc<OnceCell<Compiled>>>> {
        self.0.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is being loaded. Each has a task of its own: it gives back its connection whatever the
/// handler manager waits for.
pub(super) struct Loads {
    loader: Loader,
    database: Database,
    tasks: JoinSet<(WantedVersion, Result<Ready, String>)>,
}

impl Loads {
    pub(super) fn new(loader: Loader, database: Database) -> Self {
        Self { loader, database, tasks: JoinSet::new() }
    }

    /// What loading needs.
    pub(super) const fn loader(&self) -> &Loader {
        &self.loader
    }

    /// Begins to load a deployment.
    pub(super) fn begin(&mut self, wanted: WantedVersion) {
        let load = self.loader.clone().load(self.database.clone(), wanted.clone());
        self.tasks.spawn(async move {
            let loaded = AssertUnwindSafe(load).catch_unwind().await;
            (wanted, loaded.unwrap_or_else(|_| Err("the host panicked; see its log".to_owned())))
        });
    }

    /// The next that is loaded, or cannot be; `None`: none is being loaded.
    pub(super) async fn next(&mut self) -> Option<(WantedVersion, Result<Ready, String>)> {
        // A task fails only when it is aborted, and then nobody asks.
        self.tasks.join_next().await?.ok()
    }

    /// Drops what is being loaded.
    pub(super) fn abort(&mut self) {
        self.tasks.abort_all();
    }
}

/// Reports that one statement has.
const REPORTS_MAX: usize = 1_000;

/// Tells the database what came of each load. What comes while it is told goes in the next
/// statement: a host that starts with many handlers would else wait for a connection for each of
/// them.
pub(super) async fn report_all(
    database: Database,
    session: SessionId,
    mut reports: mpsc::UnboundedReceiver<LoadReport>,
) {
    let mut some = Vec::new();
    while reports.recv_many(&mut some, REPORTS_MAX).await > 0 {
        let latest: HashMap<_, _> =
            some.drain(..).map(|report| ((report.handler, report.version), report)).collect();
        let mut batches = vec![latest.into_values().collect::<Vec<_>>()];
        while let Some(batch) = batches.pop() {
            let told = retry("report handlers", || async {
                let client = database.get().await?;
                client.ask(catalog::report_loaded(&client, session, &batch)).await
            });
            match told.await {
                Ok(()) => {}
                // One of them may be of a handler that has just been removed.
                Err(_) if batch.len() > 1 => batches.extend(batch.into_iter().map(|one| vec![one])),
                Err(error) => tracing::debug!(%error, "cannot report a handler"),
            }
        }
    }
}
