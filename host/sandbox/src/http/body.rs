//! Bodies on their way, and what a call has left of its limit. Never looks at what is in them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::HeaderMap;
use tokio::time::{Instant, Sleep, sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::error;
use super::tap::Allowance;

pub(super) fn bytes_of(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
}

/// Requests of one call that are on their way at once.
const IN_FLIGHT_MAX: usize = 16;

/// What the requests of one call have in common. Held by each of them for as long as it lasts.
pub(super) struct Call {
    in_flight: AtomicUsize,
    ended: AtomicBool,
    allowance: Arc<Allowance>,
}

impl Call {
    pub(super) fn new(limit_bytes: u64) -> Arc<Self> {
        let (in_flight, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { in_flight, ended, allowance: Allowance::new(limit_bytes) })
    }

    /// Begins a request, unless too many are on their way. Only the guest's own turn begins one.
    pub(super) fn depart(self: &Arc<Self>) -> Option<Arc<Flight>> {
        if self.in_flight.load(Relaxed) >= IN_FLIGHT_MAX {
            return None;
        }
        self.in_flight.fetch_add(1, Relaxed);
        Some(Arc::new(Flight(self.clone())))
    }

    /// What all of them may still send and receive.
    pub(super) const fn allowance(&self) -> &Arc<Allowance> {
        &self.allowance
    }

    /// Notes that the guest is gone. To be said before its half of a body is dropped: the other
    /// half would take that for a body's proper end, and send half of it as if it were whole.
    pub(super) fn end(&self) {
        self.ended.store(true, Relaxed);
    }
}

/// One request on its way. Both bodies share it: it lasts until both are gone.
pub(super) struct Flight(Arc<Call>);

impl std::ops::Deref for Flight {
    type Target = Call;

    fn deref(&self) -> &Call {
        &self.0
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// A request's body, from the guest.
pub(super) struct Sent {
    inner: WasiBody,
    flight: Arc<Flight>,
}

impl Sent {
    pub(super) fn new(inner: WasiBody, flight: Arc<Flight>) -> Self {
        Self { inner, flight }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            None if self.flight.ended.load(Relaxed) => {
                Poll::Ready(Some(Err(Error::ConnectionTerminated)))
            }
            Some(Ok(frame)) => {
                let spent = self.flight.allowance().spend(size_of_frame(&frame));
                let spent = spent.map_err(|limit| Error::HttpRequestBodySize(Some(limit)));
                Poll::Ready(Some(spent.map(|()| frame)))
            }
            other => Poll::Ready(other),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response's body, on its way to the guest. What it takes was counted when it arrived.
pub(super) struct Received {
    inner: Incoming,
    _flight: Arc<Flight>,
    /// The longest that the guest waits for the next part, and the alarm for it.
    silence: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl Received {
    pub(super) fn new(inner: Incoming, flight: Arc<Flight>, silence_max: Option<Duration>) -> Self {
        let silence = silence_max.map(|max| (max, Box::pin(sleep(max))));
        Self { inner, _flight: flight, silence }
    }

    pub(super) fn boxed(self) -> WasiBody {
        self.boxed_unsync()
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending => {
                let Some((_, alarm)) = &mut self.silence else { return Poll::Pending };
                ready!(alarm.as_mut().poll(cx));
                return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
            }
            Poll::Ready(frame) => frame,
        };
        if let Some((max, alarm)) = &mut self.silence {
            alarm.as_mut().reset(Instant::now() + *max);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| error::of_response(&error))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn size_of_frame(frame: &Frame<Bytes>) -> u64 {
    let trailers = || frame.trailers_ref().map_or(0, bytes_of);
    frame.data_ref().map_or_else(trailers, |data| data.len() as u64)
}
