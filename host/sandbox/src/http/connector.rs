//! The way to a server: names are resolved, every address is looked at, and one that was looked at
//! is connected to; TLS is verified. Never asks whether a request is granted.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::TryFutureExt as _;
use futures_util::future::BoxFuture;
use hyper::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower_service::Service;

use super::error::{CONNECT_TIMEOUT, ConnectError};
use super::tap::{Tap, Tapped};
use host_core::deployment::grant::Reach;
use host_core::deployment::grant::address::reach;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Connects within a time.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector<Resolver>,
    tls: Arc<ClientConfig>,
}

/// A connection to a server, whose incoming bytes are counted.
pub(super) type Stream = MaybeHttpsStream<TokioIo<Tapped<TcpStream>>>;

impl Connector {
    pub(super) fn new(resolver: Resolver, tls: Arc<ClientConfig>) -> Self {
        // An address that is written out is not resolved: only a grant of just that address covers
        // it.
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Self { tcp, tls }
    }

    /// Connects to the server of this URL. `tap` counts what it sends, the handshake of TLS
    /// included.
    pub(super) async fn connect(self, server: Uri, tap: Tap) -> Result<Stream, BoxError> {
        let mut connector = HttpsConnector::from((TapConnector { tcp: self.tcp, tap }, self.tls));
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, connector.call(server));
        connecting.await.map_err(|_elapsed| ConnectError::Timeout)?
    }
}

/// Connects once, and counts from then on.
struct TapConnector {
    tcp: HttpConnector<Resolver>,
    tap: Tap,
}

impl Service<Uri> for TapConnector {
    type Response = TokioIo<Tapped<TcpStream>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let tap = self.tap.clone();
        let tapped = |stream: TokioIo<_>| TokioIo::new(Tapped::new(stream.into_inner(), tap));
        Box::pin(self.tcp.call(server).map_ok(tapped).map_err(Into::into))
    }
}

/// Resolves names to addresses that may be connected to. One that may not spoils the name: what it
/// leads to besides is not to be trusted either.
#[derive(Clone)]
pub(super) struct Resolver {
    pub(super) reach: Reach,
    pub(super) lookups: Arc<Semaphore>,
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

/// Asks the system's resolver. Who no longer waits leaves the thread at it, and the permit with the
/// thread.
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
            "is private; to allow it, deploy with 'private' after the URL of --http, or with the address"
        }
        None => "no name may lead to",
    };
    Some((address, hint))
}
