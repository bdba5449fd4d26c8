//! The watch over queues at rest: one statement for many of them says whether anything may have
//! come. It is the guarantee that a message is noticed; a notification is only faster.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::rest::QueueRest;
use host_core::health::incident::Incident;
use host_core::health::progress::Watch;
use host_core::id::QueueId;
use host_queue::connect::Database;
use host_queue::error::QueueError;
use host_queue::maintenance::rest::{marks, written_to};

/// The queues of this host. Cheap to clone; the clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Rests {
    queues: Arc<ArcSwap<HashMap<QueueId, Arc<QueueRest>>>>,
    /// There is a new one.
    any_new: Arc<Notify>,
}

impl Rests {
    /// Keeps these queues, and watches over those that are new.
    pub(super) fn keep(&self, queues: impl Iterator<Item = QueueId>) {
        let before = self.queues.load();
        let of = |id| (id, before.get(&id).cloned().unwrap_or_default());
        let kept: HashMap<_, _> = queues.map(of).collect();
        let any_new = kept.keys().any(|id| !before.contains_key(id));
        self.queues.store(Arc::new(kept));
        if any_new {
            self.any_new.notify_one();
        }
    }

    /// The queue of that number, if it is kept.
    pub(super) fn of(&self, queue: QueueId) -> Option<Arc<QueueRest>> {
        self.queues.load().get(&queue).cloned()
    }

    /// Has all be looked at: hosts may have left leases behind, or the server may be another.
    pub(super) fn alarm(&self) {
        let now = Instant::now();
        self.queues.load().values().for_each(|queue| queue.alarm(now));
    }
}

/// The loop.
pub(super) struct RestWatch {
    pub(super) database: Database,
    pub(super) rests: Rests,
    /// How often it looks.
    pub(super) every: Duration,
    pub(super) watch: Watch,
}

impl RestWatch {
    /// Goes on until dropped.
    pub(super) async fn run(self) -> Infallible {
        let mut incident = Incident::default();
        loop {
            let began = Instant::now();
            let queues = self.rests.queues.load_full();
            let at_gates = self.watch.at_gates();
            let looked = self.look(&queues).await;
            drop(at_gates);
            match looked {
                Ok(()) => drop(incident.calm(Instant::now())),
                Err(error) => {
                    queues.values().for_each(|queue| queue.lose_track());
                    if incident.shows(error.kind(), Duration::ZERO, began, Instant::now()) {
                        tracing::warn!(%error, "cannot ask whether anything came to idle queues; looking at each");
                    }
                }
            }
            self.watch.round_after(self.every);
            tokio::select! {
                () = tokio::time::sleep(self.every) => {}
                () = self.rests.any_new.notified() => {}
            }
        }
    }

    /// First the marks, then the open transactions. Who has inserted before the first and is over
    /// at the second can be seen. Who inserts after the second moves the mark.
    async fn look(&self, queues: &HashMap<QueueId, Arc<QueueRest>>) -> Result<(), QueueError> {
        if queues.is_empty() {
            return Ok(());
        }
        let ids: Vec<QueueId> = queues.keys().copied().collect();
        let marks = marks(&self.database, &ids).await?;
        let now = Instant::now();
        let mut still = Vec::new();
        for (id, queue) in queues {
            match marks.get(id) {
                Some(mark) if queue.look(*mark, now) => still.push((id, queue)),
                Some(_) => {}
                None => queue.lose_track(),
            }
        }
        let restless: Vec<QueueId> =
            still.into_iter().filter(|(_, queue)| !queue.is_calm()).map(|(id, _)| *id).collect();
        if restless.is_empty() {
            return Ok(());
        }
        let written = written_to(&self.database, &restless).await?;
        let calm = restless.iter().filter(|id| !written.contains(id));
        calm.filter_map(|id| queues.get(id)).for_each(|queue| queue.calm());
        Ok(())
    }
}
