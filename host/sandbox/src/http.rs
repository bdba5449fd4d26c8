//! A guest's outbound HTTP: what its deployment grants is sent, the rest is refused, and all of it
//! is counted. Never follows a redirect: the guest sees it, and asks for the other URL as for the
//! first.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Request, Response, Uri};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpHooks};

use self::body::{Call, Flight, Received, Sent, bytes_of};
pub(super) use self::clients::{Clients, Tls};
pub(super) use self::peers::Peers;
use self::pool::Client;
use super::bindings::host::jobs::log::Level;
use super::log::GuestLog;
use super::settings::HandlerSettings;
use host_core::deployment::grant::{Reach, Scheme, Target, permit};

mod body;
mod clients;
mod connector;
mod error;
mod peers;
mod pool;
pub(super) mod requests;
mod tap;

/// What the headers of one request may take in a host's memory, in bytes.
const FIELDS_BYTES_MAX: usize = 32 << 10;
/// What a guest may hand over of a body before the network has taken it, in bytes.
const CHUNK_BYTES_MAX: usize = 64 << 10;

type SendError = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sending = Box<dyn Future<Output = Result<(Response<WasiBody>, SendError), Error>> + Send>;

/// The HTTP of one sandbox. To be dropped before the resources of its guest: see [`Call::end`].
pub(super) struct Http {
    pub(super) ctx: WasiHttpCtx,
    pub(super) hooks: Hooks,
}

/// What is asked before a request is sent.
pub(super) struct Hooks {
    settings: Arc<HandlerSettings>,
    clients: Arc<Clients>,
    log: GuestLog,
    call: Arc<Call>,
    requests: u32,
}

impl Http {
    pub(super) fn new(
        settings: Arc<HandlerSettings>,
        clients: Arc<Clients>,
        log: GuestLog,
    ) -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(FIELDS_BYTES_MAX);
        let call = Call::new(settings.limits.http_bytes);
        Self { ctx, hooks: Hooks { settings, clients, log, call, requests: 0 } }
    }

    /// Begins a further call: its limits are unused.
    pub(super) fn begin(&mut self) {
        self.hooks.call = Call::new(self.hooks.settings.limits.http_bytes);
        self.hooks.requests = 0;
    }

    /// Whether nothing of this call is on its way any more.
    pub(super) fn is_quiet(&self) -> bool {
        Arc::strong_count(&self.hooks.call) == 1
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.hooks.call.end();
    }
}

impl Hooks {
    /// Whether a request may be sent, and by which client.
    fn admit(&mut self, request: &Request<WasiBody>) -> Result<(Client, Arc<Flight>), Error> {
        let reach = self.reach(request)?;
        let limits = &self.settings.limits;
        if self.requests >= limits.http_requests {
            self.refused(&format!(
                "limit of {} HTTP requests a call; see --http-requests",
                limits.http_requests
            ));
            return Err(Error::HttpRequestDenied);
        }
        let flight = self.call.depart().ok_or(Error::ConnectionLimitReached)?;
        self.requests += 1;
        let line = request.method().as_str().len() + request.uri().to_string().len();
        let head = line as u64 + bytes_of(request.headers());
        self.call
            .allowance()
            .spend(head)
            .map_err(|limit| Error::HttpRequestBodySize(Some(limit)))?;
        Ok((self.clients.reaching(reach), flight))
    }

    fn reach(&self, request: &Request<WasiBody>) -> Result<Reach, Error> {
        let (method, uri) = (request.method().as_str(), request.uri());
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        let target = target(uri).filter(|_| !has_user).ok_or(Error::HttpRequestUriInvalid)?;
        permit(&self.settings.http, method, &target).ok_or_else(|| {
            let server = server(uri);
            self.refused(&format!(
                "{method} {server} is not granted; deploy with --http '{method} {server}' in addition to its other grants"
            ));
            Error::HttpRequestDenied
        })
    }

    fn refused(&self, why: &str) {
        self.log.write(Level::Warn, &format!("HTTP request refused: {why}"));
    }
}

fn target(uri: &Uri) -> Option<Target> {
    let authority = uri.authority()?;
    let port = match authority.as_str().strip_prefix(authority.host())? {
        "" => None,
        // What is no port is not the default one: `http` takes 71216, and no digits at all, for
        // none.
        port => Some(uri.port_u16().filter(|number| port == format!(":{number}"))?),
    };
    Target::new(Scheme::from_name(uri.scheme_str()?)?, authority.host(), port)
}

/// Without the path and the query, which may hold what is nobody else's business.
fn server(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    format!("{}://{authority}", uri.scheme_str().unwrap_or_default())
}

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_processed: SendError,
    ) -> Sending {
        let (client, flight) = match self.admit(&request) {
            Ok(admitted) => admitted,
            Err(error) => return Box::new(async { Err(error) }),
        };
        Box::new(send(client, request, options.unwrap_or_default(), flight, self.log.clone()))
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }

    // These would write to the host's log, as often as a guest likes. `error` has named them
    // before.
    fn p2_error_from_hyper(&mut self, _: &hyper::Error) -> ErrorCode {
        ErrorCode::HttpProtocolError
    }

    fn p2_error_from_connect(&mut self, _: &std::io::Error) -> ErrorCode {
        ErrorCode::ConnectionRefused
    }

    fn p2_error_from_tls(&mut self, _: &std::io::Error) -> ErrorCode {
        ErrorCode::TlsProtocolError
    }
}

/// Sends a request that is granted, up to the head of its response.
async fn send(
    client: Client,
    request: Request<WasiBody>,
    options: RequestOptions,
    flight: Arc<Flight>,
    log: GuestLog,
) -> Result<(Response<WasiBody>, SendError), Error> {
    let server = server(request.uri());
    let request = request.map(|body| Sent::new(body, flight.clone()));
    let response = client.exchange(request, flight.allowance());
    let response = match head_within(&options) {
        Some(time) => {
            let timed = tokio::time::timeout(time, response).await;
            timed.map_err(|_elapsed| Error::ConnectionReadTimeout)?
        }
        None => response.await,
    };
    let response = response.map_err(|error| {
        let (named, level) = error::name(&error);
        if let (Error::ConnectionTerminated, Some(limit)) = (&named, flight.allowance().exceeded())
        {
            return Error::HttpRequestBodySize(Some(limit));
        }
        log.write(level, &format!("HTTP request to {server}: {}", error::in_words(&error)));
        named
    })?;
    let response =
        response.map(|body| Received::new(body, flight, options.between_bytes_timeout).boxed());
    Ok((response, Box::new(async { Ok(()) })))
}

/// How long the head of the response may take, if the guest has said so. A connection may be there
/// already, so both of its times are one.
fn head_within(options: &RequestOptions) -> Option<Duration> {
    let first_byte = options.first_byte_timeout?;
    Some(first_byte.saturating_add(options.connect_timeout.unwrap_or(error::CONNECT_TIMEOUT)))
}
