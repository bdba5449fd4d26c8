//! Outbound HTTP: what is granted goes out as the guest meant it, what is not is refused by name,
//! and everything has an end.

use std::slice;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::logged::Captured;
use super::*;
use crate::harness::wait_until;
use crate::harness::web::{Answer, Identity, NEVER, Web, answer};

fn ok() -> Answer {
    answer("200 OK", "", "hello")
}

pub fn granted(grants: &[String]) -> HandlerSettings {
    let mut settings = with_limits(|l| l.timeout = Duration::from_mins(1));
    settings.http = grants.iter().map(|grant| grant.parse().expect("a grant")).collect();
    settings
}

/// What `misbehave` reports of a request to that URL.
pub async fn fetch(settings: HandlerSettings, url: &str, more: Value) -> String {
    let run = run_fetch(settings, url, more).await;
    assert_eq!(run.verdict, Verdict::Ack);
    String::from_utf8(run.follow_ups[0].payload.clone()).unwrap()
}

async fn run_fetch(settings: HandlerSettings, url: &str, more: Value) -> Run {
    load("misbehave", settings).runner().run(&message(command(url, &more).to_string())).await
}

fn command(url: &str, more: &Value) -> Value {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut fetch = json!({"scheme": scheme, "authority": authority, "path": format!("/{path}")});
    fetch.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"do": "fetch", "queue": "text", "fetch": fetch})
}

#[tokio::test]
async fn a_request_that_is_granted_arrives_as_it_was_meant() {
    let web = Web::start(|_| ok()).await;
    let settings = granted(&[format!("POST {}", web.url())]);
    let more = json!({"method": "POST", "headers": [["x-a", "1"], ["x-a", "2"]], "body": 5});
    assert_eq!(fetch(settings, &format!("{}/p?q=1", web.url()), more).await, "200 hello");
    let received = &web.received()[0];
    let lines: Vec<_> = received.head.lines().collect();
    assert_eq!(lines[0], "POST /p?q=1 HTTP/1.1");
    assert_eq!(received.header("host"), Some(&*format!("127.0.0.1:{}", web.port)));
    assert_eq!(lines.iter().filter(|line| line.starts_with("x-a: ")).count(), 2);
    assert_eq!((received.body.as_slice(), received.whole), (&b"xxxxx"[..], true));
}

#[tokio::test]
async fn what_is_not_granted_is_refused_and_named_in_the_log() {
    let web = Web::start(|_| ok()).await;
    let (url, port) = (web.url(), web.port);
    for (grants, url, method) in [
        (vec![], url.clone(), "GET"),
        (vec![format!("POST {url}")], url.clone(), "GET"),
        (vec!["http://127.0.0.1".to_owned()], url.clone(), "GET"),
        (vec![format!("https://127.0.0.1:{port}")], url.clone(), "GET"),
        (vec![format!("http://*:{port} private")], url.clone(), "GET"),
        (vec![url.clone()], format!("http://localhost:{port}"), "GET"),
        (vec![url.clone()], url.clone(), "CONNECT"),
    ] {
        let (log, _guard) = Captured::start();
        let path = format!("{url}/secret?token");
        let said = fetch(granted(&grants), &path, json!({"method": method})).await;
        assert_eq!(said, "HttpRequestDenied", "{grants:?} {method} {url}");
        let said = log.lines().join("\n");
        let wanted = format!(
            "HTTP request refused: {method} {url} is not granted; deploy with --http '{method} {url}' in addition to its other grants"
        );
        assert!(said.contains(&wanted) && !said.contains("token"), "{said}");
    }
    assert_eq!(web.received().len(), 0);
}

/// A name that is granted may not lead to where nobody meant it to: here, to this machine.
#[tokio::test]
async fn a_name_leads_to_public_addresses_only() {
    let web = Web::start(|_| ok()).await;
    let url = format!("http://localhost:{}", web.port);
    let (log, _guard) = Captured::start();
    for grant in [url.clone(), format!("http://*:{}", web.port)] {
        assert_eq!(fetch(granted(&[grant]), &url, json!({})).await, "DestinationIpProhibited");
    }
    let said = log.lines().join("\n");
    assert!(said.contains("is private; to allow it, deploy with 'private'"), "{said}");
    assert_eq!(web.received().len(), 0);
    assert_eq!(fetch(granted(&[format!("{url} private")]), &url, json!({})).await, "200 hello");
}

#[tokio::test]
async fn a_redirect_is_the_guests_to_follow() {
    let other = Web::start(|_| ok()).await;
    let location = format!("location: {}\r\n", other.url());
    let web = Web::start(move |_| answer("302 Found", &location, "")).await;
    assert_eq!(fetch(granted(&[web.url()]), &web.url(), json!({})).await, "302 ");
    assert_eq!(other.received().len(), 0);
}

