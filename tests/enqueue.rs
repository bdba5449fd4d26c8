//! `host enqueue`: one message, a line each, a file; all or nothing.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::json;

use crate::harness::TestDb;
use crate::harness::process::{Finished, host_command};

/// Runs `host enqueue` with something on its standard input.
async fn enqueue(db: &TestDb, args: &[&str], input: &'static [u8]) -> Finished {
    let mut command = host_command(&["enqueue"]);
    command.args(args).env("DATABASE_URL", &db.url);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = move || {
        let mut child = command.spawn().expect("host");
        // It may end before it has read everything.
        let _ = child.stdin.take().expect("its input").write_all(input);
        child.wait_with_output().expect("its end")
    };
    let output = tokio::task::spawn_blocking(run).await.expect("its end");
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

async fn payloads(db: &TestDb, queue: &str) -> Vec<String> {
    let sql = format!("SELECT payload::text FROM queue.{queue} ORDER BY id");
    db.client().await.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn one_message_with_headers_and_delay() {
    let db = TestDb::new().await;
    db.host(&["queue", "create", "emails"]).await.ok();
    let args =
        ["enqueue", "emails", "{\"n\": 1}", "--header", "a=b=c", "--header", "d=", "--delay"];
    assert_eq!(db.host(&[&args[..], &["5m"]].concat()).await.ok(), "1\n");
    let at = ["enqueue", "emails", "2", "--run-at", "2029-01-31T08:00:00Z", "--json"];
    assert_eq!(db.host(&at).await.ok(), "{\"id\":\"2\"}\n");
    let sql = "SELECT headers, run_at - enqueued_at = interval '5 minutes',
            run_at = '2029-01-31 08:00+00' FROM queue.emails ORDER BY id";
    let rows = db.client().await.query(sql, &[]).await.unwrap();
    assert_eq!(rows[0].get::<_, serde_json::Value>(0), json!({"a": "b=c", "d": ""}));
    assert!(rows[0].get::<_, bool>(1));
    assert_eq!(rows[1].get::<_, Option<serde_json::Value>>(0), None);
    assert!(rows[1].get::<_, bool>(2));
}

#[tokio::test]
async fn one_message_a_line_of_every_payload_type() {
    let db = TestDb::new().await;
    for kind in ["jsonb", "json", "text", "bytea"] {
        db.host(&["queue", "create", kind, "--payload", kind]).await.ok();
        let text = enqueue(&db, &[kind, "-", "--lines"], b"\"a\"\r\n\n[1,2]\n  \n3").await.ok();
        assert_eq!(text, format!("Enqueued 3 messages on queue {kind}, skipped 2 blank lines\n"));
        let want = match kind {
            "bytea" => ["\\x226122", "\\x5b312c325d", "\\x33"],
            "jsonb" => ["\"a\"", "[1, 2]", "3"],
            _ => ["\"a\"", "[1,2]", "3"],
        };
        assert_eq!(payloads(&db, kind).await, want);
    }
}

#[tokio::test]
async fn a_file_is_one_message_on_a_bytea_queue() {
    let db = TestDb::new().await;
    db.host(&["queue", "create", "photos", "--payload", "bytea"]).await.ok();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"\xff\n\x00\n").unwrap();
    db.host(&["enqueue", "photos", "--file", file.path().to_str().unwrap()]).await.ok();
    assert_eq!(enqueue(&db, &["photos", "-"], b"\n\n").await.ok(), "2\n");
    assert_eq!(payloads(&db, "photos").await, ["\\xff0a000a", "\\x0a0a"]);
}

#[tokio::test]
async fn a_bad_line_is_named_and_nothing_is_enqueued() {
    let db = TestDb::new().await;
    db.host(&["queue", "create", "emails", "--max-bytes", "20B"]).await.ok();
    let text = enqueue(&db, &["emails", "-"], b"1\n{\"n\":\n3\n").await.error(1);
    assert!(text.starts_with("line 2 does not fit queue emails (jsonb): not JSON"), "{text}");
    let text = enqueue(&db, &["emails", "-"], b"1\n2\n\"01234567890123456789\"\n").await.error(1);
    assert!(text.contains("payload_is_at_most_20_bytes"), "{text}");
    assert!(text.contains("COPY emails, line 3"), "{text}");
    let text = db.host(&["enqueue", "emails", "{"]).await.error(1);
    assert!(text.starts_with("the message does not fit queue emails (jsonb)"), "{text}");
    let text = db.host(&["enqueue", "emails", "--file", "/nowhere"]).await.error(2);
    assert!(text.starts_with("cannot read /nowhere"), "{text}");
    for wrong in [&["1", "--header", "x"][..], &[], &["1", "--file", "x"], &["1", "--delay", "x"]] {
        db.host(&[&["enqueue", "emails"], wrong].concat()).await.error(2);
    }
    assert!(payloads(&db, "emails").await.is_empty());
}
