//! Connections to Postgres: a pool, and connections of one's own. Knows no
//! query.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, Notification, Row};

use self::pool::Connections;
pub use self::pool::Pooled;
use self::servers::Servers;
use self::url::DatabaseUrl;
use super::error::{QueueError, SQLSTATE_CANNOT_CONNECT};
use host_core::health::incident::Incident;
use host_core::health::progress::Progress;

mod environment;
mod hidden;
mod pool;
pub mod pooler;
mod servers;
pub mod url;

/// How long a silent network may hold a connection that has something to send.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence after which a connection is probed, and between the probes.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// A database, and how to reach it. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    servers: Servers,
    pool: Connections,
    shown: String,
}

/// A connection outside the pool: what happens to its session, happens to nobody else's.
pub struct Alone {
    /// For queries. The connection ends when it is dropped.
    pub client: tokio_postgres::Client,
    /// What `LISTEN` brought. Ends with the connection.
    pub notifications: mpsc::Receiver<Notification>,
}

impl Database {
    /// The database of a URL, reached through at most `connections_max` pooled connections. Does
    /// not connect yet. Of several servers, it is the one that can be written to.
    pub fn new(url: &str, connections_max: usize) -> Result<Self, QueueError> {
        let DatabaseUrl { mut config, tls, shown } = DatabaseUrl::parse(url)?;
        set_defaults(&mut config);
        let servers = Servers::new(&config, tls);
        Self::through(servers, connections_max, shown, &Progress::default())
    }

    fn through(
        servers: Servers,
        connections_max: usize,
        shown: String,
        progress: &Progress,
    ) -> Result<Self, QueueError> {
        let pool = Connections::new(servers.clone(), connections_max, progress)?;
        Ok(Self { servers, pool, shown })
    }

    /// The same database for `host serve`, through a pool of its own: whatever timeouts its role
    /// has do not hold there.
    pub fn serving(&self, connections_max: usize) -> Result<Self, QueueError> {
        let (servers, shown) = (self.servers.clone().serving(), self.shown.clone());
        Self::through(servers, connections_max, shown, &Progress::default())
    }

    /// The same database through a pool of its own, whose connections go by another name.
    /// `progress` watches whether they are given out.
    pub fn named_as(
        &self,
        application_name: &str,
        connections_max: usize,
        progress: &Progress,
    ) -> Result<Self, QueueError> {
        let servers = self.servers.clone().named(application_name);
        Self::through(servers, connections_max, self.shown.clone(), progress)
    }

    /// The URL without its password, for people.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// A connection of the pool; waits until one is free.
    pub async fn get(&self) -> Result<Pooled, QueueError> {
        self.pool.get().await.map_err(|e| self.named(e))
    }

    /// Calls a function that returns one row.
    pub(super) async fn call(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, QueueError> {
        let client = self.get().await?;
        let row = client.ask(async {
            let statement = client.prepare_cached(sql).await?;
            Ok(client.query_one(&statement, params).await?)
        });
        row.await
    }

    /// Gives up all connections of the pool, those in use as well: one of their kind has gone
    /// silent.
    pub fn give_up(&self) {
        self.pool.give_up();
    }

    /// A connection of one's own.
    pub async fn connect_alone(&self) -> Result<Alone, QueueError> {
        let opened = self.servers.open().await.map_err(|e| self.named(e))?;
        Ok(Alone { client: opened.client, notifications: opened.notifications })
    }

    /// "Connection refused" alone does not say by whom.
    fn named(&self, error: QueueError) -> QueueError {
        match error {
            QueueError::Unavailable(text) => {
                QueueError::Unavailable(format!("{text} (at {})", self.shown))
            }
            QueueError::Unready(text) => QueueError::Unready(format!("{text} (at {})", self.shown)),
            QueueError::Refused { sqlstate, message, hint }
                if sqlstate == SQLSTATE_CANNOT_CONNECT =>
            {
                let message = format!("{message} (at {})", self.shown);
                QueueError::Refused { sqlstate, message, hint }
            }
            other => other,
        }
    }
}

/// What the URL leaves open. Without these a host would notice a dead network after two hours.
fn set_defaults(config: &mut Config) {
    let kernel_default = Duration::from_hours(2);
    if config.get_application_name().is_none() {
        config.application_name("host");
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    if config.get_keepalives_idle() == kernel_default {
        config.keepalives_idle(KEEPALIVE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(KEEPALIVE);
    }
}

/// Waits that double up to a bound, each shortened by up to half at random so that hosts which lost
/// the same server do not come back in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    /// From `first` up to `max`.
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { next: first, max }
    }

    /// How long to wait now.
    pub fn wait(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.max);
        full.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// Tries again and again, for as long as the error may pass. For `host serve`; one-shot commands
/// fail at once. Drop the future to stop trying.
pub async fn retry<T, F: Future<Output = Result<T, QueueError>>>(
    what: &str,
    attempt: impl FnMut() -> F,
) -> Result<T, QueueError> {
    retry_while(what, QueueError::is_passing, attempt).await
}

/// The same, for as long as `passes` holds of the error.
pub async fn retry_while<T, F: Future<Output = Result<T, QueueError>>>(
    what: &str,
    passes: impl Fn(&QueueError) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, QueueError> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut incident = Incident::default();
    loop {
        let began = Instant::now();
        match attempt().await {
            Err(error) if passes(&error) => {
                if incident.shows(error.kind(), Duration::ZERO, began, Instant::now()) {
                    tracing::warn!(%error, "cannot {what}; trying again until it works");
                }
                tokio::time::sleep(backoff.wait()).await;
            }
            done => {
                if done.is_ok() && incident.is_on() {
                    tracing::info!("could {what} at last");
                }
                return done;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(3));
        for full in [1.0, 2.0, 3.0, 3.0] {
            let wait = backoff.wait().as_secs_f64();
            assert!(wait >= full / 2.0 && wait <= full, "{wait} of {full}");
        }
    }

    #[tokio::test]
    async fn retry_ends_with_what_does_not_pass() {
        let mut attempts = 0;
        let result: Result<(), _> = retry("do it", || {
            attempts += 1;
            std::future::ready(Err(if attempts < 2 {
                QueueError::Busy("x".into())
            } else {
                QueueError::LeaseLost("y".into())
            }))
        })
        .await;
        assert_eq!(result, Err(QueueError::LeaseLost("y".into())));
        assert_eq!(attempts, 2);
    }
}
