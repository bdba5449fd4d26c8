//! What a guest writes comes out in the host's log: bounded, and without forged lines.

use std::io;
use std::sync::Mutex;

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// The log of this thread while the guard lives.
#[derive(Clone, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    pub fn start() -> (Self, DefaultGuard) {
        let captured = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(captured.clone())
            .with_ansi(false)
            .without_time()
            .with_max_level(tracing::Level::DEBUG)
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        (captured, guard)
    }

    /// The lines of guests, without the fields that say of which message they are.
    pub fn lines(&self) -> Vec<String> {
        let without = |line: String| {
            let (text, _) = line.split_once(" queue=").expect("the fields");
            text.to_owned()
        };
        self.lines_with_fields().into_iter().map(without).collect()
    }

    pub fn lines_with_fields(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        text.lines().filter(|l| l.contains(" guest: ")).map(|l| l.trim().to_owned()).collect()
    }
}

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Captured {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn lines_come_out_one_each() {
    let (log, _guard) = Captured::start();
    misbehave(settings(), r#"{"do": "log", "n": 2, "text": "hello"}"#).await;
    misbehave(settings(), r#"{"do": "log", "n": 1, "text": "a\n ERROR guest: forged\u001b[2J"}"#)
        .await;
    assert_eq!(
        log.lines(),
        ["INFO guest: hello", "INFO guest: hello", "INFO guest: a  ERROR guest: forged [2J"]
    );
}

#[tokio::test]
async fn each_line_says_of_which_message_it_is() {
    let (log, _guard) = Captured::start();
    let mut settings = settings();
    settings.isolation = Isolation::Batch;
    settings.limits.log_bytes = 100;
    let mut runner = load("misbehave", settings).runner();
    for (id, attempt) in [(7, 1), (8, 4)] {
        let mut message = message(r#"{"do": "print", "n": 2, "text": "hello"}"#);
        (message.id, message.attempt) = (MessageId::new(id), attempt);
        runner.run(&message).await;
    }
    let notice = "WARN guest: log limit of 100 bytes a call: the rest is dropped queue=\"work\"";
    let expected = [
        "INFO guest: hello queue=\"work\" id=7 attempt=1 version=3".to_owned(),
        format!("{notice} id=7 attempt=1 version=3"),
        "INFO guest: hello queue=\"work\" id=8 attempt=4 version=3".to_owned(),
        format!("{notice} id=8 attempt=4 version=3"),
    ];
    assert_eq!(log.lines_with_fields(), expected);
}

#[tokio::test]
async fn stdout_and_stderr_come_out_by_lines() {
    let (log, _guard) = Captured::start();
    misbehave(settings(), r#"{"do": "print", "n": 2, "text": "out\nin"}"#).await;
    misbehave(settings(), "trap").await;
    let lines = log.lines();
    assert_eq!(lines[..4], ["INFO guest: out", "INFO guest: in"].repeat(2));
    assert!(lines.contains(&"WARN guest: on command".to_owned()), "{lines:?}");
}

#[tokio::test]
async fn a_flood_is_cut_off_with_one_notice() {
    let (log, _guard) = Captured::start();
    // A short line counts as 64 bytes.
    let settings = with_limits(|l| l.log_bytes = 319);
    let flood = r#"{"do": "log", "n": 10000, "text": "nine char"}"#;
    let run = misbehave(settings.clone(), flood).await;
    assert_eq!(run.verdict, Verdict::Ack);
    let mut expected = vec!["INFO guest: nine char"; 4];
    expected.push("WARN guest: log limit of 319 bytes a call: the rest is dropped");
    assert_eq!(log.lines(), expected);

    let (log, _guard) = Captured::start();
    misbehave(settings.clone(), r#"{"do": "print", "n": 10000, "text": "nine char"}"#).await;
    assert_eq!(log.lines(), expected);

    let (log, _guard) = Captured::start();
    misbehave(settings, r#"{"do": "shout", "n": 5000000}"#).await;
    assert_eq!(log.lines(), expected[4..]);
}

#[tokio::test]
async fn empty_lines_are_not_for_nothing() {
    let (log, _guard) = Captured::start();
    for command in [r#"{"do": "log", "n": 10000}"#, r#"{"do": "print", "n": 10000}"#] {
        misbehave(settings(), command).await;
    }
    let (notices, empty): (Vec<_>, Vec<_>) =
        log.lines().into_iter().partition(|line| line.contains("the rest is dropped"));
    // 64 KiB each, at 64 bytes a line.
    assert_eq!((empty.len(), notices.len()), (2 * 1_024, 2));
}

#[tokio::test]
async fn an_endless_flood_ends_with_the_cpu_time() {
    let cpu = Duration::from_millis(50);
    let run = misbehave(with_limits(|l| l.cpu = cpu), "log").await;
    assert_eq!(run.verdict, Verdict::Failed(Failure::Cpu(cpu)));
}
