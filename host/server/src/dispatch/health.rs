//! A queue's health. What Postgres refuses or delays is an incident, and the log names it once.
//! While it lasts, the queue shares half of the connections with other queues that have incidents.
//! However long each of their statements waits, the healthy queues have the rest (I5).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use host_core::health::incident::{Incident, Over, PATIENCE};
use host_queue::error::QueueError;

/// The connections that unhealthy queues share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SharedConnections(Arc<Semaphore>);

impl SharedConnections {
    /// For a host with that many connections.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self(Arc::new(Semaphore::new((connections / 2).max(1))))
    }
}

/// How one task of a queue fares.
#[derive(Debug)]
pub struct Health {
    queue: String,
    task: String,
    incident: Incident,
    /// Of each thing that fails: how often, since it last went well.
    in_a_row: HashMap<&'static str, u32>,
    unhealthy: bool,
    shared: SharedConnections,
}

/// One is an accident, as when two hosts want the same lock.
const UNHEALTHY_AFTER: u32 = 2;

impl Health {
    /// Of a task that goes by that name in the log.
    #[must_use]
    pub fn of(queue: &str, task: &str, shared: &SharedConnections) -> Self {
        Self {
            queue: queue.to_owned(),
            task: task.to_owned(),
            incident: Incident::default(),
            in_a_row: HashMap::new(),
            unhealthy: false,
            shared: shared.clone(),
        }
    }

    /// Whether there is an incident that was no accident.
    #[must_use]
    pub const fn is_unhealthy(&self) -> bool {
        self.unhealthy && self.incident.is_on()
    }

    /// Waits for a turn at the shared connections, if the task is unhealthy. The turn ends when it
    /// is dropped.
    pub fn connection_turn(
        &self,
    ) -> impl Future<Output = Option<OwnedSemaphorePermit>> + Send + use<> {
        let shared = self.is_unhealthy().then(|| self.shared.0.clone());
        // It is never closed.
        async { shared?.acquire_owned().await.ok() }
    }

    /// Whether there is an incident. The log names its end, which something has to find out.
    #[must_use]
    pub const fn has_incident(&self) -> bool {
        self.incident.is_on()
    }

    /// Notes how something went that was begun at `began`. Failures that concern no single queue
    /// (no server, the session has ended) are named elsewhere. The handler manager soon removes a
    /// queue that was dropped.
    pub fn note(
        &mut self,
        what: &'static str,
        error: Option<&QueueError>,
        began: Instant,
        now: Instant,
    ) {
        let Self { queue, task, incident, in_a_row, unhealthy, .. } = self;
        let Some(error) = error else {
            in_a_row.remove(what);
            if let Some(Over { lasted, times }) = incident.calm(now) {
                tracing::info!(queue, task, ?lasted, times, "can {what} again");
            }
            *unhealthy &= incident.is_on();
            return;
        };
        let elsewhere =
            error.is_of_server() || matches!(error, QueueError::LeaseLost(_) | QueueError::Gone);
        let patience = if error.is_passing() { PATIENCE } else { Duration::ZERO };
        // Messages that something hides are one lease's trouble: the queue's other leases go on.
        if !elsewhere && !matches!(error, QueueError::Hidden(_)) {
            let times = in_a_row.entry(what).or_default();
            *times += 1;
            *unhealthy |= *times >= UNHEALTHY_AFTER;
        }
        if elsewhere || !incident.shows(error.kind(), patience, began, now) {
            tracing::debug!(queue, task, %error, "cannot {what} now");
        } else {
            tracing::warn!(queue, task, %error, "cannot {what}; trying again until it works");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn unhealthy_queues_share_half_of_the_connections_and_healthy_ones_wait_for_nobody() {
        let shared = SharedConnections::new(4);
        let healthy = Health::of("good", "default", &shared);
        let mut unhealthy = Health::of("bad", "default", &shared);
        let locked = QueueError::Busy("locked".into());
        let now = Instant::now();
        unhealthy.note("lease", Some(&locked), now, now);
        assert!(!unhealthy.is_unhealthy(), "once is an accident");
        unhealthy.note("lease", None, now, now);
        unhealthy.note("lease", Some(&locked), now, now);
        assert!(!unhealthy.is_unhealthy(), "and not twice in a row");
        unhealthy.note("settle", None, now, now);
        unhealthy.note("lease", Some(&locked), now, now);
        assert!(unhealthy.is_unhealthy());
        unhealthy.note("lease", None, now, now);
        assert!(unhealthy.is_unhealthy(), "it may come back");
        let mut beside_hidden = Health::of("good", "audit", &shared);
        for _ in 0..3 {
            beside_hidden.note("lease", Some(&QueueError::Hidden("detached".into())), now, now);
        }
        assert!(!beside_hidden.is_unhealthy(), "one lease's trouble");
        let places = [unhealthy.connection_turn().await, unhealthy.connection_turn().await];
        assert!(places.iter().all(Option::is_some));
        let mut third = Box::pin(unhealthy.connection_turn());
        assert!(futures_util::poll!(&mut third).is_pending());
        assert!(healthy.connection_turn().await.is_none());
        drop(places);
        assert!(third.await.is_some());
    }

    #[test]
    fn without_a_server_no_queue_ails() {
        let mut health = Health::of("good", "default", &SharedConnections::new(4));
        let now = Instant::now();
        health.note("lease", Some(&QueueError::Unavailable("gone".into())), now, now);
        assert!(!health.is_unhealthy());
    }
}
