//! What a server sends is counted from its first byte to its last, whatever it is, and ends at its
//! limit.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::http::{fetch, granted};
use crate::harness::wait_until;
use crate::harness::web::{Web, answer};

/// A server that answers with the same bytes again and again, until it is hung up on.
struct Flood {
    url: String,
    /// What it has sent on connections that are over.
    sent: Arc<AtomicU64>,
}

impl Flood {
    /// `begins` its answer, then goes on.
    async fn start(begins: &'static str, goes_on: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let sent = Arc::<AtomicU64>::default();
        let counted = sent.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (goes_on, counted) = (goes_on.clone(), counted.clone());
                tokio::spawn(async move {
                    counted.fetch_add(pour(stream, begins, &goes_on).await, Relaxed)
                });
            }
        });
        Self { url, sent }
    }
}

async fn pour(mut stream: TcpStream, begins: &str, goes_on: &str) -> u64 {
    let _ = stream.read(&mut [0; 1024]).await;
    let mut sent = begins.len() as u64;
    if stream.write_all(begins.as_bytes()).await.is_err() {
        return sent;
    }
    while stream.write_all(goes_on.as_bytes()).await.is_ok() {
        sent += goes_on.len() as u64;
    }
    sent
}

/// What the system takes from a server that nobody reads from, at most, in bytes.
const BUFFERED_BYTES_MAX: u64 = 16 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_end_are_cut_off_whatever_they_are() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n";
    for (begins, goes_on, http_bytes, said) in [
        // The limit of a head, and of a call.
        ("", interim, 1 << 30, "HttpResponseHeaderSectionSize(Some(524288))"),
        ("", interim, 100_000, "HttpResponseBodySize(Some(100000))"),
        (
            "",
            "HTTP/1.1 100 Continue\r\nx: y\r\n\r\n",
            100_000,
            "HttpResponseBodySize(Some(100000))",
        ),
        ("", "\r\n", 100_000, "HttpProtocolError"),
        (chunked, "1\r\nx\r\n", 100_000, "body size exceeds limit: 100000 bytes"),
        (chunked, "1;an=extension\r\nx\r\n", 100_000, "after "),
        ("HTTP/1.1 200 OK\r\n\r\n", "x", 100_000, "body size exceeds limit: 100000 bytes"),
    ] {
        let flood = Flood::start(begins, goes_on.repeat(1000)).await;
        let mut settings = granted(std::slice::from_ref(&flood.url));
        settings.limits.http_bytes = http_bytes;
        let answer = fetch(settings, &flood.url, json!({})).await;
        assert!(answer.contains(said), "{goes_on:?}: {answer}");
        wait_until("the server is hung up on", async || flood.sent.load(Relaxed) > 0).await;
        let sent = flood.sent.load(Relaxed);
        assert!(sent < http_bytes.min(1 << 20) + BUFFERED_BYTES_MAX, "{goes_on:?}: {sent}");
    }
}

/// The work that a server causes is not that of the threads which run messages: it goes on while
/// they are held up.
#[tokio::test]
async fn servers_are_listened_to_on_other_threads() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (say, said) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
        say.send("asked").unwrap();
        while stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").is_ok() {}
        say.send("hung up on").unwrap();
    });
    let settings = granted(std::slice::from_ref(&url));
    let asking = tokio::spawn(async move { fetch(settings, &url, json!({})).await });
    wait_until("the server is asked", async || said.try_recv() == Ok("asked")).await;
    // Nothing runs on the one thread of this test meanwhile.
    assert_eq!(said.recv_timeout(Duration::from_mins(1)), Ok("hung up on"));
    assert!(asking.await.unwrap().starts_with("HttpResponseHeaderSectionSize"));
}

/// What a server sends after its answer is nobody's, and ends the connection.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_an_answer_is_not_read() {
    let flood =
        Flood::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "x".repeat(1000)).await;
    assert_eq!(
        fetch(granted(std::slice::from_ref(&flood.url)), &flood.url, json!({})).await,
        "200 hi"
    );
    wait_until("the server is hung up on", async || flood.sent.load(Relaxed) > 0).await;
    assert!(flood.sent.load(Relaxed) < BUFFERED_BYTES_MAX);
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\n\
        HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";
    let web = Web::start(move |_| [interim.as_bytes(), &answer("200 OK", "", "hello")].concat());
    let web = web.await;
    assert_eq!(fetch(granted(&[web.url()]), &web.url(), json!({})).await, "200 hello");
}
