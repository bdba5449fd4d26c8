//! Guests that attack: each limit at its edge and far over it. What is refused is named, and
//! neither the host nor the next guest is the worse for it.

use super::*;

/// How a call failed, in words.
fn trap(run: &Run) -> &str {
    match &run.verdict {
        Verdict::Failed(Failure::Trap(text)) => text,
        other => panic!("no trap: {other:?}"),
    }
}

/// `handle` of a guest in text format: checks, each of which traps if it fails, then an ack.
fn checks(all: &[&str]) -> String {
    let check = |check: &&str| format!("(if (i32.eqz {check}) (then unreachable))\n");
    all.iter().map(check).collect::<Vec<_>>().concat() + "(i32.const 0)"
}

/// A handler with `n` more instances, each with `more` in it.
fn with_more(more: &str, n: usize, core: &str, handle: &str) -> Vec<u8> {
    let instances = "(core instance (instantiate $more)) ".repeat(n);
    let begin = format!("(component (core module $more {more}) {instances}");
    wat(&handler_text(core, handle).replacen("(component", &begin, 1))
}

async fn verdict(wasm: &[u8], settings: HandlerSettings) -> Verdict {
    made(&SANDBOX, wasm, settings).expect("a handler").runner().run(&message("")).await.verdict
}

#[tokio::test]
async fn memory_is_had_to_the_last_page_and_not_a_page_more() {
    let mib = with_limits(|l| l.memory_bytes = 1 << 20);
    let grows = checks(&[
        "(i32.eq (memory.grow (i32.const 16)) (i32.const -1))",
        "(i32.eq (memory.grow (i32.const 15)) (i32.const 1))",
        "(i32.eq (memory.grow (i32.const 1)) (i32.const -1))",
        "(i32.eq (memory.grow (i32.const 65535)) (i32.const -1))",
        // The last byte is there.
        "(i32.eqz (i32.load8_u (i32.const 1048575)))",
    ]);
    let wasm = handler_of(r#"(memory (export "memory") 1)"#, &grows);
    assert_eq!(verdict(&wasm, mib.clone()).await, Verdict::Ack);
    let beyond = "(drop (i32.load8_u (i32.const 65536))) (i32.const 0)";
    let wasm = handler_of(r#"(memory (export "memory") 1)"#, beyond);
    let Verdict::Failed(Failure::Trap(text)) = verdict(&wasm, mib.clone()).await else { panic!() };
    assert_eq!(text, "out of bounds memory access");
    // All memories have the limit together.
    let rest = checks(&[
        "(i32.eq (memory.grow (i32.const 7)) (i32.const 1))",
        "(i32.eq (memory.grow (i32.const 1)) (i32.const -1))",
    ]);
    let wasm = with_more("(memory 8)", 1, r#"(memory (export "memory") 1)"#, &rest);
    assert_eq!(verdict(&wasm, mib).await, Verdict::Ack);
}

#[tokio::test]
async fn tables_are_had_to_the_last_element_and_not_one_more() {
    let grows = checks(&[
        "(i32.eq (table.grow 0 (ref.null func) (i32.const 100000)) (i32.const -1))",
        "(i32.eq (table.grow 0 (ref.null func) (i32.const 99999)) (i32.const 1))",
        "(i32.eq (table.grow 0 (ref.null func) (i32.const 1)) (i32.const -1))",
        "(i32.eq (table.grow 0 (ref.null func) (i32.const 0x7fffffff)) (i32.const -1))",
    ]);
    let core = r#"(memory (export "memory") 1) (table 1 funcref)"#;
    assert_eq!(verdict(&handler_of(core, &grows), settings()).await, Verdict::Ack);
    // All tables have a limit together.
    let wasm = with_more("(table 100000 funcref)", 2, r#"(memory (export "memory") 1)"#, ACKS);
    assert_eq!(verdict(&wasm, settings()).await, Verdict::Ack);
    let wasm = with_more("(table 100000 funcref)", 2, core, ACKS);
    let Verdict::Failed(Failure::Start(text)) = verdict(&wasm, settings()).await else { panic!() };
    assert!(text.contains("table"), "{text}");
}

/// More than a sandbox of the pool has places for is refused when it is deployed.
#[test]
fn instances_memories_and_tables_without_end_are_refused_before_they_run() {
    let load = |more: &str, n: usize| {
        let wasm = with_more(more, n, r#"(memory (export "memory") 1)"#, ACKS);
        made(&SANDBOX, &wasm, settings()).err().map(|refusal| refusal.to_string())
    };
    // So many a component.
    for (more, fit) in [("(memory 1)", 3), ("(table 1 funcref)", 4), ("", 63)] {
        assert_eq!(load(more, fit), None, "{more}");
        for n in [fit + 1, 900] {
            let text = load(more, n).expect("it is refused");
            assert!(text.starts_with("the component does not compile: "), "{text}");
            let named = [n, n + 1].map(|has| format!(" {has} "));
            assert!(named.iter().any(|has| text.contains(has)), "it names the number: {text}");
        }
    }
    // One memory a module; its tables count as the component's.
    let text = load("(memory 1) (memory 1)", 1).expect("it is refused");
    assert!(text.contains("exceeds the per-instance limit of 1"), "{text}");
    let tables = |n| "(table 1 funcref) ".repeat(n);
    assert_eq!(load(&tables(4), 1), None);
    let text = load(&tables(5), 1).expect("it is refused");
    assert!(
        text.contains("contains 5 tables, which exceeds the configured maximum of 4"),
        "{text}"
    );
    // 16 bytes each; what is beside the memory of a module is bounded as well, at 2 MiB.
    let globals = |n| "(global (mut i64) (i64.const 0)) ".repeat(n);
    assert_eq!(load(&globals(100_000), 1), None);
    let text = load(&globals(140_000), 1).expect("it is refused");
    assert!(text.contains("exceeds the configured maximum of 2097152 bytes"), "{text}");
}

/// One instruction can fill all the memory there is; the limit is looked at between two.
#[tokio::test]
async fn instructions_that_take_long_end_at_the_limit_of_cpu_time() {
    let fill = "(loop $again
        (memory.fill (i32.const 4096) (i32.const 1) (i32.const 33550336))
        (memory.copy (i32.const 4096) (i32.const 8192) (i32.const 33546240))
        (br $again)) (i32.const 0)";
    let wasm = handler_of(r#"(memory (export "memory") 512)"#, fill);
    let cpu = Duration::from_millis(100);
    let limits = with_limits(|l| l.cpu = cpu);
    assert_eq!(verdict(&wasm, limits).await, Verdict::Failed(Failure::Cpu(cpu)));
}

#[tokio::test]
async fn calls_of_the_host_without_end_end_at_the_limit_of_cpu_time() {
    let cpu = Duration::from_millis(100);
    for command in [r#"{"do": "log"}"#, r#"{"do": "print", "text": "x"}"#] {
        let run = misbehave(with_limits(|l| l.cpu = cpu), command).await;
        assert_eq!(run.verdict, Verdict::Failed(Failure::Cpu(cpu)), "{command}");
    }
}

#[tokio::test]
async fn the_host_is_called_from_the_end_of_the_stack() {
    let settings = with_limits(|l| l.log_bytes = 1_000);
    assert_eq!(misbehave(settings, "dig").await.verdict, Verdict::Failed(Failure::Stack));
}

/// A list of a million headers that are all the same kilobyte is two gigabytes to a host that
/// copies them.
#[tokio::test]
async fn lists_that_are_small_in_the_guest_and_huge_in_the_host_are_refused() {
    let run = misbehave(settings(), r#"{"do": "alias", "n": 1000}"#).await;
    assert_eq!((run.verdict, run.follow_ups.len()), (Verdict::Ack, 1));
    // Within what a call may hand over; the follow-up is refused for its own limit.
    let run = misbehave(settings(), r#"{"do": "alias", "n": 3000}"#).await;
    assert_eq!((run.verdict, run.follow_ups.len()), (Verdict::Ack, 0));
    for command in [r#"{"do": "alias", "n": 12000}"#, r#"{"do": "alias", "n": 1000000}"#] {
        let run = misbehave(settings(), command).await;
        assert!(trap(&run).contains("fuel allocated for hostcalls"), "{run:?}");
    }
}

#[tokio::test]
async fn texts_and_payloads_of_any_size_are_refused_by_the_nearest_limit() {
    let run = misbehave(settings(), r#"{"do": "payload", "n": 1048576, "queue": "text"}"#).await;
    assert_eq!((run.verdict, run.follow_ups.len()), (Verdict::Ack, 1));
    let run = misbehave(settings(), r#"{"do": "payload", "n": 1048577, "queue": "text"}"#).await;
    let Verdict::DeadLetter { reason } = &run.verdict else { panic!("{run:?}") };
    assert_eq!(reason, "after 0: Refusal::PayloadTooLarge(1048576)");
    for command in [
        r#"{"do": "payload", "n": 25000000, "queue": "text"}"#,
        r#"{"do": "shout", "n": 25000000}"#,
        r#"{"do": "reason", "n": 25000000}"#,
    ] {
        let run = misbehave(settings(), command).await;
        assert!(trap(&run).contains("fuel allocated for hostcalls"), "{command}: {run:?}");
    }
}

#[tokio::test]
async fn texts_that_are_none_are_refused() {
    let run = misbehave(settings(), "mojibake").await;
    assert!(trap(&run).contains("invalid utf-8"), "{run:?}");
    let run = misbehave(settings(), "outside").await;
    assert!(trap(&run).contains("out of bounds"), "{run:?}");
}

#[tokio::test]
async fn what_a_guest_never_gives_back_is_bounded() {
    // A timer and a wait for it are two.
    let run = misbehave(settings(), r#"{"do": "leak", "n": 120}"#).await;
    assert_eq!(run.verdict, Verdict::Ack);
    for command in [r#"{"do": "leak", "n": 130}"#, r#"{"do": "leak", "n": 100000000}"#] {
        let run = misbehave(settings(), command).await;
        assert!(trap(&run).contains("table has no free keys"), "{run:?}");
    }
    // A little with each message: then the sandbox is used up, and the next message has a new one.
    let mut settings = settings();
    settings.isolation = Isolation::Batch;
    let mut runner = load("misbehave", settings).runner();
    let mut failed = 0;
    for _ in 0..30 {
        let run = runner.run(&message(r#"{"do": "leak", "n": 50}"#)).await;
        failed += i32::from(run.verdict != Verdict::Ack);
    }
    assert_eq!(failed, 10, "each third message");
}

#[tokio::test]
async fn random_bytes_come_in_bounded_pieces() {
    for source in ["random", "insecure"] {
        for (n, fits) in [(0_u64, true), (65_536, true), (65_537, false), (u64::MAX, false)] {
            let command = format!(r#"{{"do": "{source}", "n": {n}}}"#);
            let run = load("misbehave", settings()).runner().run(&message(command)).await;
            assert_eq!(run.verdict == Verdict::Ack, fits, "{source} {n}: {run:?}");
        }
    }
}

#[tokio::test]
async fn the_end_of_time_is_the_timeout() {
    let timeout = Duration::from_millis(100);
    let run = misbehave(with_limits(|l| l.timeout = timeout), "forever").await;
    assert_eq!(run.verdict, Verdict::Failed(Failure::Timeout(timeout)));
}

#[tokio::test]
async fn a_wait_for_a_million_things_is_refused() {
    let run = misbehave(settings(), r#"{"do": "poll", "n": 1000}"#).await;
    assert_eq!(run.verdict, Verdict::Ack);
    for command in [r#"{"do": "poll", "n": 1100}"#, r#"{"do": "poll", "n": 1000000}"#] {
        let run = misbehave(settings(), command).await;
        assert!(trap(&run).contains("handle limit exceeded"), "{run:?}");
    }
}

/// A socket is a file of the host's, and there are only so many: none is opened, not even to be
/// refused later.
#[tokio::test]
async fn no_socket_is_opened() {
    let run = misbehave(settings(), r#"{"do": "sockets", "n": 2000}"#).await;
    let Verdict::DeadLetter { reason } = &run.verdict else { panic!("{run:?}") };
    assert_eq!(reason, "denied 2000 and 2000");
}

/// Looks for anything that a guest before it has left, then leaves something in every place.
fn nosy(data_bytes: usize) -> Vec<u8> {
    let core = format!(
        r#"(memory (export "memory") 80) (data (i32.const 65536) "{}")
        (table 100 funcref) (global $mark (mut i32) (i32.const 0)) (func $f) (elem declare func $f)"#,
        "x".repeat(data_bytes)
    );
    let handle = format!(
        "(local $at i32)
        (if (global.get $mark) (then unreachable))
        (if (i32.eqz (ref.is_null (table.get 0 (i32.const 99)))) (then unreachable))
        ;; Beyond what is given to it: its data, then nothing up to the last byte.
        (local.set $at (i32.const 65536))
        (loop $next
            (if (i32.ne (i32.load8_u (local.get $at))
                    (select (i32.const 120) (i32.const 0) (i32.lt_u (local.get $at) (i32.const {end}))))
                (then unreachable))
            (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 5242880))))
        (if (i32.ne (memory.grow (i32.const 16)) (i32.const 80)) (then unreachable))
        (loop $next
            (if (i32.load8_u (local.get $at)) (then unreachable))
            (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 6291456))))
        (global.set $mark (i32.const 1))
        (table.set 0 (i32.const 99) (ref.func $f))
        (drop (table.grow 0 (ref.func $f) (i32.const 1000)))
        (memory.fill (i32.const 65536) (i32.const 165) (i32.const 6225920))
        (i32.const 0)",
        end = 65536 + data_bytes
    );
    handler_of(&core, &handle)
}

/// Of one message, queue or version the next sees nothing, though all of them take turns in one
/// place.
#[tokio::test]
async fn nothing_is_left_of_a_guest_for_the_next() {
    for data_bytes in [100, 1 << 20] {
        let sandbox = Sandbox::new(&SandboxConfig { instances_max: 1, cache_dir: None }).unwrap();
        let wasm = nosy(data_bytes);
        let load = |queue: &str, version, isolation| {
            let mut settings = settings();
            (settings.queue, settings.version, settings.isolation) =
                (queue.into(), version, isolation);
            made(&sandbox, &wasm, settings).unwrap()
        };
        let mut by_message = load("a", 1, Isolation::Message).runner();
        for turn in 0..5 {
            let run = by_message.run(&message("")).await;
            assert_eq!(run.verdict, Verdict::Ack, "message {turn}, {data_bytes} bytes of data");
        }
        for (turn, (queue, version)) in
            [("a", 1), ("a", 2), ("b", 1), ("a", 1)].repeat(3).iter().enumerate()
        {
            let mut runner = load(queue, *version, Isolation::Batch).runner();
            let run = runner.run(&message("")).await;
            assert_eq!(run.verdict, Verdict::Ack, "{queue} v{version}, turn {turn}, {data_bytes}");
            // In its own batch it finds what it has left: the check can fail.
            let again = runner.run(&message("")).await;
            assert!(trap(&again).contains("unreachable"), "{again:?}");
            assert_eq!(by_message.run(&message("")).await.verdict, Verdict::Ack);
        }
    }
}

/// A follow-up of a message that was not acked is not the next one's.
#[tokio::test]
async fn what_a_message_has_enqueued_in_vain_is_not_of_the_next() {
    let mut settings = with_limits(|l| l.follow_ups = 2);
    settings.isolation = Isolation::Batch;
    let mut runner = load("misbehave", settings).runner();
    let refused =
        runner.run(&message(r#"{"do": "enqueue", "queue": "text", "text": "in vain"}"#)).await;
    assert!(matches!(refused.verdict, Verdict::DeadLetter { .. }), "{refused:?}");
    let next = runner.run(&message(r#"{"do": "remember", "queue": "text"}"#)).await;
    let texts: Vec<_> = next.follow_ups.iter().map(|f| &*f.payload).collect();
    assert_eq!(texts, [b"2"], "in the same sandbox");
}

/// Lists of lists, each of which is all of the guest's memory: the host would copy it for each.
#[tokio::test]
async fn lists_of_lists_that_all_lie_in_one_place_are_refused() {
    const HTTP: &str = r#"
        (import "wasi:http/types@0.2.0" (instance $http
            (export "fields" (type $fields (sub resource)))
            (type $error' (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
            (export "header-error" (type $error (eq $error')))
            (export "[static]fields.from-list" (func (param "entries" (list (tuple string (list u8))))
                (result (result (own $fields) (error $error)))))))
        (core module $memory (memory (export "memory") 1))
        (core instance $memory (instantiate $memory))
        (alias core export $memory "memory" (core memory $shared))
        (core func $from-list (canon lower (func $http "[static]fields.from-list") (memory $shared)))
        (core instance $env (export "memory" (memory $shared)) (export "from-list" (func $from-list)))"#;
    let run = async |n: usize, bytes: u32| {
        let escaped = |b: u8| format!("\\{b:02x}");
        let entry = [0, 1, 0, bytes].map(|n| n.to_le_bytes().map(escaped).concat()).concat();
        let core = format!(
            r#"(import "env" "memory" (memory 1))
            (import "env" "from-list" (func $from-list (param i32 i32 i32)))
            (export "memory" (memory 0)) (data (i32.const 0) "xxxxxxxxxxxxxxxxxxxx") (data (i32.const 4096) "{}")"#,
            entry.repeat(n)
        );
        let handle = format!(
            "(call $from-list (i32.const 4096) (i32.const {n}) (i32.const 65000)) (i32.const 60000)"
        );
        let text = handler_text(&core, &handle)
            .replacen("(component", &format!("(component {HTTP}"), 1)
            .replacen("(instantiate $m)", r#"(instantiate $m (with "env" (instance $env)))"#, 1);
        verdict(&wat(&text), settings()).await
    };
    assert_eq!(run(3, 10).await, Verdict::Ack);
    // 130 MB, out of 64 KiB; and what the host bounds a message's fields to.
    for (n, bytes) in [(2_000, 65_000), (3_000, 20)] {
        let Verdict::Failed(Failure::Trap(text)) = run(n, bytes).await else {
            panic!("{n} {bytes}")
        };
        assert!(text.contains("fuel") || text.contains("total size of fields"), "{text}");
    }
}
