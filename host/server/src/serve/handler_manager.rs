//! The handler manager: which handlers this host runs. It follows the catalog: it loads what is
//! deployed, swaps versions, drops handlers that are gone, and reports how that went.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use super::failing::report_failing;
use super::load::{Loader, Loads, Ready, WantedVersion, report_all};
use super::rest_watch::Rests;
use super::upkeep::{Upkeep, watched};
use crate::dispatch::Dispatcher;
use crate::dispatch::config::{Control, DispatcherConfig, HandlerRef, HostResources, Mode};
use crate::dispatch::lease::slots::Slots;
use crate::dispatch::run::handler_version::HandlerVersion;
use host_core::deployment::secret::SecretName;
use host_core::health::failures::Report;
use host_core::health::incident::Incident;
use host_core::health::progress::{ROUND_EVERY, Watch};
use host_core::id::HandlerId;
use host_core::name::{HandlerName, QueueName};
use host_queue::admin::secrets;
use host_queue::catalog::{self, Catalog, Deployment, Instructions, LoadReport, Queue};
use host_queue::connect::retry;

/// Sandboxes that a host may keep warm beside those in use, and that handlers have in reserve.
pub(super) const SPARE_SANDBOXES: u32 = 256;
/// How long a catalog that cannot be read is left alone.
const CATALOG_AGAIN: Duration = Duration::from_secs(5);

/// The handlers of one session.
pub(super) struct HandlerManager {
    host: HostResources,
    loads: Loads,
    /// What came of them, for the database. Told by a task of its own: the manager goes on
    /// meanwhile.
    reports: mpsc::UnboundedSender<LoadReport>,
    reporter: JoinHandle<()>,
    failure_reporter: JoinHandle<()>,
    slots: Arc<Semaphore>,
    warm_room: Arc<Semaphore>,
    upkeep: Upkeep,
    handlers: HashMap<HandlerId, Entry>,
    /// The version that each handler is to have, loaded or being loaded.
    wanted: HashMap<HandlerId, WantedVersion>,
    /// Operators' instructions.
    instructions: HashMap<HandlerId, Instructions>,
    /// The catalog's version, and how many sessions had ended.
    seen: (i64, i64),
    /// What was left out of the catalog, and is named.
    left_out: Vec<String>,
    /// The secrets that are granted could not be read: their handlers wait.
    secrets_unread: bool,
    watch: Watch,
}

/// A handler that runs.
struct Entry {
    queue: QueueName,
    name: HandlerName,
    version: Arc<ArcSwap<HandlerVersion>>,
    control: watch::Sender<Control>,
    woken: Arc<Notify>,
    dispatcher: JoinHandle<()>,
}

impl HandlerManager {
    /// `failing`: how much of each handler fails.
    pub(super) fn new(
        host: HostResources,
        loader: Loader,
        slots: Arc<Semaphore>,
        failing: mpsc::UnboundedReceiver<(HandlerId, Report)>,
    ) -> Self {
        let loads = Loads::new(loader, host.database.clone());
        let (reports, to_tell) = mpsc::unbounded_channel();
        let reporting = report_all(host.database.clone(), host.session, to_tell);
        let reporter = tokio::spawn(watched(reporting, host.stop_now.clone()));
        let reporting = report_failing(host.database.clone(), host.session, failing);
        let failure_reporter = tokio::spawn(watched(reporting, host.stop_now.clone()));
        let watch = host.progress.watch("the handler manager");
        Self {
            host,
            loads,
            reports,
            reporter,
            failure_reporter,
            slots,
            warm_room: Arc::new(Semaphore::new(SPARE_SANDBOXES as usize / 2)),
            upkeep: Upkeep::default(),
            handlers: HashMap::new(),
            wanted: HashMap::new(),
            instructions: HashMap::new(),
            seen: (0, 0),
            left_out: Vec::new(),
            secrets_unread: false,
            watch,
        }
    }

    /// The queues that are watched over while they are at rest.
    pub(super) fn rests(&self) -> Rests {
        self.upkeep.rests()
    }

    /// Follows the catalog, and wakes handlers that are told of messages, until dropped.
    pub(super) async fn run(
        &mut self,
        mut catalog_changed: watch::Receiver<i64>,
        mut woken: mpsc::Receiver<String>,
    ) -> Infallible {
        loop {
            self.watch.round();
            tokio::select! {
                Ok(()) = catalog_changed.changed() => {
                    catalog_changed.borrow_and_update();
                    self.reload().await;
                }
                Some((wanted, loaded)) = self.loads.next() => self.loaded(&wanted, loaded),
                Some(queue) = woken.recv() => {
                    let of_queue = self.handlers.values().filter(|h| h.queue.as_str() == queue);
                    of_queue.for_each(|h| h.woken.notify_one());
                }
                () = tokio::time::sleep(CATALOG_AGAIN), if self.secrets_unread => {
                    self.reload().await;
                }
                () = tokio::time::sleep(ROUND_EVERY) => {}
            }
        }
    }

