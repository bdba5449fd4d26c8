//! What a guest hands over and its host keeps is bounded, granted or not.

use super::logged::Captured;
use super::*;

/// Dead-letters with how many were kept.
async fn kept(what: &str, bytes: usize, times: usize) -> String {
    let command = format!(r#"{{"do": "unsent", "text": "{what}", "n": {bytes}, "ms": {times}}}"#);
    let run = load("misbehave", settings()).runner().run(&message(command)).await;
    match run.verdict {
        Verdict::DeadLetter { reason } => reason,
        Verdict::Failed(Failure::Trap(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn parts_of_requests_have_a_length() {
    let (log, _guard) = Captured::start();
    for (part, bytes_max) in
        [("method", 64), ("scheme", 64), ("authority", 512), ("path-with-query", 32 << 10)]
    {
        assert_eq!(kept(part, bytes_max, 1).await, "kept 1", "{part}");
        for bytes in [bytes_max + 1, 15 << 20] {
            assert_eq!(kept(part, bytes, 1).await, "kept 0", "{part}");
            let said = format!(
                "HTTP request refused: its {part} has {bytes} bytes, and at most {bytes_max} are taken"
            );
            assert!(log.lines().join("\n").contains(&said), "{said}: {:?}", log.lines());
        }
    }
    // wasmtime bounds these.
    assert_eq!(kept("field", 32_000, 1).await, "kept 1");
    let said = kept("field", 33_000, 1).await;
    assert!(said.contains("total size of fields exceeds limit"), "{said}");
}

#[tokio::test]
async fn requests_that_are_not_sent_are_few() {
    for what in ["authority", "response"] {
        assert_eq!(kept(what, 500, 32).await, "kept 32", "{what}");
        let said = kept(what, 500, 33).await;
        assert!(
            said.contains("more than 32 HTTP requests that were made but not sent"),
            "{what}: {said}"
        );
    }
}

/// Nothing interrupts a call of the host: what it is given at once is little.
#[tokio::test]
async fn stdout_takes_no_more_at_once_than_it_says() {
    assert_eq!(misbehave(settings(), r#"{"do": "spill", "n": 65536}"#).await.verdict, Verdict::Ack);
    let run = misbehave(settings(), r#"{"do": "spill", "n": 65537}"#).await;
    let Verdict::Failed(Failure::Trap(text)) = run.verdict else { panic!("{run:?}") };
    assert!(text.contains("more bytes at once than `check-write` allows"), "{text}");
}
