//! Posts each message to a URL, and turns the answer into a verdict.
//!
//! ```console
//! $ host deploy --queue orders webhook.wasm --config url=https://api.example.com/hooks \
//!       --http 'POST https://api.example.com' --config signing=partner-key --secret partner-key
//! ```
//!
//! | config | meaning |
//! | --- | --- |
//! | `url` | where to post |
//! | `bearer` | the name of a secret that is sent as `Authorization: Bearer …` |
//! | `signing` | the name of a secret that signs posts, see <https://www.standardwebhooks.com> |
//!
//! The header `webhook-id` is the same over all attempts (of a message whose producer committed
//! durably, see `id` in `wit/handler.wit`): a receiver that remembers it handles each message once.
//! An answer of 2xx acks. 408, 425, 429 and 5xx retry, after as long as the server asks for; so
//! does whatever goes wrong on the way. Any other answer is a dead letter: the same post would get
//! it again.

#![allow(missing_docs, clippy::same_length_and_capacity, reason = "what wit-bindgen generates")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::host::jobs::types::{Failure, RetryOptions};
use crate::host::jobs::{config, secrets};

mod http;

wit_bindgen::generate!({ path: "../../wit", world: "handler" });

/// Characters of the server's answer that a verdict quotes.
const QUOTE_CHARS: usize = 300;

struct Webhook;

impl Guest for Webhook {
    fn handle(message: Message) -> Verdict {
        match post(&message) {
            Ok(response) => judge(&response, SystemTime::now()),
            Err(reason) => Verdict::Retry(RetryOptions { after_ms: None, reason }),
        }
    }
}

fn post(message: &Message) -> Result<http::Response, String> {
    let url = config::get("url").ok_or("no url; deploy with --config url=https://…")?;
    let url = http::Url::parse(&url)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // A message's id is its own on its queue only.
    let id = format!("{}-{}", message.queue, message.id);
    let mut headers = vec![
        ("content-type", message.content_type.clone()),
        ("content-length", message.payload.len().to_string()),
        ("user-agent", concat!("host-webhook/", env!("CARGO_PKG_VERSION")).to_owned()),
        ("webhook-id", id.clone()),
        ("webhook-timestamp", now.as_secs().to_string()),
    ];
    if let Some(trace) = &message.trace {
        headers.push(("traceparent", trace.traceparent.clone()));
        headers.push(("tracestate", trace.tracestate.clone()));
    }
    if let Some(name) = config::get("bearer") {
        headers.push(("authorization", format!("Bearer {}", secret(&name)?)));
    }
    if let Some(name) = config::get("signing") {
        let signed = format!("{id}.{}.", now.as_secs());
        let signature = sign(&secret(&name)?, signed.as_bytes(), &message.payload)?;
        headers.push(("webhook-signature", signature));
    }
    let left = Duration::from_millis(message.deadline_ms).saturating_sub(now);
    http::post(&url, &headers, &message.payload, left)
}

fn secret(name: &str) -> Result<String, String> {
    secrets::get(name).ok_or_else(|| {
        format!(
            "no secret {name}; set it with `host secret set {name}` and deploy with --secret {name}"
        )
    })
}

fn sign(key: &str, signed: &[u8], payload: &[u8]) -> Result<String, String> {
    let key = match key.strip_prefix("whsec_") {
        Some(encoded) => BASE64
            .decode(encoded)
            .map_err(|error| format!("after whsec_, the signing secret is not base64: {error}"))?,
        None => key.as_bytes().to_vec(),
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|error| error.to_string())?;
    mac.update(signed);
    mac.update(payload);
    Ok(format!("v1,{}", BASE64.encode(mac.finalize().into_bytes())))
}

fn judge(response: &http::Response, now: SystemTime) -> Verdict {
    let status = response.status;
    let body = String::from_utf8_lossy(&response.body);
    let quote: String = body.trim().chars().take(QUOTE_CHARS).collect();
    let redirect = response.header("location").map_or_else(String::new, |location| {
        format!(" and points to {location}, which is not followed")
    });
    let colon = if quote.is_empty() { "" } else { ": " };
    let reason = format!("the server answered {status}{redirect}{colon}{quote}");
    match status {
        200..300 => Verdict::Ack,
        408 | 425 | 429 | 500.. => {
            let after = response.header("retry-after").and_then(|text| retry_after(text, now));
            let after_ms = after.map(|after| after.as_millis() as u64);
            Verdict::Retry(RetryOptions { after_ms, reason })
        }
        _ => Verdict::DeadLetter(Failure { reason }),
    }
}

/// A number of seconds, or a date.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

export!(Webhook);