#[tokio::test]
async fn nothing_is_smuggled_into_a_request() {
    let web = Web::start(|_| ok()).await;
    // With that of the default port: what is no port is not to be taken for it.
    let settings = || granted(&[web.url(), "http://127.0.0.1".into()]);
    let url = web.url();
    let header = |name: &str, value: &str| json!({"headers": [[name, value]]});
    for (more, said) in [
        (header("host", "evil"), "Forbidden"),
        (header("connection", "upgrade"), "Forbidden"),
        (header("transfer-encoding", "chunked"), "Forbidden"),
        (header("upgrade", "h2c"), "Forbidden"),
        (header("x", "a\r\nx-b: c"), "InvalidSyntax"),
        (header("x\r\ny", "a"), "InvalidSyntax"),
        (header("x y", "a"), "InvalidSyntax"),
        (json!({"path": "/ HTTP/1.1\r\nx: y"}), "bad path"),
        (json!({"path": "http://evil/"}), "bad path"),
        (json!({"authority": "a\r\nx: y"}), "bad authority"),
        (json!({"authority": format!("u:p@127.0.0.1:{}", web.port)}), "HttpRequestUriInvalid"),
        (json!({"authority": "127.0.0.1:71216"}), "HttpRequestUriInvalid"),
        (json!({"authority": "127.0.0.1:"}), "HttpRequestUriInvalid"),
        (json!({"authority": "127.0.0.1:080"}), "HttpRequestUriInvalid"),
        (json!({"authority": "127.0.0.1:+80"}), "HttpRequestUriInvalid"),
        (json!({"method": "GET / HTTP/1.1\r\nx: y\r\n\r\n"}), "bad method"),
        (json!({"scheme": "ftp"}), "HttpProtocolError"),
        (json!({"headers": [["content-length", "3"]]}), "HttpRequestBodySize"),
        (json!({"headers": [["content-length", "3"]], "body": 5}), "HttpRequestBodySize"),
        (json!({"headers": [["content-length", "9"]], "body": 5}), "HttpRequestBodySize"),
    ] {
        let answer = fetch(settings(), &url, more.clone()).await;
        assert!(answer.contains(said), "{more}: {answer}");
    }
    // A body is shorter than announced: the server sees that. It is longer: the server gets its
    // beginning.
    for received in web.received() {
        assert!(!received.whole || received.body == b"xxx", "{received:?}");
    }
}

/// A guest that dies in the middle of a body has not sent one. The half is more than waits for a
/// connection.
#[tokio::test]
async fn half_a_body_is_never_taken_for_a_whole_one() {
    let web = Web::start(|_| ok()).await;
    for instead in ["trap", "hang", "drop"] {
        let before = web.received().len();
        let mut settings = granted(&[web.url()]);
        settings.limits.timeout = Duration::from_secs(1);
        let more = json!({"method": "POST", "body": 1_000_000, "instead": instead});
        let run = run_fetch(settings, &web.url(), more).await;
        assert_eq!(matches!(run.verdict, Verdict::Failed(_)), instead != "drop", "{run:?}");
        wait_until("the server has seen the end", async || web.received().len() > before).await;
        assert!(!web.received()[before].whole, "{instead}");
    }
}