    /// Has every handler take no more.
    pub(super) fn drain(&mut self) {
        self.watch.rest();
        self.loads.abort();
        for entry in self.handlers.values_mut() {
            entry.control.send_modify(|control| control.mode = Mode::Draining);
        }
    }

    /// Waits until every handler has finished what it has begun.
    pub(super) async fn drained(&mut self) {
        for (_, entry) in self.handlers.drain() {
            // One that panicked is as drained as can be.
            let _ = entry.dispatcher.await;
        }
    }

    /// Drops everything that is still there.
    pub(super) fn close(&mut self) {
        self.loads.abort();
        self.reporter.abort();
        self.failure_reporter.abort();
        self.handlers.drain().for_each(|(_, entry)| entry.dispatcher.abort());
        self.upkeep.close();
    }

    async fn reload(&mut self) {
        let load = || async {
            let client = self.host.database.get().await?;
            client.ask(catalog::load(&client)).await
        };
        let mut incident = Incident::default();
        let catalog = loop {
            let began = Instant::now();
            let at_gates = self.watch.at_gates();
            let read = retry("read the catalog", load).await;
            drop(at_gates);
            match read {
                Ok(catalog) => break catalog,
                Err(error) => {
                    if incident.shows(error.kind(), Duration::ZERO, began, Instant::now()) {
                        tracing::error!(%error, "cannot read the catalog; trying again");
                    }
                }
            }
            tokio::time::sleep(CATALOG_AGAIN).await;
        };
        for row in catalog.left_out.iter().filter(|row| !self.left_out.contains(row)) {
            tracing::error!(row, "a row of the catalog cannot be read; it is left out");
        }
        self.left_out.clone_from(&catalog.left_out);
        let shapes = catalog.queues.iter().map(|q| (q.name.to_string(), q.shape()));
        self.loads.loader().targets.store(Arc::new(shapes.collect()));
        self.loads.loader().components.retain(&catalog.deployments);
        self.load_secrets(&catalog).await;
        // The same version again: the server is another. Else a host may have ended.
        let (version, ended) = (catalog.version, catalog.sessions_ended);
        let before = std::mem::replace(&mut self.seen, (version, ended));
        self.instructions = catalog.instructions.iter().map(|i| (i.handler, i.clone())).collect();
        self.upkeep.keep(&catalog, &self.host);
        if before.0 == version || before.1 != ended {
            self.upkeep.alarm();
        }
        self.drop_handlers(&catalog);
        for deployment in &catalog.deployments {
            let Some(queue) = catalog.queues.iter().find(|q| q.id == deployment.queue) else {
                continue;
            };
            self.tell(queue, deployment.handler);
            // Without its secrets a guest would take them for not set.
            let asks = deployment.settings.as_ref().is_ok_and(|s| !s.secrets.is_empty());
            if !self.secrets_unread || !asks {
                self.deploy(queue, deployment);
            }
        }
    }

