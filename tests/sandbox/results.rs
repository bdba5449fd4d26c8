//! Results: what a handler leaves with a message is there with its ack, within limits, and is no
//! other's.

use serde_json::json;

use super::*;

async fn run(settings: HandlerSettings, command: &serde_json::Value) -> Run {
    load("misbehave", settings).runner().run(&message(command.to_string())).await
}

fn rejected(run: Run) -> String {
    assert_eq!(run.result, None);
    match run.verdict {
        Verdict::DeadLetter { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_result_comes_with_the_ack() {
    let given = run(settings(), &json!({"do": "result", "text": "done"})).await;
    assert_eq!((given.verdict, given.result), (Verdict::Ack, Some(b"done".to_vec())));
    let given = run(settings(), &json!({"do": "result", "n": 65_536})).await;
    assert_eq!(given.result.map(|result| result.len()), Some(65_536));
    let later = run(settings(), &json!({"do": "result", "text": "done", "ms": 5})).await;
    assert!(matches!(later.verdict, Verdict::Retry { .. }), "{later:?}");
    assert_eq!(later.result, None);
}

#[tokio::test]
async fn a_result_that_cannot_be_stored_is_refused_at_the_call() {
    let large = run(settings(), &json!({"do": "result", "n": 65_537})).await;
    assert_eq!(rejected(large), "Refusal::TooLarge(65536)");
    let other = run(settings(), &json!({"do": "result", "queue": "17"})).await;
    assert_eq!(rejected(other), r#"Refusal::UnknownMessage("17")"#);
    let much = run(with_limits(|l| l.follow_up_bytes = 9), &json!({"do": "result", "n": 10})).await;
    let reason = r#"Refusal::LimitExceeded("9 bytes of follow-up messages and results a call")"#;
    assert_eq!(rejected(much), reason);
}

#[tokio::test]
async fn a_warm_sandbox_has_forgotten_the_result_before() {
    let mut settings = with_limits(|l| l.follow_up_bytes = 10);
    settings.isolation = Isolation::Batch;
    let mut runner = load("misbehave", settings).runner();
    for command in [json!({"do": "result", "n": 10}), json!({"do": "result", "n": 10, "ms": 5})] {
        runner.run(&message(command.to_string())).await;
        assert_eq!(runner.run(&message("ack")).await.result, None);
    }
}

#[tokio::test]
async fn each_message_of_a_batch_has_its_own() {
    let mut batch: Vec<Message> = [json!({"n": 0, "result": "zero"}), json!({"n": 1})]
        .map(|command| message(command.to_string()))
        .into();
    batch.push(message(json!({"n": 2, "do": "dead", "result": "two"}).to_string()));
    for (id, message) in (10..).zip(&mut batch) {
        message.id = MessageId::new(id);
    }
    let run = load("misbehave-batch", settings()).runner().run_batch(&batch).await;
    assert_eq!(run.verdicts.unwrap().len(), 3);
    let expected = [(10, "zero"), (12, "two")].map(|(id, text)| (MessageId::new(id), text.into()));
    assert_eq!(run.results, expected.into());
}