#[tokio::test]
async fn bytes_are_limited_both_ways() {
    let big = "y".repeat(50_000);
    let web = Web::start(move |received| {
        answer("200 OK", "", if received.head.starts_with("GET") { &big } else { "" })
    })
    .await;
    let settings = |bytes| {
        let mut settings = granted(&[web.url()]);
        settings.limits.http_bytes = bytes;
        settings
    };
    let post = |bytes: usize| json!({"method": "POST", "body": bytes});
    assert_eq!(fetch(settings(60_000), &web.url(), post(50_000)).await, "200 ");
    let said = fetch(settings(60_000), &web.url(), post(100_000)).await;
    assert!(said.contains("HttpRequestBodySize(Some(60000))"), "{said}");
    assert_eq!(fetch(settings(60_000), &web.url(), json!({})).await, "200 50000 bytes");
    let said = fetch(settings(40_000), &web.url(), json!({})).await;
    assert!(said.contains("HTTP response body size exceeds limit: 40000 bytes"), "{said}");
    // Several share the limit; they arrive side by side.
    let said = fetch(settings(120_000), &web.url(), json!({"times": 3})).await;
    assert!(said.matches("200 50000 bytes").count() < 3, "{said}");
    assert!(said.contains("120000"), "{said}");
    // The head counts as well.
    let said = fetch(settings(10), &web.url(), json!({})).await;
    assert!(said.contains("HttpRequestBodySize(Some(10))"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_limited_in_all_and_at_once() {
    let web = Web::start(|_| ok()).await;
    let mut settings = granted(&[web.url()]);
    settings.limits.http_requests = 3;
    let said = fetch(settings, &web.url(), json!({"times": 5})).await;
    assert_eq!(said, "200 hello, 200 hello, 200 hello, HttpRequestDenied, HttpRequestDenied");

    let silent = Web::start(|_| NEVER).await;
    let more = json!({"times": 20, "patience_ms": 300});
    let said = fetch(granted(&[silent.url()]), &silent.url(), more).await;
    assert_eq!(said.matches("ConnectionReadTimeout").count(), 16, "{said}");
    assert_eq!(said.matches("ConnectionLimitReached").count(), 4, "{said}");
}

#[tokio::test]
async fn a_server_that_never_answers_ends_with_the_patience_or_the_call() {
    let silent = Web::start(|_| NEVER).await;
    let patience = json!({"patience_ms": 100});
    let said = fetch(granted(&[silent.url()]), &silent.url(), patience.clone()).await;
    assert_eq!(said, "ConnectionReadTimeout");

    let mut settings = granted(&[silent.url()]);
    let timeout = Duration::from_millis(500);
    settings.limits.timeout = timeout;
    let run = run_fetch(settings, &silent.url(), json!({})).await;
    assert_eq!(run.verdict, Verdict::Failed(Failure::Timeout(timeout)));

    // In the middle of the answer.
    let stops = Web::start(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhal".into()).await;
    let said = fetch(granted(&[stops.url()]), &stops.url(), patience).await;
    assert_eq!(said, "after 3: connection read timeout");
}

#[tokio::test]
async fn what_goes_wrong_is_named() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{closed}");
    assert_eq!(fetch(granted(slice::from_ref(&url)), &url, json!({})).await, "ConnectionRefused");

    let url = "http://no-such-name.invalid".to_owned();
    let said = fetch(granted(slice::from_ref(&url)), &url, json!({})).await;
    assert!(said.starts_with("DnsError("), "{said}");

    let nonsense = Web::start(|_| b"SSH-2.0-nonsense\r\n\r\n".into()).await;
    let said = fetch(granted(&[nonsense.url()]), &nonsense.url(), json!({})).await;
    assert_eq!(said, "HttpProtocolError");

    let endless = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let endless = Web::start(move |_| endless.clone().into()).await;
    let said = fetch(granted(&[endless.url()]), &endless.url(), json!({})).await;
    assert_eq!(said, "HttpProtocolError");
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let web = Web::start_tls(&Identity::new(&["127.0.0.1", "localhost"]), |_| ok()).await;
    let (log, _guard) = Captured::start();
    for url in
        [format!("https://127.0.0.1:{}", web.port), format!("https://localhost:{}", web.port)]
    {
        let grants = [url.clone(), format!("https://localhost:{} private", web.port)];
        assert_eq!(fetch(granted(&grants), &url, json!({})).await, "TlsCertificateError");
    }
    assert!(log.lines().join("\n").contains("UnknownIssuer"), "{:?}", log.lines());
    assert_eq!(web.received().len(), 0);

    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", plain.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    assert_eq!(fetch(granted(slice::from_ref(&url)), &url, json!({})).await, "TlsProtocolError");
}

/// Connections are kept for the next message; what a call has left open ends with it.
#[tokio::test]
async fn connections_are_used_again_and_requests_are_not_left_behind() {
    let web =
        Web::start(|received| if received.head.contains("/never") { NEVER } else { ok() }).await;
    let mut settings = granted(&[web.url()]);
    settings.isolation = Isolation::Batch;
    let handler = load("misbehave", settings);
    let mut runner = handler.runner();
    let mut is_used_again = false;
    // One that is not back in time is used by the next.
    while !is_used_again {
        let before = web.received().len();
        let run = runner.run(&message(command(&web.url(), &json!({})).to_string())).await;
        assert_eq!(run.follow_ups[0].payload, b"200 hello");
        assert!(runner.warm_bytes().is_some());
        assert!(before < 32, "none of them is used again");
        let connections: BTreeSet<_> = web.received().iter().map(|r| r.connection).collect();
        is_used_again = connections.len() < web.received().len();
    }

    let never = command(&format!("{}/never", web.url()), &json!({"leave": true}));
    let run = runner.run(&message(never.to_string())).await;
    assert_eq!(run.follow_ups[0].payload, b"left");
    assert_eq!(runner.warm_bytes(), None, "its sandbox is not used again");
}
