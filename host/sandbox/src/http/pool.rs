//! Connections that are open: those that serve a request, and those that are kept for the next one.
//! Each request is charged to its call from its first byte to its last. Never resolves a name.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, Uri};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::body::Sent;
use super::connector::{BoxError, Connector};
use super::peers::PeerThreads;
use super::tap::{Allowance, Tap};

/// How long a connection that nobody uses is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Connections to one server that are kept, where the grants name all servers.
const IDLE_MAX: usize = 32;
/// The longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("no connection")]
    Connect(#[source] BoxError),
    #[error("no answer")]
    Send(#[source] hyper::Error),
}

/// Sends requests, over connections that it keeps for further ones. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    connector: Connector,
    threads: Arc<PeerThreads>,
    /// `None`: none is kept.
    idle: Option<Arc<Idle>>,
}

/// A connection that is open.
struct Open {
    sender: SendRequest<Sent>,
    tap: Tap,
}

/// What connects to the same server by the same protocol.
type Server = String;

/// Connections that nobody uses.
#[derive(Default)]
struct Idle(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    by_server: BTreeMap<Server, Vec<(Open, Instant)>>,
    /// A task looks for those that were kept for too long.
    is_swept: bool,
}

impl Client {
    /// Without connections yet; `keeps` them when they are idle.
    pub(super) fn new(connector: Connector, threads: Arc<PeerThreads>, keeps: bool) -> Self {
        Self { connector, threads, idle: keeps.then(Arc::default) }
    }

    /// Sends a request, up to the head of its answer. Dropping the future closes its connection.
    pub(super) async fn exchange(
        &self,
        mut request: Request<Sent>,
        call: &Arc<Allowance>,
    ) -> Result<Response<Incoming>, ExchangeError> {
        let uri = std::mem::take(request.uri_mut());
        let scheme = uri.scheme_str().unwrap_or_default();
        let server = format!("{scheme}://{}", uri.authority().map_or("", |a| a.as_str()));
        let server = server.to_ascii_lowercase();
        if let Some(path) = uri.path_and_query() {
            *request.uri_mut() = path.clone().into();
        }
        loop {
            let kept = self.idle.as_ref().and_then(|idle| idle.take(&server));
            let was_kept = kept.is_some();
            let mut open = match kept {
                Some(open) => open,
                None => self.open(uri.clone()).await.map_err(ExchangeError::Connect)?,
            };
            open.tap.charge(call.clone());
            match open.sender.try_send_request(request).await {
                Ok(response) => {
                    open.tap.head_is_read();
                    self.hand_back(server, open);
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    // The server has closed it meanwhile; nothing of the request was sent.
                    Some(unsent) if was_kept => request = unsent,
                    _ => return Err(ExchangeError::Send(error.into_error())),
                },
            }
        }
    }

    /// Connects. Dropping the future ends the attempt.
    async fn open(&self, server: Uri) -> Result<Open, BoxError> {
        let connector = self.connector.clone();
        let mut opening = JoinSet::new();
        opening.spawn_on(
            async move {
                let tap = Tap::default();
                let stream = connector.connect(server, tap.clone()).await?;
                let mut http = http1::Builder::new();
                let (sender, connection) =
                    http.max_buf_size(HEAD_BYTES_MAX).handshake(stream).await?;
                // What goes wrong is told to who waits for the answer.
                tokio::spawn(async move { _ = connection.await });
                Ok::<_, BoxError>(Open { sender, tap })
            },
            self.threads.handle(),
        );
        let opened = opening.join_next().await;
        opened.unwrap_or_else(|| unreachable!("one was begun")).map_err(io::Error::other)?
    }

    /// Keeps a connection once its answer is read to the end.
    fn hand_back(&self, server: Server, mut open: Open) {
        let idle = self.idle.clone();
        let threads = self.threads.handle().clone();
        self.threads.handle().spawn(async move {
            if open.sender.ready().await.is_ok()
                && let Some(idle) = idle
            {
                open.tap.release();
                idle.put(server, open, &threads);
            }
        });
    }
}

impl Idle {
    /// The one that was used last, if one is there and open.
    fn take(&self, server: &str) -> Option<Open> {
        let mut kept = self.lock();
        let connections = kept.by_server.get_mut(server)?;
        while let Some((open, since)) = connections.pop() {
            if open.sender.is_ready() && since.elapsed() < IDLE_TIMEOUT {
                return Some(open);
            }
        }
        None
    }

    fn put(self: &Arc<Self>, server: Server, open: Open, threads: &Handle) {
        let mut kept = self.lock();
        let connections = kept.by_server.entry(server).or_default();
        if connections.len() < IDLE_MAX {
            connections.push((open, Instant::now()));
        }
        if !std::mem::replace(&mut kept.is_swept, true) {
            threads.spawn(sweep(Arc::downgrade(self)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what was kept for too long, until nothing is kept.
async fn sweep(idle: Weak<Idle>) {
    loop {
        tokio::time::sleep(IDLE_TIMEOUT / 3).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut kept = idle.lock();
        kept.by_server.retain(|_, connections| {
            connections
                .retain(|(open, since)| !open.sender.is_closed() && since.elapsed() < IDLE_TIMEOUT);
            !connections.is_empty()
        });
        if kept.by_server.is_empty() {
            kept.is_swept = false;
            return;
        }
    }
}
