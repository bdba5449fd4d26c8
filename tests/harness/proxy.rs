//! A TCP proxy on loopback, between a client and a server's Unix socket, that can misbehave as
//! networks do. Knows nothing of what it carries but the bytes that a trap waits for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;

/// How the proxy carries what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// At once.
    Pass,
    /// Not at all, and nobody is told. What is on its way arrives when this is over.
    Stall,
    /// Each piece so much later.
    Delay(Duration),
    /// New connections are refused, those that there are go on.
    Refuse,
}

/// How the connections there are come to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Both sides are told.
    Both,
    /// The client is; the server goes on as if it were there.
    OnlyClient,
    /// The server is; the client goes on as if it were there.
    OnlyServer,
}

/// What is to happen to the next piece from a client that contains some bytes.
#[derive(Clone, Debug)]
struct Trap {
    needle: Vec<u8>,
    arrives: bool,
}

#[derive(Debug)]
struct Shared {
    server: PathBuf,
    mode: watch::Sender<Mode>,
    cuts: broadcast::Sender<Cut>,
    trap: Mutex<Option<Trap>>,
    /// Over all connections: how often a client has gone on after an answer, or begun.
    round_trips: AtomicUsize,
    /// Sides of connections whose other side does not know that they are over.
    half_open: Mutex<Vec<Half>>,
}

#[derive(Debug)]
enum Half {
    Client { _stream: TcpStream },
    Server { _stream: UnixStream },
}

/// Ends with all its connections when dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens, at 127.0.0.1.
    pub port: u16,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Proxy {
    /// A proxy to the server that listens at a Unix socket, or will.
    pub async fn to(server: &Path) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("its port").port();
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            mode: watch::Sender::new(Mode::Pass),
            cuts: broadcast::Sender::new(16),
            trap: Mutex::default(),
            round_trips: AtomicUsize::default(),
            half_open: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Self { port, shared, accepting }
    }

    /// Carries otherwise from now on.
    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// How many round trips clients have waited for so far.
    pub fn round_trips(&self) -> usize {
        self.shared.round_trips.load(Ordering::Relaxed)
    }

    /// Ends all connections.
    pub fn cut(&self, cut: Cut) {
        // Without a connection, nobody listens.
        let _ = self.shared.cuts.send(cut);
    }

    /// Resets the next connection on which the client sends `needle`: before that has reached the
    /// server, or, with `arrives`, when the server has answered and the answer is on its way.
    pub fn reset_at(&self, needle: &[u8], arrives: bool) {
        *self.shared.trap.lock().expect("the trap") =
            Some(Trap { needle: needle.to_owned(), arrives });
    }

    /// Whether no trap is set, or no longer.
    pub fn has_sprung(&self) -> bool {
        self.shared.trap.lock().expect("the trap").is_none()
    }

    /// Sets no trap any more.
    pub fn disarm(&self) {
        *self.shared.trap.lock().expect("the trap") = None;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut(Cut::Both);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        if *shared.mode.borrow() == Mode::Refuse {
            reset(client);
            continue;
        }
        tokio::spawn(carry(client, shared.clone(), shared.cuts.subscribe()));
    }
}

async fn carry(mut client: TcpStream, shared: Arc<Shared>, mut cuts: broadcast::Receiver<Cut>) {
    // The server does not hear of it before: one that is told to end would wait a minute for a
    // client that says nothing.
    let mut mode = shared.mode.subscribe();
    tokio::select! {
        _ = mode.wait_for(|mode| *mode != Mode::Stall) => {}
        _ = cuts.recv() => return reset(client),
    }
    let Ok(mut server) = UnixStream::connect(&shared.server).await else { return reset(client) };
    let _ = client.set_nodelay(true);
    let (swallow, answered) = (AtomicBool::new(false), AtomicBool::new(true));
    let cut = {
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = server.split();
        let asked = |piece: &[u8]| {
            // A client that ends says so, and waits for nothing.
            if !piece.is_empty() && piece[0] != b'X' && answered.swap(false, Ordering::Relaxed) {
                shared.round_trips.fetch_add(1, Ordering::Relaxed);
            }
        };
        let request = |piece: &[u8]| match shared.spring(piece) {
            None => true,
            Some(arrives) => {
                swallow.store(arrives, Ordering::Relaxed);
                arrives
            }
        };
        let answer = |_: &[u8]| {
            answered.store(true, Ordering::Relaxed);
            !swallow.load(Ordering::Relaxed)
        };
        tokio::select! {
            _ = pump(client_reads, server_writes, shared.mode.subscribe(), asked, request) => Cut::Both,
            _ = pump(server_reads, client_writes, shared.mode.subscribe(), |_| {}, answer) => Cut::Both,
            cut = cuts.recv() => cut.unwrap_or(Cut::Both),
        }
    };
    let half = match cut {
        Cut::Both => return reset(client),
        Cut::OnlyClient => {
            reset(client);
            Half::Server { _stream: server }
        }
        Cut::OnlyServer => Half::Client { _stream: client },
    };
    shared.half_open.lock().expect("the half-open").push(half);
}

impl Shared {
    /// Whether the trap springs at this piece, and if so whether the piece arrives.
    fn spring(&self, piece: &[u8]) -> Option<bool> {
        let mut trap = self.trap.lock().expect("the trap");
        let needle = &trap.as_ref()?.needle;
        let found = piece.windows(needle.len()).any(|w| w == needle);
        if found { trap.take().map(|t| t.arrives) } else { None }
    }
}

/// Carries pieces in one direction until either side ends, or `goes_on` says no. `comes` sees each
/// before it is delayed.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
    comes: impl Fn(&[u8]),
    goes_on: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    let mut piece = vec![0; 64 << 10];
    loop {
        let n = from.read(&mut piece).await?;
        comes(&piece[..n]);
        let now = *mode.borrow_and_update();
        match now {
            Mode::Stall => drop(mode.wait_for(|mode| *mode != Mode::Stall).await),
            Mode::Delay(time) => tokio::time::sleep(time).await,
            Mode::Pass | Mode::Refuse => {}
        }
        if n == 0 || !goes_on(&piece[..n]) {
            return Ok(());
        }
        to.write_all(&piece[..n]).await?;
    }
}

fn reset(client: TcpStream) {
    let _ = client.set_zero_linger();
    drop(client);
}
