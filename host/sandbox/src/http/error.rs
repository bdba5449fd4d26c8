//! What went wrong with a request: for the guest by its name in `wasi:http`, for people in words.
//! Never decides what becomes of the message.

use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use wasmtime_wasi_http::Error;

use super::tap::TooMuch;
use crate::bindings::host::jobs::log::Level;

/// From the look-up of the name to the end of the TLS handshake.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
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

type Cause<'a> = &'a (dyn StdError + 'static);

/// An error and its causes, the outermost first.
fn causes<'a>(error: Cause<'a>) -> impl Iterator<Item = Cause<'a>> {
    std::iter::successors(Some(error), |error: &Cause<'a>| {
        let error: Cause<'a> = *error;
        // One that an `io::Error` was made from is not among its sources.
        let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        within.map(|within| within as Cause<'a>).or_else(|| error.source())
    })
}

/// All that there is to say, on one line.
pub(super) fn in_words(error: Cause<'_>) -> String {
    let mut texts: Vec<String> = causes(error).map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

/// The name, and how much it matters to who runs the handler.
pub(super) fn name(error: Cause<'_>) -> (Error, Level) {
    causes(error).find_map(of_cause).unwrap_or((Error::ConnectionTerminated, Level::Debug))
}

fn of_cause(cause: Cause<'_>) -> Option<(Error, Level)> {
    if let Some(too_much) = cause.downcast_ref::<TooMuch>() {
        return Some((of_too_much(*too_much), Level::Warn));
    }
    if let Some(error) = cause.downcast_ref::<ConnectError>() {
        return Some(match error {
            ConnectError::Prohibited { .. } => (Error::DestinationIpProhibited, Level::Warn),
            ConnectError::Timeout => (Error::ConnectionTimeout, Level::Debug),
            ConnectError::Unknown { .. } => {
                let rcode = Some("NXDOMAIN or no answer".to_owned());
                (Error::DnsError { rcode, info_code: None }, Level::Debug)
            }
        });
    }
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return Some(match error {
            rustls::Error::InvalidCertificate(_) => (Error::TlsCertificateError, Level::Warn),
            _ => (Error::TlsProtocolError, Level::Debug),
        });
    }
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        return error.is_parse().then_some((Error::HttpProtocolError, Level::Debug));
    }
    let named = match cause.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Error::DestinationIpUnroutable
        }
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        _ => return None,
    };
    Some((named, Level::Debug))
}

const fn of_too_much(too_much: TooMuch) -> Error {
    match too_much {
        TooMuch::Call(limit) => Error::HttpResponseBodySize(Some(limit)),
        TooMuch::Heads => Error::HttpResponseHeaderSectionSize(Some(TooMuch::HEADS_BYTES_MAX)),
        TooMuch::Greeting => Error::TlsProtocolError,
    }
}

/// Of a response whose head has come.
pub(super) fn of_response(error: &hyper::Error) -> Error {
    if let Some(too_much) = causes(error).find_map(|cause| cause.downcast_ref::<TooMuch>()) {
        return of_too_much(*too_much);
    }
    if error.is_incomplete_message() || error.is_body_write_aborted() {
        return Error::HttpResponseIncomplete;
    }
    if error.is_parse() { Error::HttpProtocolError } else { Error::ConnectionTerminated }
}
