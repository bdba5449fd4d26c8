//! Does on command what no handler should. For tests, and for seeing how a host copes.
//!
//! The payload is a command, bare or as JSON: `loop`, or `{"do": "sleep", "ms": 5000}`.

#![allow(missing_docs, clippy::same_length_and_capacity, reason = "what wit-bindgen generates")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use serde::Deserialize;

use crate::host::jobs::types::{Failure, RetryOptions};
use crate::host::jobs::{config, log, queue, results, secrets};

mod attack;
mod fetch;

wit_bindgen::generate!({ path: "../../wit", world: "handler" });

/// A command and its parameters; each command uses some.
#[derive(Default, Deserialize)]
struct Command {
    /// What to do; see [`obey`].
    r#do: String,
    /// For `sleep`, `retry`, `watch` and, before it begins, `enqueue`: how long, in milliseconds.
    /// For `result`: after how long to be tried again; 0 is: not.
    #[serde(default)]
    ms: u64,
    /// For `log`, `print`, `enqueue`: how many; 0 is: without end. For `watch`: how many attempts
    /// fail first. For `result`: so many bytes instead of the text.
    #[serde(default)]
    n: u64,
    /// For `log`, `print`, `enqueue`, `watch`, `retry`, `dead`, `result`: what to say; for `tell`:
    /// the secret's name.
    #[serde(default)]
    text: String,
    /// For `enqueue`, `watch` and `remember`: the queue to put it on. For `result`: another
    /// message's id.
    #[serde(default)]
    queue: String,
    /// Of what is put on that queue: its key, its priority and its unique key.
    key: Option<String>,
    priority: Option<String>,
    unique_key: Option<String>,
    /// For `fetch`: the request.
    fetch: Option<fetch::Fetch>,
}

/// Messages that this instance has seen. A fresh sandbox for each message makes it 1 each time.
static SEEN: AtomicU32 = AtomicU32::new(0);

struct Misbehave;

impl Guest for Misbehave {
    fn handle(message: Message) -> Verdict {
        SEEN.fetch_add(1, Relaxed);
        match parse(&message) {
            Ok(command) => obey(&command, &message),
            Err(reason) => Verdict::DeadLetter(Failure { reason }),
        }
    }
}

fn parse(message: &Message) -> Result<Command, String> {
    let text = std::str::from_utf8(&message.payload).map_err(|error| error.to_string())?;
    let json = match text.trim_start().as_bytes() {
        [b'{' | b'"', ..] => text.to_owned(),
        _ => format!("{:?}", text.trim()),
    };
    let value: serde_json::Value =
        serde_json::from_str(&json).map_err(|error| format!("not a command: {error}"))?;
    let value = if value.is_string() { serde_json::json!({ "do": value }) } else { value };
    serde_json::from_value(value).map_err(|error| format!("not a command: {error}"))
}

fn obey(command: &Command, message: &Message) -> Verdict {
    let attempt = message.attempt;
    match command.r#do.as_str() {
        "ack" => return Verdict::Ack,
        "retry" => return retry(command),
        "dead" => return Verdict::DeadLetter(Failure { reason: command.text.clone() }),
        // Uses a processor without end.
        "loop" => loop {
            black_box(());
        },
        // Takes memory without end, and uses it.
        "allocate" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(vec![1_u8; 1 << 20]);
                black_box(&hoard);
            }
        }
        "stack" => {
            black_box(descend(black_box(0)));
        }
        "trap" => panic!("on command"),
        "exit" => std::process::exit(3),
        // Waits in the host, not on a processor.
        "sleep" => std::thread::sleep(Duration::from_millis(command.ms)),
        "log" => repeat(command.n, || log::write(log::Level::Info, &command.text)),
        "print" => repeat(command.n, || println!("{}", command.text)),
        // More text at once than any line.
        "shout" => log::write(log::Level::Info, &"A".repeat(command.n as usize)),
        "enqueue" => return enqueue(command),
        "result" => return result(command, message),
        "config" => return report(command, &format!("{:?}", config::get_all())),
        "watch" if u64::from(attempt) <= command.n => return retry(command),
        "watch" => return watch(command),
        "fetch" => match &command.fetch {
            Some(request) => return report(command, &fetch::fetch(request)),
            None => return Verdict::DeadLetter(Failure { reason: "fetch what?".into() }),
        },
        // Shows a secret in every way that there is.
        "tell" => return tell(command),
        "environment" => return report(command, &environment()),
        "remember" => return report(command, &SEEN.load(Relaxed).to_string()),
        other => {
            return attack::obey(command).unwrap_or_else(|| {
                Verdict::DeadLetter(Failure { reason: format!("unknown command {other:?}") })
            });
        }
    }
    Verdict::Ack
}

