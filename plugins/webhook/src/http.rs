//! One POST over `wasi:http`. A client library of your language does the same with less to see.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme,
};
use wasip2::io::poll::{Pollable, poll};

/// More of an answer is not read, and not for longer: what it says is in its status.
const BODY_BYTES_MAX: usize = 16 << 10;
const BODY_WITHIN_MAX: Duration = Duration::from_secs(1);

/// A URL in the parts that a request wants.
pub(crate) struct Url {
    scheme: Scheme,
    authority: String,
    path: String,
}

/// An answer, whatever it says.
pub(crate) struct Response {
    pub status: u16,
    headers: Vec<(String, Vec<u8>)>,
    /// Its beginning.
    pub body: Vec<u8>,
}

impl Url {
    /// Takes `http` and `https`.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
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
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value).ok()
    }
}

/// Posts, and waits for the answer. Keeps some of the time `left`, since a call that is cut off
/// cannot say what came of it. The answer's head may take 85 %, its body twice a twentieth.
pub(crate) fn post(
    url: &Url,
    headers: &[(&str, String)],
    body: &[u8],
    left: Duration,
) -> Result<Response, String> {
    let body_within = (left / 20).min(BODY_WITHIN_MAX);
    let headers: Vec<_> = headers
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone().into_bytes()))
        .collect();
    let headers = Fields::from_list(&headers).map_err(in_words)?;
    let request = OutgoingRequest::new(headers);
    address(&request, url)
        .map_err(|()| format!("the URL has a part that is none: {}{}", url.authority, url.path))?;
    let outgoing = request.body().map_err(|()| "no body to write to")?;
    let answer =
        outgoing_handler::handle(request, Some(options(left, body_within))).map_err(named)?;
    let answered = answer.subscribe();
    // Should the server answer before it has all, the answer counts.
    let _unsent = send(outgoing, body, &answered)?;
    answered.block();
    match answer.get() {
        Some(Ok(Ok(response))) => read(&response, body_within),
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

fn options(left: Duration, body_within: Duration) -> RequestOptions {
    let options = RequestOptions::new();
    let half = Some((left.mul_f64(0.85) / 2).as_nanos() as u64);
    // Hosts that do not have these options let the call's own timeout decide.
    let _ = options.set_connect_timeout(half);
    let _ = options.set_first_byte_timeout(half);
    let _ = options.set_between_bytes_timeout(Some(body_within.as_nanos() as u64));
    options
}

/// Sends the body, for as long as there is no answer. Returns what is not sent whole: to drop it is
/// to hang up.
fn send(
    outgoing: OutgoingBody,
    mut body: &[u8],
    answered: &Pollable,
) -> Result<Option<OutgoingBody>, String> {
    let stream = outgoing.write().map_err(|()| "no body to write to")?;
    let writable = stream.subscribe();
    while !body.is_empty() {
        poll(&[&writable, answered]);
        if answered.ready() {
            break;
        }
        // One that is closed has an answer, or a reason why there is none.
        let Ok(room) = stream.check_write() else { break };
        let (chunk, rest) = body.split_at(body.len().min(room as usize));
        if !chunk.is_empty() && stream.write(chunk).is_err() {
            break;
        }
        body = rest;
    }
    drop(writable);
    drop(stream);
    if !body.is_empty() {
        return Ok(Some(outgoing));
    }
    OutgoingBody::finish(outgoing, None).map_err(named)?;
    Ok(None)
}

fn read(response: &IncomingResponse, within: Duration) -> Result<Response, String> {
    let (status, headers) = (response.status(), response.headers().entries());
    let incoming = response.consume().map_err(|()| "no body to read from")?;
    let stream = incoming.stream().map_err(|()| "no body to read from")?;
    let mut body = Vec::new();
    let began = Instant::now();
    // To the end where that is near: then the connection can be used again. The answer counts even
    // if it is cut off, since its status has come.
    while body.len() < BODY_BYTES_MAX
        && began.elapsed() < within
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
