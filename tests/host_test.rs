//! `host test`: a handler on a message and on cases, without a database.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::plugin;
use crate::harness::process::{Finished, finish, host_command};
use crate::harness::server::scratch_dir;

async fn host_test(dir: &Path, component: &str, args: &[&str]) -> Finished {
    let file = plugin(component).display().to_string();
    let mut command = host_command(&[&["test", &file], args].concat());
    // It has none to go to.
    command.current_dir(dir).env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none");
    finish(command).await
}

fn case(dir: &Path, name: &str, case: &Value) {
    fs::write(dir.join(name), case.to_string()).unwrap();
}

#[tokio::test]
async fn a_message_is_run_and_shown() {
    let dir = scratch_dir();
    let shown = async |payload: &str, args: &[&str]| {
        let text = [&["--payload-type", "text", "--payload", payload], args].concat();
        host_test(&dir, "misbehave", &text).await.ok()
    };
    let text =
        shown(r#"{"do": "enqueue", "n": 1, "queue": "anything", "text": "hello"}"#, &[]).await;
    assert!(text.starts_with("verdict    ack\n"), "{text}");
    assert!(text.contains(r#"follow-up  {"payload":"hello","queue":"anything"}"#), "{text}");
    assert!(text.contains("took  "), "{text}");
    let text = shown(r#"{"do": "log", "n": 1, "text": "here"}"#, &[]).await;
    assert!(text.contains("log        here"), "{text}");
    let text = shown("trap", &[]).await;
    assert!(text.contains("verdict    failed: trap:") && text.contains("on command"), "{text}");
    let text = shown("loop", &["--cpu", "50ms"]).await;
    assert!(text.contains("failed: limit: more than 50ms of CPU time"), "{text}");
    let text = shown(r#"{"do": "watch", "n": 1, "text": "a"}"#, &["--attempt", "2"]).await;
    assert!(text.starts_with("verdict    ack"), "{text}");
    let text = shown(r#"{"do": "config"}"#, &["--config", "from=shop"]).await;
    assert!(text.contains("shop"), "{text}");
    // A batch handler gets a call with one.
    let posting = ["--payload", r#"{"account": "a", "amount": 3}"#, "--save", "posting.json"];
    let text = host_test(&dir, "tally", &posting).await.ok();
    assert!(text.contains(r#""totals":{"a":3}"#), "{text}");
    let text = host_test(&dir, "tally", &["posting.json"]).await.ok();
    assert!(text.starts_with("ok       posting.json"), "{text}");
    let error = host_test(&dir, "tally", &posting).await.error(2);
    assert!(error.contains("posting.json is there already"), "{error}");
}

#[tokio::test]
async fn cases_pass_fail_and_are_updated() {
    let dir = scratch_dir();
    let message = json!({ "payload": { "do": "tell", "text": "token" } });
    let secrets = json!({ "token": "a-long-secret-value" });
    let dead = json!({ "dead_letter": { "reason": "dead ***" } });
    case(
        &dir,
        "good.json",
        &json!({ "message": message, "secrets": secrets, "expect": { "verdict": dead, "log": ["out", "err"] } }),
    );
    let text = host_test(&dir, "misbehave", &["good.json"]).await.ok();
    assert!(text.starts_with("ok       good.json"), "{text}");

    case(
        &dir,
        "bad.json",
        &json!({ "message": message, "secrets": secrets, "expect": { "verdict": "ack", "log": ["err", "out"] } }),
    );
    let done = host_test(&dir, "misbehave", &["good.json", "bad.json", "--junit", "out.xml"]).await;
    assert_eq!(done.code, 1);
    for part in ["FAILED   bad.json", "-  \"verdict\": \"ack\"", "+  \"verdict\": {", "log  "] {
        assert!(done.stdout.contains(part), "{part}: {}", done.stdout);
    }
    assert!(done.stderr.contains("1 of 2 cases failed"), "{}", done.stderr);
    let xml = fs::read_to_string(dir.join("out.xml")).unwrap();
    assert!(xml.contains(r#"tests="2" failures="1""#) && xml.contains("&quot;ack&quot;"), "{xml}");

    let text = host_test(&dir, "misbehave", &["bad.json", "--update"]).await.ok();
    assert!(text.starts_with("updated  bad.json"), "{text}");
    let json = host_test(&dir, "misbehave", &["bad.json", "--json"]).await.ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["failed"], &json["cases"][0]["passed"]), (&0.into(), &true.into()), "{json}");
    assert_eq!(json["cases"][0]["happened"]["verdict"], dead);
    let written: Value =
        serde_json::from_str(&fs::read_to_string(dir.join("bad.json")).unwrap()).unwrap();
    // No more than it spoke of.
    assert_eq!(written["expect"]["verdict"], dead);
    assert_eq!(written["expect"].as_object().unwrap().len(), 2, "{written}");
}

/// `null` is an expectation, too.
#[tokio::test]
async fn a_result_that_is_not_expected_is_a_failure() {
    let dir = scratch_dir();
    let message = json!({ "payload": { "do": "result", "text": "done" } });
    for (expected, code) in [(json!("done"), 0), (Value::Null, 1)] {
        case(&dir, "case.json", &json!({ "message": message, "expect": { "result": expected } }));
        let done = host_test(&dir, "misbehave", &["case.json"]).await;
        assert_eq!(done.code, code, "{expected}: {}", done.stdout);
    }
}

#[tokio::test]
async fn what_is_no_case_is_refused_before_anything_runs() {
    let dir = scratch_dir();
    for (text, words) in [
        ("{", "EOF"),
        (r#"{"message": {"payload": 1}, "expects": {}}"#, "unknown field `expects`"),
        (r#"{"message": {}, "expect": {"verdict": "ack"}}"#, "either `payload` or `text`"),
        (r#"{"message": {"payload": 1, "text": "1"}, "expect": {"verdict": "ack"}}"#, "either"),
        (r#"{"message": {"payload": 1}}"#, "expects nothing"),
        (r#"{"message": {"payload": 1}, "expect": {"verdicts": 1}}"#, "field `verdicts` of expect"),
        (r#"{"message": {"payload": 1}, "expect": {"log": [1]}}"#, "a list of texts"),
        (r#"{"message": {"text": "{"}, "expect": {"verdict": "ack"}}"#, "no jsonb"),
        (r#"{"message": {"payload": 1}, "secrets": {"1": "x"}}"#, "not a secret's name"),
    ] {
        fs::write(dir.join("case.json"), text).unwrap();
        let error = host_test(&dir, "echo", &["case.json"]).await.error(2);
        assert!(error.contains("case.json") && error.contains(words), "{error}");
    }
    let batch = ["--payload", "1", "--batch-size", "2"];
    let error = host_test(&dir, "echo", &batch).await.error(2);
    assert!(error.contains("takes one message a call"), "{error}");
    let error = host_test(&dir, "echo", &["missing.json"]).await.error(2);
    assert!(error.contains("missing.json: No such file"), "{error}");
    let error = host_test(&dir, "echo", &["--payload", "1", "--cpu", "1ms"]).await.error(2);
    assert!(error.contains("cpu"), "{error}");
    fs::write(dir.join("no.wasm"), "no").unwrap();
    let mut command = host_command(&["test", "no.wasm", "--payload", "1"]);
    command.current_dir(&dir);
    assert!(finish(command).await.error(1).contains("no.wasm: "));
}
