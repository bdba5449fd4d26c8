//! Loading a deployment: from its row in the catalog to a handler that can run. What is in the database is not
//! trusted: bytes are checked against their digest, and only WebAssembly is taken, which another process compiles
//! before this one does. Never puts a handler in force.

use std::path::PathBuf;

use crate::queue::catalog::{self, Deployment, Queue};
use crate::queue::connect::{Database, retry};
use crate::sandbox::{FollowUpTargets, Handler, HandlerSettings, Sandbox, Terms, Trial};
use crate::secret::Secrets;

/// A deployment, and what its queue says that its guests are told.
#[derive(Clone, PartialEq)]
pub(super) struct Wanted {
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
    pub(super) trial: Trial,
    /// Where the sandbox finds what the trial has compiled.
    pub(super) cache_dir: Option<PathBuf>,
    pub(super) targets: FollowUpTargets,
    pub(super) secrets: Secrets,
}

impl Loader {
    /// Reads a component and compiles it. What is wrong with it is said in words for its operator.
    pub(super) async fn load(self, database: Database, wanted: Wanted) -> Result<Ready, String> {
        let Wanted { queue, deployment } = wanted;
        let settings = deployment.settings.map_err(|e| e.to_string())?;
        let wasm = retry("read a component", async || {
            let client = database.get().await?;
            client.ask(catalog::component(&client, &deployment.sha256)).await
        });
        let wasm = wasm.await.map_err(|e| e.to_string())?;
        let terms = Terms {
            memory_bytes: settings.limits.memory_bytes,
            http: settings.http.clone(),
            cache_dir: self.cache_dir,
        };
        self.trial.run(&wasm, &terms).await.map_err(|e| e.to_string())?;
        let concurrency = settings.concurrency;
        let settings = HandlerSettings {
            queue: queue.name.to_string(),
            version: deployment.version,
            payload_type: queue.payload_type,
            max_attempts: queue.policy.max_attempts,
            limits: settings.limits,
            batch_size: settings.batch_size,
            isolation: settings.isolation,
            config: settings.config,
            http: settings.http,
            secret_names: settings.secrets,
            secrets: self.secrets,
            targets: self.targets,
        };
        let sandbox = self.sandbox;
        let compiled = tokio::task::spawn_blocking(move || sandbox.load(&wasm, settings)).await;
        let handler = compiled.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        Ok(Ready { handler, concurrency })
    }
}
