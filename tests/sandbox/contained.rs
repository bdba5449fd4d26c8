//! What a guest does on command, and what its host makes of it.

use std::pin::pin;

use futures_util::poll;

use super::*;

fn dead(reason: &str) -> Verdict {
    Verdict::DeadLetter { reason: reason.into() }
}

#[tokio::test]
async fn verdicts_arrive_as_they_were_given() {
    assert_eq!(misbehave(settings(), "ack").await.verdict, Verdict::Ack);
    assert_eq!(
        misbehave(settings(), r#"{"do": "retry", "ms": 1500, "text": "busy"}"#).await.verdict,
        Verdict::Retry { after: Some(Duration::from_millis(1500)), reason: "busy".into() }
    );
    assert_eq!(
        misbehave(settings(), "retry").await.verdict,
        Verdict::Retry { after: None, reason: String::new() }
    );
    assert_eq!(misbehave(settings(), r#"{"do": "dead", "text": "no"}"#).await.verdict, dead("no"));
}

#[tokio::test]
async fn a_trap_is_named_with_the_guests_last_words() {
    let Verdict::Failed(Failure::Trap(text)) = misbehave(settings(), "trap").await.verdict else {
        panic!("not a trap");
    };
    assert!(text.starts_with("wasm `unreachable` instruction executed; panicked at "), "{text}");
    assert!(text.ends_with(": on command"), "{text}");
}

#[tokio::test]
async fn an_exit_is_named() {
    // std reports success or failure only; the number is lost before the host sees it.
    assert_eq!(
        misbehave(settings(), "exit").await.verdict,
        Verdict::Failed(Failure::Trap("the guest exited with status 1".into()))
    );
}

#[tokio::test]
async fn a_stack_overflow_is_named() {
    assert_eq!(misbehave(settings(), "stack").await.verdict, Verdict::Failed(Failure::Stack));
}

#[tokio::test]
async fn memory_is_limited_and_named() {
    let limit = 8 << 20;
    let run = misbehave(with_limits(|l| l.memory_bytes = limit), "allocate").await;
    assert_eq!(run.verdict, Verdict::Failed(Failure::Memory(limit)));
}

#[tokio::test]
async fn a_loop_ends_at_its_limit_of_cpu_time() {
    let cpu = Duration::from_millis(100);
    let run = misbehave(with_limits(|l| l.cpu = cpu), "loop").await;
    assert_eq!(run.verdict, Verdict::Failed(Failure::Cpu(cpu)));
    assert!(run.elapsed >= cpu);
}

#[tokio::test]
async fn a_loop_ends_at_its_timeout_if_that_comes_first() {
    let timeout = Duration::from_millis(100);
    let run = misbehave(with_limits(|l| l.timeout = timeout), "loop").await;
    assert_eq!(run.verdict, Verdict::Failed(Failure::Timeout(timeout)));
}

#[tokio::test]
async fn waiting_costs_wall_time_and_no_cpu_time() {
    let settings = with_limits(|l| l.cpu = Duration::from_millis(60));
    let run = misbehave(settings, r#"{"do": "sleep", "ms": 500}"#).await;
    assert_eq!(run.verdict, Verdict::Ack);
    assert!(run.elapsed >= Duration::from_millis(500));

    let timeout = Duration::from_millis(100);
    let settings = with_limits(|l| l.timeout = timeout);
    let run = misbehave(settings, r#"{"do": "sleep", "ms": 3600000}"#).await;
    assert_eq!(run.verdict, Verdict::Failed(Failure::Timeout(timeout)));
}

#[tokio::test]
async fn a_loop_leaves_its_thread_to_others() {
    let mut runner = load("misbehave", settings()).runner();
    let endless = message("loop");
    {
        let mut run = pin!(runner.run(&endless));
        for _turn in 0..3 {
            // Unless the guest yields, this does not return.
            assert!(poll!(&mut run).is_pending());
        }
    }
    // The guest that was dropped in the middle leaves nothing behind.
    assert_eq!(runner.run(&message("ack")).await.verdict, Verdict::Ack);
}

#[tokio::test]
async fn a_flood_of_follow_ups_is_refused_and_none_is_kept() {
    let settings = with_limits(|l| l.follow_ups = 10);
    let run = misbehave(settings, r#"{"do": "enqueue", "queue": "text", "text": "x"}"#).await;
    let reason = r#"after 10: Refusal::LimitExceeded("10 follow-up messages a call")"#;
    assert_eq!((run.verdict, run.follow_ups), (dead(reason), vec![]));

    let settings = with_limits(|l| l.follow_up_bytes = 25);
    let run = misbehave(settings, r#"{"do": "enqueue", "queue": "text", "text": "ten bytes."}"#);
    let reason = r#"after 2: Refusal::LimitExceeded("25 bytes of follow-up messages a call")"#;
    assert_eq!(run.await.verdict, dead(reason));
}

#[tokio::test]
async fn a_follow_up_that_cannot_be_stored_is_refused_at_the_call() {
    for (command, refusal) in [
        (r#"{"do": "enqueue", "n": 1, "queue": "none"}"#, r#"UnknownQueue("none")"#),
        (
            r#"{"do": "enqueue", "n": 1, "queue": "small", "text": "eleven byte"}"#,
            "PayloadTooLarge(10)",
        ),
        (
            r#"{"do": "enqueue", "n": 1, "queue": "jsonb", "text": "{"}"#,
            r#"InvalidPayload("not JSON: EOF while parsing an object at line 1 column 1")"#,
        ),
        (
            r#"{"do": "enqueue", "n": 1, "queue": "text", "key": "k"}"#,
            r#"NotTaken("queue text takes no key: create a queue with `host queue create --ordered` or `--per-key`")"#,
        ),
        (
            r#"{"do": "enqueue", "n": 1, "queue": "text", "priority": "normal"}"#,
            r#"NotTaken("queue text has no priorities: create a queue with `host queue create --priorities`")"#,
        ),
        (
            r#"{"do": "enqueue", "n": 1, "queue": "text", "unique_key": "k"}"#,
            r#"NotTaken("queue text takes no unique keys: turn them on with `host queue set --unique 1h`")"#,
        ),
    ] {
        let reason = format!("after 0: Refusal::{refusal}");
        assert_eq!(misbehave(settings(), command).await.verdict, dead(&reason));
    }
}

#[tokio::test]
async fn follow_ups_come_with_the_ack() {
    let run = misbehave(settings(), r#"{"do": "enqueue", "n": 2, "queue": "text", "text": "hi"}"#);
    let run = run.await;
    assert_eq!(run.verdict, Verdict::Ack);
    let texts: Vec<_> = run.follow_ups.iter().map(|f| (&*f.queue, &*f.payload)).collect();
    assert_eq!(texts, [("text", &b"hi"[..]), ("text", b"hi")]);
}

#[tokio::test]
async fn a_guest_sees_nothing_of_the_machine() {
    let run = misbehave(settings(), r#"{"do": "environment", "queue": "text"}"#).await;
    assert_eq!(
        String::from_utf8_lossy(&run.follow_ups[0].payload),
        "variables 0, arguments 0, files false, network Some(PermissionDenied)"
    );
}

#[tokio::test]
async fn a_guest_sees_its_configuration() {
    let mut settings = settings();
    settings.config = [("b".into(), "2".into()), ("a".into(), "1".into())].into();
    let run = misbehave(settings, r#"{"do": "config", "queue": "text"}"#).await;
    assert_eq!(String::from_utf8_lossy(&run.follow_ups[0].payload), r#"[("a", "1"), ("b", "2")]"#);
}

/// How many messages the runner's instance has seen, this one included.
async fn seen(runner: &mut host_sandbox::Runner) -> String {
    let run = runner.run(&message(r#"{"do": "remember", "queue": "text"}"#)).await;
    String::from_utf8_lossy(&run.follow_ups[0].payload).into_owned()
}

#[tokio::test]
async fn isolation_by_message_forgets() {
    let mut runner = load("misbehave", settings()).runner();
    assert_eq!(seen(&mut runner).await, "1");
    assert_eq!(seen(&mut runner).await, "1");
}

#[tokio::test]
async fn isolation_by_batch_remembers_until_something_fails() {
    let mut settings = with_limits(|l| l.timeout = Duration::from_secs(3));
    settings.isolation = Isolation::Batch;
    settings.limits.cpu = Duration::from_millis(50);
    let mut runner = load("misbehave", settings).runner();
    assert_eq!(seen(&mut runner).await, "1");
    assert_eq!(seen(&mut runner).await, "2");
    runner.run(&message("retry")).await;
    assert_eq!(seen(&mut runner).await, "4");
    for failure in ["trap", "loop", "stack", r#"{"do": "sleep", "ms": 3600000}"#] {
        let run = runner.run(&message(failure)).await;
        assert!(matches!(run.verdict, Verdict::Failed(_)), "{failure}: {run:?}");
        assert_eq!(seen(&mut runner).await, "1", "after {failure}");
        assert_eq!(seen(&mut runner).await, "2", "after {failure}");
    }
}

#[tokio::test]
async fn isolation_by_batch_ends_after_a_number_of_messages() {
    let mut settings = settings();
    settings.isolation = Isolation::Batch;
    let mut runner = load("misbehave", settings).runner();
    for _ in 0..1_000 {
        assert_eq!(runner.run(&message("ack")).await.verdict, Verdict::Ack);
    }
    assert_eq!(seen(&mut runner).await, "1");
}

#[tokio::test]
async fn limits_count_anew_for_each_message() {
    let mut settings = with_limits(|l| l.follow_ups = 2);
    settings.isolation = Isolation::Batch;
    let mut runner = load("misbehave", settings).runner();
    let two = r#"{"do": "enqueue", "n": 2, "queue": "text"}"#;
    for _ in 0..3 {
        assert_eq!(runner.run(&message(two)).await.follow_ups.len(), 2);
    }
}

/// A pool of two: were a dropped call to keep its place, the third could not start.
#[tokio::test]
async fn dropped_calls_free_their_places() {
    let sandbox = Sandbox::new(&SandboxConfig { instances_max: 2, cache_dir: None }).unwrap();
    let handler = made(&sandbox, &plugin("misbehave"), settings()).unwrap();
    for command in ["loop", r#"{"do": "sleep", "ms": 3600000}"#].repeat(20) {
        let mut runner = handler.runner();
        assert!(poll!(pin!(runner.run(&message(command)))).is_pending(), "{command}");
    }
    let run = handler.runner().run(&message("ack")).await;
    assert_eq!(run.verdict, Verdict::Ack);
}

#[tokio::test]
async fn a_full_pool_is_an_error_of_its_own() {
    let sandbox = Sandbox::new(&SandboxConfig { instances_max: 1, cache_dir: None }).unwrap();
    let mut settings = settings();
    settings.isolation = Isolation::Batch;
    let handler = made(&sandbox, &plugin("misbehave"), settings).unwrap();
    let (mut first, mut second) = (handler.runner(), handler.runner());
    assert_eq!(first.run(&message("ack")).await.verdict, Verdict::Ack);
    let run = second.run(&message("ack")).await;
    let Verdict::Failed(Failure::Start(text)) = run.verdict else { panic!("{run:?}") };
    assert!(text.starts_with("all sandboxes of this host are in use"), "{text}");
    drop(first);
    assert_eq!(second.run(&message("ack")).await.verdict, Verdict::Ack);
}
