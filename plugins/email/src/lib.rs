//! Renders an e-mail from a template and enqueues it, ready to send, on the queue `outbox`.
//!
//! A message is an order, as JSON:
//!
//! ```json
//! {"to": "ada@example.com", "template": "welcome", "name": "Ada"}
//! ```
//!
//! `to` and `template` are required; everything is at the template's disposal. Templates are Jinja,
//! given at deploy: `--config-file templates.json`, with
//!
//! ```json
//! {"template.bill": "Your bill\nDear {{ name }}, …"}
//! ```
//!
//! There `\n` is a new line; in a value of `--config` it is two characters. The first line is the
//! subject. `welcome` is built in.
//!
//! With `--config ordered=true` an e-mail has its address as its key, for an outbox that keeps
//! order: each address gets its e-mails in the order in which they were rendered.
//!
//! A message that can never succeed is dead-lettered: no JSON, a bad address, a broken template or
//! a value that it misses. A missing template is retried, since the next deployment may bring it.

#![allow(missing_docs, clippy::same_length_and_capacity, reason = "what wit-bindgen generates")]

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::host::jobs::types::{Failure, RetryOptions};
use crate::host::jobs::{config, log, queue};

wit_bindgen::generate!({ path: "../../wit", world: "handler" });

const WELCOME: &str = "Welcome, {{ name }}\nDear {{ name }},\n\nyour account is ready.";
/// Where finished e-mails go.
const OUTBOX: &str = "outbox";

/// What the producer asks for.
#[derive(Deserialize)]
struct Order {
    to: String,
    template: String,
    /// Everything else, for the template.
    #[serde(flatten)]
    values: Map<String, Value>,
}

/// Why no e-mail came of an order.
enum Problem {
    /// Trying again may help.
    Later(String),
    /// Trying again will not help.
    Never(String),
}

struct Email;

impl Guest for Email {
    fn handle(message: Message) -> Verdict {
        match send(&message) {
            Ok(()) => Verdict::Ack,
            Err(Problem::Later(reason)) => Verdict::Retry(RetryOptions { after_ms: None, reason }),
            Err(Problem::Never(reason)) => Verdict::DeadLetter(Failure { reason }),
        }
    }
}

fn send(message: &Message) -> Result<(), Problem> {
    let order: Order = serde_json::from_slice(&message.payload).map_err(|error| {
        Problem::Never(format!("the payload is no order for an e-mail: {error}"))
    })?;
    check_address(&order.to).map_err(Problem::Never)?;
    let source = template(&order.template)?;
    let (subject, body) = render(&source, &order)?;
    log::write(log::Level::Debug, &format!("{} to {}", order.template, order.to));
    let email = json!({ "to": order.to, "subject": subject, "body": body, "order": message.id });
    // Committed together with the ack: however often this message is tried, one e-mail goes out.
    queue::enqueue(&queue::FollowUp {
        queue: OUTBOX.into(),
        payload: email.to_string().into_bytes(),
        headers: vec![],
        delay_ms: 0,
        key: is_ordered().then_some(order.to),
        priority: None,
        unique_key: None,
    })
    .map_err(|refusal| Problem::Later(format!("cannot enqueue on {OUTBOX}: {refusal:?}")))
}

fn is_ordered() -> bool {
    config::get("ordered").is_some_and(|text| text == "true")
}

/// Not all that the standard forbids, but what surely cannot be delivered.
fn check_address(address: &str) -> Result<(), String> {
    let sound = address.split_once('@').is_some_and(|(name, domain)| {
        !name.is_empty()
            && domain.contains('.')
            && !domain.starts_with('.')
            && !domain.ends_with('.')
            && !domain.contains('@')
    });
    if sound && !address.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Ok(())
    } else {
        Err(format!("not an e-mail address: {address:?}"))
    }
}

fn template(name: &str) -> Result<String, Problem> {
    match config::get(&format!("template.{name}")) {
        Some(source) => Ok(source),
        None if name == "welcome" => Ok(WELCOME.into()),
        None => Err(Problem::Later(format!(
            "no template {name:?}; deploy with --config template.{name}=…"
        ))),
    }
}

/// The subject and the body.
fn render(source: &str, order: &Order) -> Result<(String, String), Problem> {
    let mut values = order.values.clone();
    values.insert("to".into(), order.to.clone().into());
    let mut templates = Environment::new();
    // Better no e-mail than "Dear ,".
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    let text = templates
        .render_str(source, Serde(&values))
        .map_err(|error| Problem::Never(format!("template {:?}: {error:#}", order.template)))?;
    let (subject, body) = text.split_once('\n').unwrap_or((&text, ""));
    Ok((subject.trim().into(), body.into()))
}

export!(Email);
