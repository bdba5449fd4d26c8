//! Opening a connection: to the server of the URL, or to the one of several that can be written to.
//! Each attempt is bounded, the handshake included. Never sends a query but the settings.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Notification, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::QueueError;

/// How long a server may take to accept a connection, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Notifications that nobody has read yet; more are dropped, since each is only a hint.
const NOTIFICATIONS_MAX: usize = 256;
/// For the connections of `host serve`.
const SERVE_SETTINGS: &str = include_str!("serve_settings.sql");
/// For all others.
const COMMAND_SETTINGS: &str = include_str!("command_settings.sql");

/// The servers of a URL. Cheap to clone; clones know what the others have learned.
#[derive(Clone)]
pub(super) struct Servers {
    each: Vec<Config>,
    tls: Option<MakeRustlsConnect>,
    /// The one that was connected to last.
    last: Arc<AtomicUsize>,
    serves: bool,
}

/// A connection, driven by a task.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) notifications: mpsc::Receiver<Notification>,
    pub(super) driver: JoinHandle<()>,
}

impl Servers {
    pub(super) fn new(config: &Config, tls: Option<MakeRustlsConnect>) -> Self {
        let count = config.get_hosts().len();
        let each = (0..count).map(|i| only(config, i)).collect();
        Self { each, tls, last: Arc::default(), serves: false }
    }

    /// The same under another name.
    pub(super) fn named(mut self, application_name: &str) -> Self {
        for config in &mut self.each {
            config.application_name(application_name);
        }
        self
    }

    /// The same with the settings of `host serve`.
    pub(super) fn serving(mut self) -> Self {
        self.serves = true;
        self
    }

    /// Whether it is for `host serve`, which tries again whatever fails.
    pub(super) const fn serves(&self) -> bool {
        self.serves
    }

    /// Connects: to the server that it was last, else to the next one that will do.
    pub(super) async fn open(&self) -> Result<Opened, QueueError> {
        let first = self.last.load(Ordering::Relaxed);
        let mut failed = Vec::new();
        for i in (0..self.each.len()).map(|i| (first + i) % self.each.len()) {
            match self.open_one(&self.each[i]).await {
                Ok(opened) => {
                    self.last.store(i, Ordering::Relaxed);
                    return Ok(opened);
                }
                Err(error) => failed.push(error),
            }
        }
        // If one may come back, waiting makes sense.
        if failed.len() > 1 && failed.iter().any(QueueError::is_passing) {
            let all: Vec<_> = failed.iter().map(QueueError::to_string).collect();
            return Err(QueueError::Unavailable(all.join("; ")));
        }
        Err(failed.swap_remove(0))
    }

    async fn open_one(&self, config: &Config) -> Result<Opened, QueueError> {
        let within = config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        let opening = async {
            let (client, (notifications, driver)) = match &self.tls {
                Some(tls) => config.connect(tls.clone()).await.map(|(c, n)| (c, drive(n)))?,
                None => config.connect(NoTls).await.map(|(c, n)| (c, drive(n)))?,
            };
            let settings = if self.serves { SERVE_SETTINGS } else { COMMAND_SETTINGS };
            client.batch_execute(settings).await?;
            Ok(Opened { client, notifications, driver })
        };
        let opened = tokio::time::timeout(within, opening).await.unwrap_or_else(|_| {
            let within = humantime::format_duration(within);
            Err(QueueError::Unavailable(format!("no connection within {within}")))
        });
        opened.map_err(|error| if self.each.len() == 1 { error } else { located(error, config) })
    }
}

/// Of several servers, an error has to say which.
fn located(error: QueueError, config: &Config) -> QueueError {
    let (host, port) = (config.get_hosts().first(), config.get_ports().first());
    let host = match host {
        Some(Host::Tcp(name)) => name.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => String::new(),
    };
    match error {
        QueueError::Unavailable(text) => {
            QueueError::Unavailable(format!("{host}:{}: {text}", port.unwrap_or(&5432)))
        }
        QueueError::Unready(text) => {
            QueueError::Unready(format!("{host}:{}: {text}", port.unwrap_or(&5432)))
        }
        other => other,
    }
}

/// The values that a configuration has for one of its servers.
fn only(all: &Config, i: usize) -> Config {
    let mut one = Config::new();
    match &all.get_hosts()[i] {
        Host::Tcp(name) => one.host(name),
        Host::Unix(path) => one.host_path(path),
    };
    if let Some(address) = all.get_hostaddrs().get(i) {
        one.hostaddr(*address);
    }
    if let Some(port) = all.get_ports().get(i).or(all.get_ports().first()) {
        one.port(*port);
    }
    all.get_user().map(|user| one.user(user));
    all.get_dbname().map(|name| one.dbname(name));
    all.get_options().map(|options| one.options(options));
    all.get_application_name().map(|name| one.application_name(name));
    all.get_password().map(|password| one.password(password));
    all.get_connect_timeout().map(|time| one.connect_timeout(*time));
    all.get_tcp_user_timeout().map(|time| one.tcp_user_timeout(*time));
    all.get_keepalives_interval().map(|time| one.keepalives_interval(time));
    all.get_keepalives_retries().map(|n| one.keepalives_retries(n));
    one.keepalives(all.get_keepalives())
        .keepalives_idle(all.get_keepalives_idle())
        .ssl_mode(all.get_ssl_mode())
        .ssl_negotiation(all.get_ssl_negotiation())
        .channel_binding(all.get_channel_binding());
    let writable = match all.get_target_session_attrs() {
        // Whatever we do writes: a standby will not do.
        TargetSessionAttrs::Any if all.get_hosts().len() > 1 => TargetSessionAttrs::ReadWrite,
        asked => asked,
    };
    one.target_session_attrs(writable);
    one
}

/// Lets the connection work until it or its client ends, and hands out its notifications.
fn drive<T>(mut connection: Connection<Socket, T>) -> (mpsc::Receiver<Notification>, JoinHandle<()>)
where
    T: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(NOTIFICATIONS_MAX);
    let driver = tokio::spawn(async move {
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
    (receiver, driver)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(url: &str) -> Servers {
        Servers::new(&url.parse().unwrap(), None)
    }

    #[test]
    fn each_server_of_a_url_gets_what_the_url_says() {
        let url = "postgres://u:p@a:1,b:2/d?connect_timeout=7&application_name=n&keepalives_idle=9";
        let servers = servers(url);
        let [a, b] = &servers.each[..] else { panic!("not two") };
        for (config, host, port) in [(a, "a", 1), (b, "b", 2)] {
            let alone = format!(
                "postgres://u:p@{host}:{port}/d?connect_timeout=7&application_name=n&keepalives_idle=9&target_session_attrs=read-write"
            );
            assert_eq!(*config, alone.parse().unwrap());
        }
    }

    #[test]
    fn a_server_alone_is_taken_as_it_is() {
        let url =
            "postgres://u@%2Ftmp/d?sslmode=require&channel_binding=require&options=-c%20jit=off";
        assert_eq!(servers(url).each, [url.parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_left_after_a_while() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let mut config: Config =
            format!("postgres://u@127.0.0.1:{port},127.0.0.1:1/d").parse().unwrap();
        config.connect_timeout(Duration::from_millis(50));
        let error = Servers::new(&config, None).open().await.err().unwrap().to_string();
        assert!(error.contains(&format!("127.0.0.1:{port}: no connection within 50ms")), "{error}");
        assert!(error.contains("127.0.0.1:1: "), "{error}");
    }
}