fn retry(command: &Command) -> Verdict {
    let after_ms = (command.ms > 0).then_some(command.ms);
    Verdict::Retry(RetryOptions { after_ms, reason: command.text.clone() })
}

/// `n` times, or for ever if that is 0.
fn repeat(n: u64, mut action: impl FnMut()) {
    let mut done = 0;
    while n == 0 || done < n {
        action();
        done += 1;
    }
}

/// Enqueues, after a while, until it is refused, and dead-letters with what the host said; or acks
/// after `n`.
fn enqueue(command: &Command) -> Verdict {
    std::thread::sleep(Duration::from_millis(command.ms));
    let mut done = 0_u64;
    while command.n == 0 || done < command.n {
        if let Err(refusal) = queue::enqueue(&follow_up(command, &command.text)) {
            let reason = format!("after {done}: {refusal:?}");
            return Verdict::DeadLetter(Failure { reason });
        }
        done += 1;
    }
    Verdict::Ack
}

/// Leaves a result and acks; where it is to be tried again, the first attempt leaves another, which
/// is of no account. Dead-letters if it is refused.
fn result(command: &Command, message: &Message) -> Verdict {
    let again = command.ms > 0 && message.attempt == 1;
    let text = match command.n {
        _ if again => b"not this".to_vec(),
        0 => command.text.clone().into_bytes(),
        n => vec![b'A'; n as usize],
    };
    let id = if command.queue.is_empty() { &message.id } else { &command.queue };
    match results::set(id, &text) {
        Ok(()) if again => retry(command),
        Ok(()) => Verdict::Ack,
        Err(refusal) => Verdict::DeadLetter(Failure { reason: format!("{refusal:?}") }),
    }
}

/// Reports whether what it can see changes within a call: its version, before and after a while.
fn watch(command: &Command) -> Verdict {
    let version = || config::get("version").unwrap_or_default();
    let before = version();
    std::thread::sleep(Duration::from_millis(command.ms));
    report(command, &format!("{} {before} {}", command.text, version()))
}

/// Writes a secret to the log, both outputs and its last words, and enqueues it where a queue is
/// given.
fn tell(command: &Command) -> Verdict {
    let Some(secret) = secrets::get(&command.text) else {
        return report(command, "no secret");
    };
    if !command.queue.is_empty() {
        return report(command, &secret);
    }
    log::write(log::Level::Info, &format!("log {secret}"));
    println!("out {secret}");
    eprintln!("err {secret}");
    assert!(command.n == 0, "panic {secret}");
    Verdict::DeadLetter(Failure { reason: format!("dead {secret}") })
}

/// Acks, with a follow-up that says `text`; or writes it to the log if no queue is given.
fn report(command: &Command, text: &str) -> Verdict {
    if command.queue.is_empty() {
        log::write(log::Level::Info, text);
    } else if let Err(refusal) = queue::enqueue(&follow_up(command, text)) {
        return Verdict::DeadLetter(Failure { reason: format!("{refusal:?}") });
    }
    Verdict::Ack
}

fn follow_up(command: &Command, text: &str) -> queue::FollowUp {
    let priority = command.priority.as_ref().map(|name| match name.as_str() {
        "high" => queue::Priority::High,
        "low" => queue::Priority::Low,
        _ => queue::Priority::Normal,
    });
    queue::FollowUp {
        queue: command.queue.clone(),
        payload: text.as_bytes().to_vec(),
        headers: vec![],
        delay_ms: 0,
        key: command.key.clone(),
        priority,
        unique_key: command.unique_key.clone(),
    }
}

/// What this sandbox can see of the machine that it runs on.
fn environment() -> String {
    let variables = std::env::vars_os().count();
    let arguments = std::env::args_os().count();
    let root = std::fs::read_dir("/").is_ok();
    let network = std::net::TcpStream::connect("127.0.0.1:9").err().map(|error| error.kind());
    format!("variables {variables}, arguments {arguments}, files {root}, network {network:?}")
}

/// Recurses without end; the sum keeps it from being made a loop.
#[expect(unconditional_recursion, reason = "on command")]
fn descend(depth: u64) -> u64 {
    descend(black_box(depth + 1)) + depth
}

export!(Misbehave);
