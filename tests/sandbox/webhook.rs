//! The webhook plugin: what it sends, and what it makes of the answers.

use std::time::UNIX_EPOCH;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use host_core::deployment::secret::Secret;
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::harness::web::{Answer, Web, answer};

/// Runs the plugin with that URL and that configuration; the secrets `token` and `key` are set and
/// granted.
async fn post(web: &Web, config: &[(&str, &str)]) -> Run {
    post_message(web, config, message("{\"order\": 7}")).await
}

async fn post_message(web: &Web, config: &[(&str, &str)], message: Message) -> Run {
    let mut settings = with_limits(|l| l.timeout = Duration::from_secs(20));
    settings.http = vec![format!("POST {}", web.url()).parse().unwrap()];
    settings.config = config.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    settings.config.entry("url".into()).or_insert(format!("{}/hooks?a=b", web.url()));
    let secrets =
        [("token", "s3cret-token"), ("key", "whsec_a2V5LWtleS1rZXk="), ("bad", "whsec_?")];
    settings.secret_names = secrets.map(|(name, _)| name.parse().unwrap()).into();
    let secrets = secrets.map(|(k, v)| (k.parse().unwrap(), Secret::from_stored(v.to_owned())));
    settings.secrets.store(Arc::new(secrets.into()));
    load("webhook", settings).runner().run(&message).await
}

async fn answered(status: &str, headers: &'static str, body: &'static str) -> Verdict {
    let status = status.to_owned();
    let web = Web::start(move |_| answer(&status, headers, body)).await;
    post(&web, &[]).await.verdict
}

fn ok() -> Answer {
    answer("204 No Content", "", "")
}

#[tokio::test]
async fn it_sends_the_message_with_what_a_receiver_needs() {
    let web = Web::start(|_| ok()).await;
    let mut sent = message("{\"order\": 7}");
    sent.headers.push("traceparent", "00-a-b-01");
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let config = [("bearer", "token"), ("signing", "key")];
    assert_eq!(post_message(&web, &config, sent).await.verdict, Verdict::Ack);
    let received = &web.received()[0];
    assert_eq!(received.head.lines().next(), Some("POST /hooks?a=b HTTP/1.1"));
    assert_eq!(received.body, b"{\"order\": 7}");
    for (name, value) in [
        ("content-type", "text/plain"),
        ("content-length", "12"),
        ("authorization", "Bearer s3cret-token"),
        ("webhook-id", "work-100000000007"),
        ("traceparent", "00-a-b-01"),
    ] {
        assert_eq!(received.header(name), Some(value));
    }
    let timestamp = received.header("webhook-timestamp").unwrap();
    assert!(timestamp.parse::<u64>().unwrap() >= before);
    // As a receiver checks it.
    let mut signed = format!("work-100000000007.{timestamp}.").into_bytes();
    signed.extend(&received.body);
    let signature = received.header("webhook-signature").unwrap().strip_prefix("v1,").unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(b"key-key-key").unwrap();
    mac.update(&signed);
    mac.verify_slice(&BASE64.decode(signature).unwrap()).unwrap();
}

