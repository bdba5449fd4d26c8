//! Connections to Postgres: a pool, and connections of one's own. Never sends a query.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Config, Connection, NoTls, Notification, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::url::DatabaseUrl;
use super::error::{QueueError, SQLSTATE_CANNOT_CONNECT};

pub mod url;

/// A connection of the pool; it goes back when it is dropped.
pub type Pooled = deadpool_postgres::Client;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a silent network may hold a connection that has something to send.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Silence after which a connection is probed, and between the probes.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Notifications that nobody has read yet; more are dropped, since each is only a hint.
const NOTIFICATIONS_MAX: usize = 256;

/// A database, and how to reach it. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    pool: Pool,
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
    /// not connect yet.
    pub fn new(url: &str, connections_max: usize) -> Result<Self, QueueError> {
        let DatabaseUrl { mut config, tls, shown } = DatabaseUrl::parse(url)?;
        set_defaults(&mut config);
        Self::with_pool(config, tls, shown, connections_max)
    }

    fn with_pool(
        config: Config,
        tls: Option<MakeRustlsConnect>,
        shown: String,
        connections_max: usize,
    ) -> Result<Self, QueueError> {
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match &tls {
            Some(tls) => Manager::from_config(config.clone(), tls.clone(), manager_config),
            None => Manager::from_config(config.clone(), NoTls, manager_config),
        };
        let pool = Pool::builder(manager)
            .max_size(connections_max)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| QueueError::Unexpected(e.to_string()))?;
        Ok(Self { config, tls, pool, shown })
    }

    /// The same database through a pool of its own, whose connections go by another name.
    pub fn named_as(
        &self,
        application_name: &str,
        connections_max: usize,
    ) -> Result<Self, QueueError> {
        let mut config = self.config.clone();
        config.application_name(application_name);
        Self::with_pool(config, self.tls.clone(), self.shown.clone(), connections_max)
    }

    /// The URL without its password, for people.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// A connection of the pool; waits until one is free.
    pub async fn get(&self) -> Result<Pooled, QueueError> {
        self.pool.get().await.map_err(|e| match e {
            PoolError::Backend(e) => self.named(e.into()),
            other => QueueError::Unavailable(other.to_string()),
        })
    }

    /// A connection of one's own.
    pub async fn connect_alone(&self) -> Result<Alone, QueueError> {
        let (client, notifications) = match &self.tls {
            Some(tls) => self.config.connect(tls.clone()).await.map(|(c, n)| (c, drive(n))),
            None => self.config.connect(NoTls).await.map(|(c, n)| (c, drive(n))),
        }
        .map_err(|e| self.named(e.into()))?;
        Ok(Alone { client, notifications })
    }

    /// "Connection refused" alone does not say by whom.
    fn named(&self, error: QueueError) -> QueueError {
        match error {
            QueueError::Unavailable(text) => {
                QueueError::Unavailable(format!("{text} (at {})", self.shown))
            }
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
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
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

/// Lets the connection work until it or its client ends, and hands out its notifications.
fn drive<T>(mut connection: Connection<Socket, T>) -> mpsc::Receiver<Notification>
where
    T: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(NOTIFICATIONS_MAX);
    tokio::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(message) = messages.next().await {
            match message {
                Ok(AsyncMessage::Notification(n)) => drop(sender.try_send(n)),
                Ok(AsyncMessage::Notice(n)) => {
                    tracing::debug!(severity = n.severity(), "{}", n.message());
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(error = %QueueError::from(error), "connection lost");
                    break;
                }
            }
        }
    });
    receiver
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
pub async fn retry<T>(
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, QueueError>,
) -> Result<T, QueueError> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        match attempt().await {
            Err(error) if error.is_passing() => {
                let wait = backoff.wait();
                let wait_ms = wait.as_millis() as u64;
                tracing::warn!(%error, wait_ms, "cannot {what}; trying again");
                tokio::time::sleep(wait).await;
            }
            done => return done,
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
        let result: Result<(), _> = retry("do it", async || {
            attempts += 1;
            Err(if attempts < 2 {
                QueueError::Busy("x".into())
            } else {
                QueueError::LeaseLost("y".into())
            })
        })
        .await;
        assert_eq!(result, Err(QueueError::LeaseLost("y".into())));
        assert_eq!(attempts, 2);
    }
}
