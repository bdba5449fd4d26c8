//! One POST over `wasi:http`. A client library of your language does the same with less to see.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme,
};
use wasip2::io::streams::StreamError;

/// What a host takes in one write.
const WRITE_BYTES_MAX: usize = 4 << 10;
/// More of an answer is not read, and not for longer: what it says is in its status.
const BODY_BYTES_MAX: usize = 16 << 10;
const BODY_WITHIN: Duration = Duration::from_secs(1);

/// A URL in the parts that a request wants.
pub struct Url {
    scheme: Scheme,
    authority: String,
    path: String,
}

/// An answer, whatever it says.
pub struct Response {
    pub status: u16,
    headers: Vec<(String, Vec<u8>)>,
    /// Its beginning.
    pub body: Vec<u8>,
}

impl Url {
    /// Takes `http` and `https`.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = match url.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            _ => return Err(format!("{url:?} does not begin with http:// or https://")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = path.split('#').next().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { scheme, authority: authority.into(), path: format!("{slash}{path}") })
    }
}

impl Response {
    /// The first header of that name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value).ok()
    }
}

/// Posts, and waits for the answer, but not for longer than `within`.
pub fn post(
    url: &Url,
    headers: &[(&str, String)],
    body: &[u8],
    within: Duration,
) -> Result<Response, String> {
    let headers: Vec<_> = headers
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone().into_bytes()))
        .collect();
    let headers = Fields::from_list(&headers).map_err(in_words)?;
    let request = OutgoingRequest::new(headers);
    address(&request, url)
        .map_err(|()| format!("the URL has a part that is none: {}{}", url.authority, url.path))?;
    let outgoing = request.body().map_err(|()| "no body to write to")?;
    let answer = outgoing_handler::handle(request, Some(options(within))).map_err(named)?;
    // Should the server hang up on it, the answer says why.
    let sent = send(outgoing, body);
    answer.subscribe().block();
    match answer.get() {
        Some(Ok(Ok(response))) => sent.and_then(|()| read(&response)),
        Some(Ok(Err(error))) => Err(named(error)),
        _ => Err("no answer".into()),
    }
}

fn address(request: &OutgoingRequest, url: &Url) -> Result<(), ()> {
    request.set_method(&Method::Post)?;
    request.set_scheme(Some(&url.scheme))?;
    request.set_authority(Some(&url.authority))?;
    request.set_path_with_query(Some(&url.path))
}

fn options(within: Duration) -> RequestOptions {
    let options = RequestOptions::new();
    let half = Some((within / 2).as_nanos() as u64);
    // Hosts that do not have these options let the call's own timeout decide.
    let _ = options.set_connect_timeout(half);
    let _ = options.set_first_byte_timeout(half);
    let _ = options.set_between_bytes_timeout(Some(BODY_WITHIN.as_nanos() as u64));
    options
}

fn send(outgoing: OutgoingBody, body: &[u8]) -> Result<(), String> {
    let stream = outgoing.write().map_err(|()| "no body to write to")?;
    for chunk in body.chunks(WRITE_BYTES_MAX) {
        match stream.blocking_write_and_flush(chunk) {
            Ok(()) => {}
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
    drop(stream);
    OutgoingBody::finish(outgoing, None).map_err(named)
}

fn read(response: &IncomingResponse) -> Result<Response, String> {
    let (status, headers) = (response.status(), response.headers().entries());
    let incoming = response.consume().map_err(|()| "no body to read from")?;
    let stream = incoming.stream().map_err(|()| "no body to read from")?;
    let mut body = Vec::new();
    let began = Instant::now();
    // To the end where that is near: then the connection can be used again. The answer counts even if it
    // is cut off, since its status has come.
    while body.len() < BODY_BYTES_MAX
        && began.elapsed() < BODY_WITHIN
        && let Ok(more) = stream.blocking_read((BODY_BYTES_MAX - body.len()) as u64)
    {
        body.extend(more);
    }
    Ok(Response { status, headers, body })
}

fn named(error: ErrorCode) -> String {
    match error {
        ErrorCode::HttpRequestDenied => {
            "the host refuses the request; deploy with --http and the server".into()
        }
        error => in_words(error),
    }
}

fn in_words(error: impl Debug) -> String {
    format!("the request failed: {error:?}")
}
