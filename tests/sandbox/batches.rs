//! Batch handlers: one call, many messages, a verdict for each.

use host_core::message::FollowUp;
use host_sandbox::BatchRun;
use serde_json::{Value, json};

use super::logged::Captured;
use super::*;

fn messages(payloads: &[Value]) -> Vec<Message> {
    let message = |(n, payload): (usize, &Value)| {
        let mut message = message(payload.to_string());
        message.position = n as u32;
        message.id = MessageId::new(n as i64);
        message
    };
    payloads.iter().enumerate().map(message).collect()
}

fn numbered(commands: &[&str]) -> Vec<Message> {
    let command = |(n, command): (usize, &&str)| json!({"n": n, "do": command, "ms": 3_600_000});
    messages(&commands.iter().enumerate().map(command).collect::<Vec<_>>())
}

async fn run(settings: HandlerSettings, commands: &[&str]) -> BatchRun {
    load("misbehave-batch", settings).runner().run_batch(&numbered(commands)).await
}

fn reporting() -> HandlerSettings {
    let mut settings = settings();
    settings.config = [("to".into(), "text".into())].into();
    settings
}

fn texts(follow_ups: &[FollowUp]) -> Vec<String> {
    follow_ups.iter().map(|f| String::from_utf8_lossy(&f.payload).into_owned()).collect()
}

#[tokio::test]
async fn each_message_has_its_verdict_and_the_call_its_follow_ups() {
    let BatchRun { verdicts, follow_ups, .. } =
        run(reporting(), &["", "retry", "", "dead", ""]).await;
    let said = verdicts.unwrap();
    assert_eq!((&said[0], &said[2], &said[4]), (&Verdict::Ack, &Verdict::Ack, &Verdict::Ack));
    assert!(matches!(&said[1], Verdict::Retry { after: Some(_), .. }));
    assert!(matches!(&said[3], Verdict::DeadLetter { .. }));
    assert_eq!(texts(&follow_ups), ["0,2,4"]);
}

#[tokio::test]
async fn follow_ups_of_a_call_that_acks_nothing_are_dropped() {
    let run = run(reporting(), &["retry", "dead"]).await;
    assert_eq!(run.verdicts.unwrap().len(), 2);
    assert!(run.follow_ups.is_empty());
}

#[tokio::test]
async fn what_hits_the_call_hits_all_of_it() {
    let cpu = Duration::from_millis(50);
    let timeout = Duration::from_secs(1);
    let settings = || {
        let mut settings = reporting();
        (settings.limits.cpu, settings.limits.timeout) = (cpu, timeout);
        settings
    };
    let failure = async |command| {
        let run = run(settings(), &["", command, ""]).await;
        assert!(run.follow_ups.is_empty(), "{command}");
        run.verdicts.expect_err(command)
    };
    assert!(matches!(failure("trap").await, Failure::Trap(_)));
    assert_eq!(failure("short").await, Failure::Verdicts { verdicts: 2, messages: 3 });
    assert_eq!(failure("loop").await, Failure::Cpu(cpu));
    assert_eq!(failure("sleep").await, Failure::Timeout(timeout));
}

#[tokio::test]
async fn a_batch_handler_can_be_called_with_one() {
    let handler = load("misbehave-batch", reporting());
    assert_eq!(handler.batch_size(), Some(100));
    assert_eq!(load("echo", settings()).batch_size(), None);
    let run = handler.runner().run(&numbered(&[""])[0]).await;
    assert_eq!((run.verdict, texts(&run.follow_ups)), (Verdict::Ack, vec!["0".to_owned()]));
    let run = handler.runner().run(&numbered(&["short"])[0]).await;
    assert_eq!(
        run.verdict.clone(),
        Verdict::Failed(Failure::Verdicts { verdicts: 0, messages: 1 }),
        "{run:?}"
    );
}

#[tokio::test]
async fn each_call_has_a_sandbox_of_its_own_unless_told_otherwise() {
    for (isolation, second) in
        [(Isolation::Message, "call 1 of 2"), (Isolation::Batch, "call 2 of 2")]
    {
        let mut settings = settings();
        settings.isolation = isolation;
        let (log, _guard) = Captured::start();
        let mut runner = load("misbehave-batch", settings).runner();
        for commands in [&["", "", ""][..], &["", ""]] {
            runner.run_batch(&numbered(commands)).await.verdicts.unwrap();
        }
        let lines = log.lines_with_fields();
        assert!(
            lines[0].contains("call 1 of 3") && lines[0].contains("id=0 and 2 more"),
            "{lines:?}"
        );
        assert!(lines[1].contains(second) && lines[1].contains("id=0 and 1 more"), "{lines:?}");
    }
}

#[tokio::test]
async fn tally_adds_up() {
    let posting = |account: &str, amount: i64| json!({"account": account, "amount": amount});
    let batch = messages(&[posting("a", 5), posting("b", -3), json!("?"), posting("a", 7)]);
    let mut settings = settings();
    settings.config = [("to".into(), "jsonb".into())].into();
    let run = load("tally", settings.clone()).runner().run_batch(&batch).await;
    let verdicts = run.verdicts.unwrap();
    assert!(matches!(verdicts[2], Verdict::DeadLetter { .. }), "{verdicts:?}");
    assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Ack).count(), 3);
    let totals: Value = serde_json::from_slice(&run.follow_ups[0].payload).unwrap();
    assert_eq!(totals, json!({"totals": {"a": 12, "b": -3}, "postings": 3}));

    // Without a queue for the totals nothing is acked.
    settings.config = [("to".into(), "nowhere".into())].into();
    let run = load("tally", settings).runner().run_batch(&batch).await;
    let verdicts = run.verdicts.unwrap();
    assert_eq!(verdicts.iter().filter(|v| matches!(v, Verdict::Retry { .. })).count(), 3);
    assert!(run.follow_ups.is_empty());
}