    /// Reads the secrets that are granted. One that changes raises the catalog's version.
    async fn load_secrets(&mut self, catalog: &Catalog) {
        let readable = catalog.deployments.iter().filter_map(|d| d.settings.as_ref().ok());
        let granted = readable.flat_map(|settings| &settings.secrets);
        let names: Vec<&str> = granted.map(SecretName::as_str).collect();
        if names.is_empty() {
            self.secrets_unread = false;
            return;
        }
        let read = retry("read the secrets", || async {
            let client = self.host.database.get().await?;
            client.ask(secrets::read(&client, &names)).await
        });
        let at_gates = self.watch.at_gates();
        let read = read.await;
        drop(at_gates);
        match read {
            Ok(secrets) => {
                self.loads.loader().secrets.store(Arc::new(secrets));
                self.secrets_unread = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.secrets_unread, true) {
                    tracing::error!(%error, "cannot read the secrets that handlers are granted; trying again");
                }
            }
        }
    }

    fn drop_handlers(&mut self, catalog: &Catalog) {
        let kept = |id: &HandlerId| catalog.deployments.iter().any(|d| d.handler == *id);
        self.handlers.retain(|id, entry| {
            let runs = !entry.dispatcher.is_finished();
            if !runs {
                // It ended by itself: should it be wanted still, it is loaded anew.
                self.wanted.remove(id);
            }
            if !kept(id) {
                entry.dispatcher.abort();
            }
            runs && kept(id)
        });
        self.wanted.retain(|id, _| kept(id));
    }

    /// Tells a handler what its queue's row says now, if that is news.
    fn tell(&self, queue: &Queue, handler: HandlerId) {
        if let Some(entry) = self.handlers.get(&handler) {
            let control = self.control(queue, handler);
            let mode = control.mode;
            let before = entry.control.borrow().mode;
            entry.control.send_if_modified(|last| {
                let is_news = *last != control;
                *last = control;
                is_news
            });
            if before != mode {
                let resumed = mode == Mode::Leasing;
                let what = if resumed { "resumed" } else { "paused" };
                let whole = if resumed || queue.paused { "queue" } else { "handler" };
                tracing::info!(queue = %queue.name, handler = %entry.name, "{whole} {what}");
            }
        }
    }

    /// Begins to load what is new. Compiling can take seconds, in which the others go on.
    fn deploy(&mut self, queue: &Queue, deployment: &Deployment) {
        // Of the queue, only what a guest is told matters.
        let shown = |q: &Queue| (q.settings.payload_type, q.settings.policy.max_attempts);
        let wanted = WantedVersion { queue: queue.clone(), deployment: deployment.clone() };
        let before = self.wanted.insert(deployment.handler, wanted.clone());
        if before.is_some_and(|w| w.deployment == *deployment && shown(&w.queue) == shown(queue)) {
            return;
        }
        self.loads.begin(wanted);
    }

    /// Puts what has been loaded in force, if it is still wanted, and reports how it went.
    fn loaded(&mut self, loading: &WantedVersion, loaded: Result<Ready, String>) {
        let wanted = self.wanted.get(&loading.deployment.handler);
        let Some(wanted) = wanted.filter(|w| w.deployment == loading.deployment).cloned() else {
            return;
        };
        let WantedVersion { queue, deployment } = &wanted;
        let error = loaded.as_ref().err().cloned();
        match loaded {
            Ok(ready) => self.put_in_force(queue, deployment, ready),
            Err(error) => tracing::error!(
                queue = %queue.name, handler = %deployment.name, version = deployment.version, %error,
                "cannot load a handler; the version before stays in force, if there is one"
            ),
        }
        let (handler, version) = (deployment.handler, deployment.version);
        // Nobody listens any more when the session is over.
        let _ = self.reports.send(LoadReport { handler, version, error });
    }

    fn control(&self, queue: &Queue, handler: HandlerId) -> Control {
        let instructions = self.instructions.get(&handler);
        let paused = queue.paused || instructions.is_some_and(|i| i.paused);
        Control {
            mode: if paused { Mode::Paused } else { Mode::Leasing },
            wake_up: queue.settings.wake_up,
            policy: queue.settings.policy.clone(),
            removed: instructions.map(|i| i.cancelled.clone()).unwrap_or_default(),
        }
    }

    fn put_in_force(&mut self, queue: &Queue, deployment: &Deployment, ready: Ready) {
        let Ready { handler, concurrency } = ready;
        let slots = Slots::new(self.slots.clone(), concurrency);
        let version = Arc::new(HandlerVersion::new(handler, slots, self.warm_room.clone()));
        tracing::info!(
            queue = %queue.name, handler = %deployment.name, version = deployment.version,
            sha256 = %deployment.sha256, "handler loaded"
        );
        if let Some(entry) = self.handlers.get_mut(&deployment.handler) {
            entry.version.store(version);
            return;
        }
        let Some(kept) = self.upkeep.queue(queue.id) else { return };
        let version = Arc::new(ArcSwap::new(version));
        let (control, receiver) = watch::channel(self.control(queue, deployment.handler));
        let woken = Arc::new(Notify::new());
        let dispatcher = Dispatcher::new(DispatcherConfig {
            host: self.host.clone(),
            handler: HandlerRef {
                queue: queue.name.clone(),
                name: deployment.name.clone(),
                id: deployment.handler,
                statements: kept.statements.clone(),
            },
            lanes: queue.settings.lanes,
            version: version.clone(),
            control: receiver,
            woken: woken.clone(),
            rest: kept.rest.observe(),
            schedule_changed: kept.schedule_changed.clone(),
        });
        let entry = Entry {
            queue: queue.name.clone(),
            name: deployment.name.clone(),
            version,
            control,
            woken,
            dispatcher: tokio::spawn(watched(dispatcher.run(), self.host.stop_now.clone())),
        };
        self.handlers.insert(deployment.handler, entry);
    }
}
