//! Counts what a server sends, where it arrives: below TLS and below the parser of HTTP. So nothing
//! that a server can send is read without being counted. Never looks at what it is.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a server may send while no request is on its way, in bytes: the handshake of TLS.
const GREETING_BYTES_MAX: u64 = 256 << 10;
/// What a server may send before the head of its answer has been read, in bytes: interim answers
/// (1xx), however many, the head, and what of the body comes with it.
const HEADS_BYTES_MAX: u64 = 512 << 10;

/// The bytes that one call may still send and receive.
#[derive(Debug)]
pub(super) struct Allowance {
    left_bytes: AtomicU64,
    limit_bytes: u64,
    exceeded: AtomicBool,
}

impl Allowance {
    pub(super) fn new(limit_bytes: u64) -> Arc<Self> {
        let (left_bytes, exceeded) = (AtomicU64::new(limit_bytes), AtomicBool::new(false));
        Arc::new(Self { left_bytes, limit_bytes, exceeded })
    }

    /// Takes bytes from what is left, or says the limit that they exceed.
    pub(super) fn spend(&self, bytes: u64) -> Result<(), u64> {
        let left = |left: u64| left.checked_sub(bytes);
        self.left_bytes.fetch_update(Relaxed, Relaxed, left).map(drop).map_err(|_| {
            self.exceeded.store(true, Relaxed);
            self.limit_bytes
        })
    }

    /// The limit, if it was exceeded.
    pub(super) fn exceeded(&self) -> Option<u64> {
        self.exceeded.load(Relaxed).then_some(self.limit_bytes)
    }
}

/// A server has sent more than it may.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum TooMuch {
    /// More than the call may receive.
    #[error("limit of {0} bytes of HTTP a call; see --http-bytes")]
    Call(u64),
    /// More than a head and interim answers may take.
    #[error(
        "more than {HEADS_BYTES_MAX} bytes before the answer: the server may send interim answers without end"
    )]
    Heads,
    /// More than a handshake takes.
    #[error("more than {GREETING_BYTES_MAX} bytes before a request")]
    Greeting,
}

impl TooMuch {
    /// The most that a head may take.
    pub(super) const HEADS_BYTES_MAX: u32 = HEADS_BYTES_MAX as u32;
}

/// Says whose the bytes of one connection are. Its clones are of the same connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Tap(Arc<Mutex<Account>>);

/// Who pays for what comes over a connection.
#[derive(Debug)]
struct Account {
    /// The call whose request is on its way.
    call: Option<Arc<Allowance>>,
    /// What may come before the head of the answer, or before a request; `None`: the head is there.
    early_bytes: Option<u64>,
}

impl Default for Account {
    fn default() -> Self {
        Self { call: None, early_bytes: Some(GREETING_BYTES_MAX) }
    }
}

impl Tap {
    /// A request is sent: what comes from now on is paid by its call.
    pub(super) fn charge(&self, call: Arc<Allowance>) {
        *self.lock() = Account { call: Some(call), early_bytes: Some(HEADS_BYTES_MAX) };
    }

    /// The head of the answer has been read.
    pub(super) fn head_is_read(&self) {
        self.lock().early_bytes = None;
    }

    /// The answer has come to its end.
    pub(super) fn release(&self) {
        *self.lock() = Account::default();
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// How much may be read at once; or why nothing may.
    fn left(&self) -> Result<u64, TooMuch> {
        if self.early_bytes == Some(0) {
            return Err(self.call.as_ref().map_or(TooMuch::Greeting, |_| TooMuch::Heads));
        }
        let early = self.early_bytes.unwrap_or(u64::MAX);
        let Some(call) = &self.call else { return Ok(early) };
        match call.left_bytes.load(Relaxed) {
            0 => {
                call.exceeded.store(true, Relaxed);
                Err(TooMuch::Call(call.limit_bytes))
            }
            left => Ok(left.min(early)),
        }
    }

    fn pay(&mut self, bytes: u64) -> Result<(), TooMuch> {
        self.early_bytes = self.early_bytes.map(|early| early.saturating_sub(bytes));
        let paid = self.call.as_ref().map_or(Ok(()), |call| call.spend(bytes));
        paid.map_err(TooMuch::Call)
    }
}

/// A connection whose incoming bytes are counted.
pub(super) struct Tapped<T> {
    inner: T,
    tap: Tap,
}

impl<T> Tapped<T> {
    pub(super) const fn new(inner: T, tap: Tap) -> Self {
        Self { inner, tap }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Tapped<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.tap.lock().left().map_err(io::Error::other)?;
        let before = buf.filled().len();
        if left < buf.remaining() as u64 {
            let mut last = ReadBuf::new(buf.initialize_unfilled_to(left as usize));
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut last))?;
            let bytes = last.filled().len();
            buf.advance(bytes);
        } else {
            ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        }
        let bytes = (buf.filled().len() - before) as u64;
        Poll::Ready(self.tap.lock().pay(bytes).map_err(io::Error::other))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tapped<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }
}

impl<T: Connection> Connection for Tapped<T> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, repeat};

    use super::*;

    /// What may be read of a server that sends without end, and why no more.
    async fn read(tap: &Tap) -> (u64, String) {
        let (mut tapped, mut bytes) = (Tapped::new(repeat(b'x'), tap.clone()), 0);
        loop {
            match tapped.read(&mut [0; 1000]).await {
                Ok(read) => bytes += read as u64,
                Err(error) => return (bytes, error.to_string()),
            }
        }
    }

    #[tokio::test]
    async fn each_part_of_an_exchange_has_its_limit() {
        let tap = Tap::default();
        let (bytes, why) = read(&tap).await;
        assert_eq!((bytes, why), (GREETING_BYTES_MAX, TooMuch::Greeting.to_string()));

        let large = Allowance::new(1 << 30);
        tap.charge(large.clone());
        assert_eq!(read(&tap).await, (HEADS_BYTES_MAX, TooMuch::Heads.to_string()));
        assert_eq!(
            (large.left_bytes.load(Relaxed), large.exceeded()),
            ((1 << 30) - HEADS_BYTES_MAX, None)
        );

        let small = Allowance::new(700_001);
        tap.charge(small.clone());
        tap.head_is_read();
        small.spend(1).unwrap();
        assert_eq!(read(&tap).await, (700_000, TooMuch::Call(700_001).to_string()));
        assert_eq!(small.exceeded(), Some(700_001));

        tap.release();
        assert_eq!(read(&tap).await.0, GREETING_BYTES_MAX, "it is as new");
    }
}
