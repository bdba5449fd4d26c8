//! A real HTTP server that answers as a test says, and keeps what it was sent. It takes requests as
//! they come on the wire: no library could hide what a guest has smuggled in.

use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A running server; ends with the test's runtime.
pub struct Web {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    received: Arc<Mutex<Vec<Received>>>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// The request line and the headers, without the blank line.
    pub head: String,
    /// The body, decoded if it came in chunks.
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub whole: bool,
    /// Which connection it came on, from 0.
    pub connection: usize,
}

impl Received {
    /// The value of a header; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// What to answer, as it goes on the wire; or [`NEVER`].
pub type Answer = Vec<u8>;

/// No answer, and the connection stays.
pub const NEVER: Answer = Vec::new();

/// An answer with a status line, headers (each with its line's end) and a body.
pub fn answer(status: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}").into()
}

type Answering = dyn Fn(&Received) -> Answer + Send + Sync;

impl Web {
    /// A server in the clear.
    pub async fn start(answering: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(None, Arc::new(answering)).await
    }

    /// One over TLS with that certificate.
    pub async fn start_tls(
        identity: &Identity,
        answering: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(identity.acceptor()), Arc::new(answering)).await
    }

    async fn listen(tls: Option<TlsAcceptor>, answering: Arc<Answering>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let kept = received.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (kept, answering, tls) = (kept.clone(), answering.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => talk(stream, connection, &kept, &*answering).await,
                        Some(tls) => {
                            // A client that does not trust it ends here.
                            if let Ok(stream) = tls.accept(stream).await {
                                talk(stream, connection, &kept, &*answering).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, received }
    }

    /// What has come so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("what was received").clone()
    }

    /// Its URL, with its address written out.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    kept: &Mutex<Vec<Received>>,
    answering: &Answering,
) {
    let mut buffer = Vec::new();
    while let Some(request) = receive(&mut stream, &mut buffer, connection).await {
        let answer = if request.whole { answering(&request) } else { NEVER };
        kept.lock().expect("what was received").push(request);
        if answer == NEVER {
            while stream.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {}
            return;
        }
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// The next request; what has come after it stays in the buffer.
async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    connection: usize,
) -> Option<Received> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        more(stream, buffer).await?;
    };
    let rest = buffer.split_off(end + 4);
    let head = String::from_utf8(std::mem::replace(buffer, rest)).expect("text");
    let head = head.trim_end().to_owned();
    let mut received = Received { head, body: Vec::new(), whole: false, connection };
    if received.header("transfer-encoding") == Some("chunked") {
        received.whole = receive_chunks(stream, buffer, &mut received.body).await.is_some();
    } else {
        let length = received.header("content-length").map_or(0, |n| n.parse().expect("a length"));
        while buffer.len() < length && more(stream, buffer).await.is_some() {}
        received.whole = buffer.len() >= length;
        received.body = buffer.drain(..length.min(buffer.len())).collect();
    }
    Some(received)
}

/// `None`: the connection ended before the last chunk.
async fn receive_chunks(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    body: &mut Vec<u8>,
) -> Option<()> {
    loop {
        let Some(at) = buffer.windows(2).position(|two| two == b"\r\n") else {
            more(stream, buffer).await?;
            continue;
        };
        let size = std::str::from_utf8(&buffer[..at]).expect("text");
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        let (from, to) = (at + 2, at + 2 + size);
        while buffer.len() < to + 2 {
            more(stream, buffer).await?;
        }
        body.extend(&buffer[from..to]);
        buffer.drain(..to + 2);
        if size == 0 {
            return Some(());
        }
    }
}

async fn more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<()> {
    stream.read_buf(buffer).await.is_ok_and(|n| n > 0).then_some(())
}

/// A certificate of a server, and the authority that signed it.
pub struct Identity {
    /// The authority, as PEM.
    pub authority: String,
    config: Arc<ServerConfig>,
}

impl Identity {
    /// For servers of these names and addresses.
    pub fn new(names: &[&str]) -> Self {
        let key = || KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = key();
        let authority = params.self_signed(&authority_key).expect("an authority");
        let issuer = Issuer::new(params, authority_key);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let server_key = key();
        let params = CertificateParams::new(names).expect("parameters");
        let server = params.signed_by(&server_key, &issuer).expect("a certificate");
        let private = PrivatePkcs8KeyDer::from(server_key.serialize_der()).into();
        let config =
            ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(vec![server.der().clone()], private)
                .expect("a configuration");
        Self { authority: authority.pem(), config: Arc::new(config) }
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.config.clone().into()
    }
}
