//! The queues of a session: each is kept in order, and watched over while it is at rest.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::maintenance::Maintenance;
use super::rest_watch::Rests;
use crate::dispatch::config::HostResources;
use crate::rest::QueueRest;
use host_core::id::QueueId;
use host_queue::catalog::{Catalog, Queue};
use host_queue::statements::Statements;

/// The queues of a session.
#[derive(Default)]
pub(super) struct Upkeep {
    rests: Rests,
    queues: HashMap<QueueId, KeptQueue>,
}

/// A queue that is kept in order.
pub(super) struct KeptQueue {
    pub(super) statements: Arc<Statements>,
    pub(super) schedule_changed: Arc<Notify>,
    pub(super) rest: Arc<QueueRest>,
    maintenance: JoinHandle<()>,
}

impl Upkeep {
    /// Those that are watched over.
    pub(super) fn rests(&self) -> Rests {
        self.rests.clone()
    }

    /// The queue of that number, if it is kept.
    pub(super) fn queue(&self, id: QueueId) -> Option<&KeptQueue> {
        self.queues.get(&id)
    }

    /// Has all be looked at: hosts may have left leases behind, or the server may be another.
    pub(super) fn alarm(&self) {
        self.rests.alarm();
    }

    /// Keeps the queues of the catalog, and no others.
    pub(super) fn keep(&mut self, catalog: &Catalog, host: &HostResources) {
        self.queues.retain(|id, kept| {
            let stays = catalog.queues.iter().any(|q| q.id == *id);
            if !stays {
                kept.maintenance.abort();
            }
            stays
        });
        self.rests.keep(catalog.queues.iter().map(|q| q.id));
        for queue in &catalog.queues {
            let Some(rest) = self.rests.of(queue.id) else { continue };
            self.queues.entry(queue.id).or_insert_with(|| KeptQueue::begin(queue, rest, host));
        }
    }

    /// Drops them all.
    pub(super) fn close(&mut self) {
        self.queues.drain().for_each(|(_, kept)| kept.maintenance.abort());
    }
}

impl KeptQueue {
    fn begin(queue: &Queue, rest: Arc<QueueRest>, host: &HostResources) -> Self {
        let statements = Arc::new(Statements::new(queue.id, &queue.name, queue.settings.lanes));
        let schedule_changed = Arc::new(Notify::new());
        let maintenance = Maintenance {
            database: host.database.clone(),
            queue: queue.name.clone(),
            statements: statements.clone(),
            schedule_changed: schedule_changed.clone(),
            rest: rest.clone(),
            poll_max: host.poll_max,
            shared_connections: host.shared_connections.clone(),
            progress: host.progress.clone(),
        };
        let maintenance = tokio::spawn(watched(maintenance.run(), host.stop_now.clone()));
        Self { statements, schedule_changed, rest, maintenance }
    }
}

/// Runs a loop. Should it panic, its leases have no master while the session lives, or its queue is
/// not kept in order: so the session is ended, and everything begins anew.
pub(super) async fn watched(goes_on: impl Future<Output = ()>, stop_now: CancellationToken) {
    if AssertUnwindSafe(goes_on).catch_unwind().await.is_err() {
        tracing::error!("a loop of this host panicked; ending the session");
        stop_now.cancel();
    }
}
