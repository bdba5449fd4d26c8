//! HTTP requests, good and bad, on command.

use serde::Deserialize;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme,
};

/// A request and what to do with it.
#[derive(Deserialize)]
pub(crate) struct Fetch {
    #[serde(default = "get")]
    method: String,
    scheme: String,
    authority: String,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// Bytes of the body; none at all for a request without.
    #[serde(default)]
    body: Option<usize>,
    /// How long to wait for the first byte, and for each next one, in milliseconds.
    #[serde(default)]
    patience_ms: Option<u64>,
    /// So many at once; the answers are waited for in turn.
    #[serde(default = "one")]
    times: usize,
    /// Writes half of the body, and then does this instead of finishing: `trap`, `drop`, `hang`.
    #[serde(default)]
    instead: String,
    /// Begins only, and leaves the answer for nobody.
    #[serde(default)]
    leave: bool,
}

fn get() -> String {
    "GET".into()
}

const fn one() -> usize {
    1
}

/// The answers, or what went wrong, in words.
pub(crate) fn fetch(fetch: &Fetch) -> String {
    let begun: Vec<_> = (0..fetch.times).map(|_| begin(fetch)).collect();
    if fetch.leave {
        std::mem::forget(begun);
        return "left".into();
    }
    let answers: Vec<_> =
        begun.into_iter().map(|begun| begun.and_then(|answer| finish(&answer))).collect();
    answers
        .into_iter()
        .map(|answer| answer.unwrap_or_else(|error| error))
        .collect::<Vec<_>>()
        .join(", ")
}

fn begin(fetch: &Fetch) -> Result<FutureIncomingResponse, String> {
    let headers: Vec<_> =
        fetch.headers.iter().map(|(k, v)| (k.clone(), v.clone().into_bytes())).collect();
    let headers = Fields::from_list(&headers).map_err(|error| format!("{error:?}"))?;
    let request = OutgoingRequest::new(headers);
    let method = match fetch.method.as_str() {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "CONNECT" => Method::Connect,
        other => Method::Other(other.into()),
    };
    let scheme = match fetch.scheme.as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.into()),
    };
    request.set_method(&method).map_err(|()| "bad method")?;
    request.set_scheme(Some(&scheme)).map_err(|()| "bad scheme")?;
    request.set_authority(Some(&fetch.authority)).map_err(|()| "bad authority")?;
    request.set_path_with_query(fetch.path.as_deref()).map_err(|()| "bad path")?;
    let options = RequestOptions::new();
    if let Some(ms) = fetch.patience_ms {
        options.set_connect_timeout(Some(0)).map_err(|()| "no timeouts")?;
        options.set_first_byte_timeout(Some(ms * 1_000_000)).map_err(|()| "no timeouts")?;
        options.set_between_bytes_timeout(Some(ms * 1_000_000)).map_err(|()| "no timeouts")?;
    }
    let body = fetch.body.map(|bytes| Ok((request.body()?, bytes))).transpose();
    let body = body.map_err(|()| "bad content-length")?;
    let answer = outgoing_handler::handle(request, Some(options)).map_err(|e| named(&e))?;
    if let Some((body, bytes)) = body {
        let whole = fetch.instead.is_empty();
        // Should the server hang up on it, the answer says why.
        let _ = write(&body, if whole { bytes } else { bytes / 2 });
        match fetch.instead.as_str() {
            "trap" => panic!("in the middle of a body"),
            "drop" => drop(body),
            "hang" => loop {
                std::thread::sleep(std::time::Duration::from_hours(1));
            },
            _ => OutgoingBody::finish(body, None).map_err(|e| named(&e))?,
        }
    }
    Ok(answer)
}

fn write(body: &OutgoingBody, bytes: usize) -> Result<(), String> {
    let stream = body.write().map_err(|()| "no body to write to")?;
    let mut left = bytes;
    while left > 0 {
        let chunk = left.min(4096);
        let data = vec![b'x'; chunk];
        stream.blocking_write_and_flush(&data).map_err(|error| format!("{error:?}"))?;
        left -= chunk;
    }
    Ok(())
}

fn finish(answer: &FutureIncomingResponse) -> Result<String, String> {
    answer.subscribe().block();
    let answer = answer.get().ok_or("no answer")?.map_err(|()| "taken before")?;
    let response = answer.map_err(|error| named(&error))?;
    let body = response.consume().map_err(|()| "no body to read from")?;
    let stream = body.stream().map_err(|()| "no body to read from")?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(more) => bytes.extend(more),
            Err(wasip2::io::streams::StreamError::Closed) => break,
            Err(wasip2::io::streams::StreamError::LastOperationFailed(error)) => {
                return Err(format!("after {}: {}", bytes.len(), error.to_debug_string()));
            }
        }
    }
    let text = if bytes.len() > 200 {
        format!("{} bytes", bytes.len())
    } else {
        String::from_utf8_lossy(&bytes).into()
    };
    Ok(format!("{} {text}", response.status()))
}

fn named(error: &ErrorCode) -> String {
    format!("{error:?}").trim_start_matches("ErrorCode::").to_owned()
}
