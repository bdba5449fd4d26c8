//! Connections to servers: names are resolved, every address is looked at, and one that was looked at is
//! connected to; TLS is verified. Never asks whether a request is granted.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower_service::Service;

use super::body::Sent;
use crate::grant::Reach;
use crate::grant::address::reach;
use crate::sandbox::SandboxError;

/// From the look-up of the name to the end of the TLS handshake.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection that nobody uses is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Connections to one server that are kept, where the grants name all servers.
const IDLE_MAX: usize = 32;
/// Names that one version of a handler looks up at once. A look-up holds a thread, which a slow resolver keeps
/// for longer than any request waits.
const LOOKUPS_MAX: usize = 16;
/// The longest head of a response, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Sends requests, over connections that it keeps for further ones.
pub(super) type Client = hyper_util::client::legacy::Client<Connector, Sent>;

/// The clients of one version of a handler: a connection that was made for one is nobody else's.
pub(in crate::sandbox) struct Clients {
    public: Client,
    private: Client,
}

impl Clients {
    /// Without connections yet; `keeps` them when they are idle.
    pub(in crate::sandbox) fn new(tls: &Arc<ClientConfig>, keeps: bool) -> Self {
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
        let client = |reach| {
            let resolver = Resolver { reach, lookups: lookups.clone() };
            hyper_util::client::legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(if keeps { IDLE_MAX } else { 0 })
                .http1_max_buf_size(HEAD_BYTES_MAX)
                .build(Connector::new(resolver, tls.clone()))
        };
        Self { public: client(Reach::Public), private: client(Reach::Private) }
    }

    /// The one whose names may lead so far.
    pub(super) fn reaching(&self, reach: Reach) -> Client {
        match reach {
            Reach::Public => self.public.clone(),
            Reach::Private => self.private.clone(),
        }
    }
}

/// Whom to trust. Read from the system once, when a handler first needs it.
#[derive(Default)]
pub(in crate::sandbox) struct Tls(OnceLock<Arc<ClientConfig>>);

impl Tls {
    /// Reads files: call it on a thread that may block. `required`: having no root certificates is an error.
    pub(in crate::sandbox) fn config(
        &self,
        required: bool,
    ) -> Result<Arc<ClientConfig>, SandboxError> {
        if let Some(config) = self.0.get() {
            return Ok(config.clone());
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() && required {
            return Err(SandboxError::Roots);
        }
        let found = !roots.is_empty();
        let config =
            ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
                .with_safe_default_protocol_versions()
                .map_err(|error| SandboxError::Engine(error.to_string()))?
                .with_root_certificates(roots)
                .with_no_client_auth();
        let config = Arc::new(config);
        // Certificates may be installed yet.
        Ok(if found { self.0.get_or_init(|| config).clone() } else { config })
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The name leads to where its grant does not.
    #[error("{name} is {address}, which {}", .hint)]
    Prohibited { name: String, address: IpAddr, hint: &'static str },
    /// The name leads nowhere.
    #[error("cannot look up {name}: {error}")]
    Unknown { name: String, error: io::Error },
    #[error("no connection within {}", humantime::format_duration(CONNECT_TIMEOUT))]
    Timeout,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Connects within a time.
#[derive(Clone)]
pub(super) struct Connector(HttpsConnector<HttpConnector<Resolver>>);

impl Connector {
    fn new(resolver: Resolver, tls: Arc<ClientConfig>) -> Self {
        // An address that is written out is not resolved: only a grant of just that address covers it.
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Self((tcp, tls).into())
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.0.call(server));
        connecting.map(|done| done.map_err(|_elapsed| ConnectError::Timeout)?).boxed()
    }
}

/// Resolves names to addresses that may be connected to. One that may not spoils the name: what it leads
/// to besides is not to be trusted either.
#[derive(Clone)]
pub(super) struct Resolver {
    reach: Reach,
    lookups: Arc<Semaphore>,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (granted, lookups) = (self.reach, self.lookups.clone());
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found = match look_up(name.clone(), lookups).await {
                Ok(found) => found,
                Err(error) => return Err(ConnectError::Unknown { name, error }),
            };
            match found.as_slice().iter().find_map(|found| prohibition(granted, found.ip())) {
                Some((address, hint)) => Err(ConnectError::Prohibited { name, address, hint }),
                None => Ok(found),
            }
        })
    }
}

/// Asks the system's resolver. Who no longer waits leaves the thread at it, and the permit with the thread.
async fn look_up(
    name: String,
    lookups: Arc<Semaphore>,
) -> io::Result<std::vec::IntoIter<SocketAddr>> {
    let permit = lookups.acquire_owned().await.map_err(io::Error::other)?;
    let looking = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        (name.as_str(), 0).to_socket_addrs()
    });
    looking.await.map_err(io::Error::other)?
}

/// Why a name with such a grant may not lead to an address, if it may not.
fn prohibition(granted: Reach, address: IpAddr) -> Option<(IpAddr, &'static str)> {
    let hint = match reach(address) {
        Some(needed) if needed <= granted => return None,
        Some(_) => {
            "is private; if it is meant, deploy with 'private' after the URL of --http, or with the address"
        }
        None => "no name may lead to",
    };
    Some((address, hint))
}
