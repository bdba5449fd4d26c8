//! The pool, and what is done on its connections. One that did not answer, or whose server will not
//! do any more, does not go back.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult};
use deadpool_postgres::ClientWrapper;
use tokio::sync::watch;

use super::servers::Servers;
use crate::error::QueueError;
use host_core::health::incident::{Incident, Over};
use host_core::health::progress::{Gate, Progress};

/// How long an answer may take. Longer than any statement may: see `serve_settings.sql`.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// While somebody waits for a connection, one is given out or comes back within this time: who has
/// one asks twice at most, and opening one is bounded.
const MOVES_WITHIN: Duration = Duration::from_secs(90);

/// Statements of a connection. Each calls a function of one queue. Its server process keeps what it
/// has compiled of that: some 0.8 MB. A connection that has met more is replaced.
const STATEMENTS_MAX: usize = 512;
/// Statements of a connection that is old: of some twenty busy queues. More may be of queues that
/// are idle by now.
const STATEMENTS_OLD_MAX: usize = 128;
/// When a connection is old.
const OLD_AFTER: Duration = Duration::from_mins(10);

/// Connections to one database. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connections {
    pool: Pool<Opener>,
    /// Counts how often all connections were given up.
    given_up: Arc<watch::Sender<u64>>,
    incident: Arc<Mutex<Incident>>,
    /// Whether who finds no connection tries again; else the error is told, and is the end.
    is_retried: bool,
    gate: Arc<Gate>,
}

/// A connection of the pool; it goes back when it is dropped, if it is fit for it.
pub struct Pooled {
    /// There until dropped.
    object: Option<Object<Opener>>,
    fit: AtomicBool,
    given_up: watch::Receiver<u64>,
    gate: Arc<Gate>,
}

impl Connections {
    pub(super) fn new(
        servers: Servers,
        connections_max: usize,
        progress: &Progress,
    ) -> Result<Self, QueueError> {
        let given_up = Arc::new(watch::Sender::new(0));
        let is_retried = servers.serves();
        let opener = Opener { servers, given_up: given_up.subscribe() };
        let pool = Pool::builder(opener)
            .max_size(connections_max)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| QueueError::Unexpected(e.to_string()))?;
        let gate = Arc::new(progress.gate("the pool of connections", MOVES_WITHIN));
        Ok(Self { pool, given_up, incident: Arc::default(), is_retried, gate })
    }

    pub(super) async fn get(&self) -> Result<Pooled, QueueError> {
        let began = Instant::now();
        let waiting = self.gate.wait();
        let object = self.pool.get().await.map_err(|e| match e {
            PoolError::Backend(error) => error,
            other => QueueError::Unavailable(other.to_string()),
        });
        waiting.passed();
        if self.is_retried {
            self.name_incident(object.as_ref().err(), began);
        }
        let object = object?;
        let (given_up, gate) = (self.given_up.subscribe(), self.gate.clone());
        Ok(Pooled { object: Some(object), fit: AtomicBool::new(true), given_up, gate })
    }

    /// Who needs a connection tries again by itself: that there is none is said here, for all.
    fn name_incident(&self, error: Option<&QueueError>, began: Instant) {
        let mut incident = self.incident.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match error {
            Some(error) => {
                if incident.shows(error.kind(), Duration::ZERO, began, now) {
                    tracing::warn!(%error, "cannot open a connection of the pool; trying again until it works");
                }
            }
            None => {
                if let Some(Over { lasted, times }) = incident.calm(now) {
                    tracing::info!(?lasted, times, "connections of the pool can be opened again");
                }
            }
        }
    }

    pub(super) fn give_up(&self) {
        self.given_up.send_modify(|times| *times += 1);
    }
}

impl Pooled {
    /// Does some work on the connection, all of it within half a minute. The connection is not used
    /// again after an error of its own or of its server, nor if the future is dropped half-way.
    /// Otherwise a late answer would be taken for that of another request.
    ///
    /// # Errors
    /// Those of the work, and [`QueueError::Unavailable`] if there was no answer.
    pub async fn ask<T>(
        &self,
        work: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<T, QueueError> {
        self.fit.store(false, Ordering::Relaxed);
        let mut given_up = self.given_up.clone();
        let no_answer = |why: &str| Err(QueueError::Unavailable(why.to_owned()));
        let done = tokio::select! {
            done = work => done,
            () = tokio::time::sleep(ANSWER_WITHIN) => no_answer("no answer within 30s"),
            Ok(()) = given_up.changed() => no_answer("no answer on another connection either"),
        };
        self.fit.store(true, Ordering::Relaxed);
        done.inspect_err(|error| self.note(error))
    }

    /// Notes an error that work on this connection has met.
    pub fn note(&self, error: &QueueError) {
        if error.is_of_server() {
            self.fit.store(false, Ordering::Relaxed);
        }
    }
}

impl Deref for Pooled {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.object.as_ref().expect("there until dropped").client
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        &mut self.object.as_mut().expect("there until dropped").client
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if !self.fit.load(Ordering::Relaxed)
            && let Some(object) = self.object.take()
        {
            drop(Object::take(object));
        }
        self.gate.moved();
    }
}

/// Makes the pool's connections.
pub(super) struct Opener {
    servers: Servers,
    given_up: watch::Receiver<u64>,
}

/// A connection, and how often all had been given up when it was made.
pub(super) struct Kept {
    client: ClientWrapper,
    made_at: u64,
}

impl Opener {
    /// A host that serves waits for its server, whatever that says to new connections now: a
    /// password may be changed back, a role or a database may come again.
    fn passing(&self, error: QueueError) -> QueueError {
        match error {
            QueueError::Refused { .. } if self.servers.serves() => {
                QueueError::Unavailable(error.to_string())
            }
            error => error,
        }
    }
}

impl Manager for Opener {
    type Type = Kept;
    type Error = QueueError;

    async fn create(&self) -> Result<Kept, QueueError> {
        let made_at = *self.given_up.borrow();
        let opened = self.servers.open().await.map_err(|error| self.passing(error))?;
        Ok(Kept { client: ClientWrapper::new(opened.client, opened.driver), made_at })
    }

    async fn recycle(&self, kept: &mut Kept, metrics: &Metrics) -> RecycleResult<QueueError> {
        if kept.client.is_closed() || kept.made_at != *self.given_up.borrow() {
            return Err(RecycleError::message("it is of no more use"));
        }
        if is_replaced(kept.client.statement_cache.size(), metrics.created.elapsed()) {
            return Err(RecycleError::message("its server process has grown large"));
        }
        Ok(())
    }
}

/// Whether a connection that knows so many statements is given up for the memory of its server
/// process.
fn is_replaced(statements: usize, age: Duration) -> bool {
    let max = if age < OLD_AFTER { STATEMENTS_MAX } else { STATEMENTS_OLD_MAX };
    statements > max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_has_met_many_queues_is_replaced() {
        assert!(!is_replaced(STATEMENTS_MAX, Duration::ZERO));
        assert!(is_replaced(STATEMENTS_MAX + 1, Duration::ZERO));
        assert!(is_replaced(STATEMENTS_MAX, OLD_AFTER));
        assert!(!is_replaced(STATEMENTS_OLD_MAX, OLD_AFTER * 100), "of busy queues");
    }
}
