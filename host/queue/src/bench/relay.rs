//! A link that makes a database look far away: all that a host and its server say to each other
//! arrives late. It loses nothing, and it is as wide as the machine. Never reads what it carries.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_postgres::config::{Config, Host, SslMode};

use crate::connect::url::DatabaseUrl;
use crate::error::{QueueError, SQLSTATE_CANNOT_CONNECT};

/// The most that is read at once, in bytes.
const PIECE: usize = 64 << 10;
/// The most pieces that are on their way in one direction of a connection.
const PIECES: usize = 1 << 10;

/// Ends with all its connections when dropped.
#[derive(Debug)]
pub struct Relay {
    url: String,
    accepting: AbortHandle,
}

#[derive(Clone, Debug)]
enum Server {
    Socket(PathBuf),
    Address(String, u16),
}

impl Relay {
    /// A link to the server that `url` names first, with this round trip.
    ///
    /// # Errors
    /// The URL is not valid or asks for TLS, which is of one server name; or no port is free.
    pub async fn start(url: &str, round_trip: Duration) -> Result<Self, QueueError> {
        let config = DatabaseUrl::parse(url)?.config;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(QueueError::Refused {
                sqlstate: SQLSTATE_CANNOT_CONNECT.to_owned(),
                message: "a round trip cannot be added to a connection with TLS".to_owned(),
                hint: Some("leave sslmode out of the database URL".to_owned()),
            });
        }
        let failed = |e: std::io::Error| QueueError::Unavailable(format!("no port is free: {e}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let accepting =
            tokio::spawn(accept(listener, server_of(&config), round_trip / 2)).abort_handle();
        Ok(Self { url: url_through(&config, port), accepting })
    }

    /// The URL that leads through the link.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn server_of(config: &Config) -> Server {
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match config.get_hosts().first() {
        Some(Host::Unix(dir)) => Server::Socket(dir.join(format!(".s.PGSQL.{port}"))),
        Some(Host::Tcp(name)) => Server::Address(name.clone(), port),
        None => Server::Address("127.0.0.1".to_owned(), port),
    }
}

fn url_through(config: &Config, port: u16) -> String {
    let encode = |bytes: &[u8]| percent_encode(bytes, NON_ALPHANUMERIC).to_string();
    let mut who = encode(config.get_user().unwrap_or_default().as_bytes());
    if let Some(password) = config.get_password() {
        who = format!("{who}:{}", encode(password));
    }
    let database = encode(config.get_dbname().unwrap_or_default().as_bytes());
    format!("postgres://{who}@127.0.0.1:{port}/{database}")
}

async fn accept(listener: TcpListener, server: Server, one_way: Duration) {
    let mut links = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let server = server.clone();
        links.spawn(async move {
            // The client sees its connection end, and says so.
            let _ = link(client, server, one_way).await;
        });
        while links.try_join_next().is_some() {}
    }
}

async fn link(client: TcpStream, server: Server, one_way: Duration) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    match server {
        Server::Socket(path) => {
            let (from_server, to_server) = UnixStream::connect(path).await?.into_split();
            tokio::try_join!(
                carry(from_client, to_server, one_way),
                carry(from_server, to_client, one_way)
            )?;
        }
        Server::Address(name, port) => {
            let stream = TcpStream::connect((name, port)).await?;
            stream.set_nodelay(true)?;
            let (from_server, to_server) = stream.into_split();
            tokio::try_join!(
                carry(from_client, to_server, one_way),
                carry(from_server, to_client, one_way)
            )?;
        }
    }
    Ok(())
}

/// Carries one direction to its end. Each piece arrives `one_way` after it was sent, whatever is on
/// its way before it.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    one_way: Duration,
) -> std::io::Result<()> {
    let (sent, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let take = async move {
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            if from.read_buf(&mut piece).await? == 0 {
                return Ok::<_, std::io::Error>(());
            }
            if sent.send((Instant::now() + one_way, piece)).await.is_err() {
                return Ok(());
            }
        }
    };
    let bring = async move {
        while let Some((at, piece)) = under_way.recv().await {
            tokio::time::sleep_until(at).await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(take, bring).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_leads_through_the_link() {
        let through = |url: &str| {
            let config = url.parse::<Config>().unwrap();
            (url_through(&config, 7), format!("{:?}", server_of(&config)))
        };
        let (url, server) = through("postgres://postgres@/d%20b?host=/tmp/socket&port=5433");
        assert_eq!(url, "postgres://postgres@127.0.0.1:7/d%20b");
        assert_eq!(server, r#"Socket("/tmp/socket/.s.PGSQL.5433")"#);
        let (url, server) = through("postgres://u:p%40ss@db.example/d");
        assert_eq!(url, "postgres://u:p%40ss@127.0.0.1:7/d");
        assert_eq!(server, r#"Address("db.example", 5432)"#);
    }

    #[tokio::test]
    async fn all_of_it_arrives_in_order_and_late() {
        let (mut client, from) = tokio::io::duplex(64);
        let (to, mut server) = tokio::io::duplex(64);
        let one_way = Duration::from_millis(30);
        let carrying = tokio::spawn(carry(from, to, one_way));
        let began = Instant::now();
        let sent: Vec<u8> = (0..=255).collect();
        client.write_all(&sent).await.unwrap();
        drop(client);
        let mut arrived = Vec::new();
        server.read_to_end(&mut arrived).await.unwrap();
        assert!(began.elapsed() >= one_way);
        assert_eq!(arrived, sent);
        carrying.await.unwrap().unwrap();
    }
}