#[tokio::test]
async fn an_answer_is_a_verdict() {
    let retry = |after: Option<u64>, reason: &str| Verdict::Retry {
        after: after.map(Duration::from_secs),
        reason: reason.into(),
    };
    assert_eq!(answered("200 OK", "", "thanks").await, Verdict::Ack);
    assert_eq!(answered("503 Busy", "", "").await, retry(None, "the server answered 503"));
    assert_eq!(
        answered("429 Slow", "Retry-After: 120\r\n", "slow down\n").await,
        retry(Some(120), "the server answered 429: slow down")
    );
    assert_eq!(
        answered("500 No", "retry-after: soon\r\n", "").await,
        retry(None, "the server answered 500")
    );
    assert_eq!(
        answered("503 No", "retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "").await,
        retry(Some(0), "the server answered 503")
    );
    let dead = |reason: &str| Verdict::DeadLetter { reason: reason.into() };
    assert_eq!(
        answered("422 Unprocessable", "", "no such order").await,
        dead("the server answered 422: no such order")
    );
    assert_eq!(
        answered("301 Moved", "location: https://a.b/\r\n", "").await,
        dead("the server answered 301 and points to https://a.b/, which is not followed")
    );
}

#[tokio::test]
async fn a_date_to_come_back_at_is_waited_for() {
    let at = SystemTime::now() + Duration::from_hours(1);
    let date = format!("retry-after: {}\r\n", httpdate::fmt_http_date(at));
    let web = Web::start(move |_| answer("503 Busy", &date, "")).await;
    let Verdict::Retry { after: Some(after), .. } = post(&web, &[]).await.verdict else {
        panic!("no time to wait")
    };
    assert!(after > Duration::from_mins(58) && after <= Duration::from_hours(1), "{after:?}");
}

#[tokio::test]
async fn what_may_come_right_is_retried_and_says_what_to_do() {
    let web = Web::start(|_| ok()).await;
    for (config, said) in [
        (("bearer", "none"), "host secret set none"),
        (("signing", "bad"), "not base64"),
        (("url", "api.example.com"), "does not begin with http"),
        (("url", "http://127.0.0.1:1/"), "the host refuses the request; deploy with --http"),
        (("url", "http://a b/"), "the URL has a part that is none"),
    ] {
        let verdict = post(&web, &[config]).await.verdict;
        let Verdict::Retry { after: None, reason } = &verdict else { panic!("{verdict:?}") };
        assert!(reason.contains(said), "{reason}");
    }
    assert_eq!(web.received().len(), 0);
}

/// The answer counts, and the body does not, even if it is endless or cut off.
#[tokio::test]
async fn a_long_body_is_cut() {
    let long = Web::start(|_| answer("400 No", "", &"é".repeat(100_000))).await;
    let reason = format!("the server answered 400: {}", "é".repeat(300));
    assert_eq!(post(&long, &[]).await.verdict, Verdict::DeadLetter { reason });
    let cut = Web::start(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhal".into()).await;
    let run = post(&cut, &[]).await;
    assert_eq!(run.verdict, Verdict::Ack);
}

#[tokio::test]
async fn a_big_message_arrives_whole() {
    let web = Web::start(|_| ok()).await;
    let payload: Vec<u8> = (0..1 << 20).map(|n: u32| n as u8).collect();
    let run = post_message(&web, &[], message(payload.clone())).await;
    assert_eq!(run.verdict, Verdict::Ack);
    assert!(web.received()[0].body == payload);
}

/// A server that has seen enough of a request does not read the rest, and what it says counts.
#[tokio::test]
async fn an_answer_before_the_body_was_read_counts() {
    for (status, verdict) in [
        ("204 No Content", Verdict::Ack),
        ("413 Too Large", Verdict::DeadLetter { reason: "the server answered 413".into() }),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 4]).await.unwrap();
            stream.write_all(&answer(status, "", "")).await.unwrap();
            stream
        });
        let mut settings = with_limits(|l| l.timeout = Duration::from_secs(20));
        settings.http = vec![format!("POST {url}").parse().unwrap()];
        settings.config.insert("url".into(), url);
        let big = message("x".repeat(12 << 20));
        let run = load("webhook", settings).runner().run(&big).await;
        assert_eq!(run.verdict, verdict);
        drop(serving.await);
    }
}

/// With a short timeout as well: the post was taken, and is not to be made again.
#[tokio::test]
async fn a_body_that_never_ends_leaves_time_for_the_verdict() {
    let stops = Web::start(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhal".into()).await;
    let mut settings = with_limits(|l| l.timeout = Duration::from_secs(1));
    settings.http = vec![format!("POST {}", stops.url()).parse().unwrap()];
    settings.config.insert("url".into(), stops.url());
    let run = load("webhook", settings).runner().run(&message("{}")).await;
    assert_eq!(run.verdict, Verdict::Ack);
}
