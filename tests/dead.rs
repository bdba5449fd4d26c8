//! Dead letters: seen, tried again once, deleted only when that is meant.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::harness::{TestDb, plugin};

/// A queue with a handler, and three dead letters as settlements leave them.
async fn with_dead_letters() -> (TestDb, Client) {
    let db = TestDb::new().await;
    db.host(&["queue", "create", "emails"]).await.ok();
    let echo = plugin("echo").display().to_string();
    db.host(&["deploy", "--queue", "emails", &echo, "--no-wait"]).await.ok();
    let client = db.client().await;
    let sql = r#"INSERT INTO host.emails__dead_letter
            (message_id, enqueued_at, died_at, handler_id, attempt, reason, error, headers, history, payload)
        SELECT n, '2026-01-02 03:04:05+00', '2026-01-02 04:00:00+00', h.id, 2,
            (ARRAY['rejected', 'attempts used up', 'attempts used up'])[n],
            (ARRAY['no such address', 'timeout: no verdict within 30s', E'line one\nline two'])[n],
            '{"source": "shop"}',
            '[{"attempt": 1, "error": "busy"}, {"attempt": 2, "error": "no such address"}]',
            jsonb_build_object('n', n)
        FROM generate_series(1, 3) n, host.handler h"#;
    client.batch_execute(sql).await.unwrap();
    (db, client)
}

async fn json_of(db: &TestDb, args: &[&str]) -> Value {
    serde_json::from_str(&db.host(args).await.ok()).expect("JSON")
}

async fn dead_ids(db: &TestDb) -> Vec<i64> {
    let list = json_of(db, &["dead", "list", "emails", "--json"]).await;
    list.as_array().unwrap().iter().map(|l| l["id"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn the_list_is_newest_first_and_can_be_narrowed() {
    let (db, _client) = with_dead_letters().await;
    insta::assert_snapshot!(db.host(&["dead", "list", "emails"]).await.ok());
    assert_eq!(dead_ids(&db).await, [3, 2, 1]);
    let args = ["dead", "list", "emails", "--json", "--reason", "attempts", "--limit", "1"];
    let list = json_of(&db, &args).await;
    assert_eq!((&list[0]["id"], &list[1]), (&json!(3), &Value::Null));
    let text = db.host(&["dead", "list", "emails", "--reason", "poison"]).await.ok();
    assert_eq!(text, "No dead letters\n");
    let text = db.host(&["dead", "list", "emails", "--reason", "rejcted"]).await.error(2);
    assert!(text.contains("rejected, attempts, expired, poison"), "{text}");
}

#[tokio::test]
async fn one_is_shown_with_payload_and_every_error() {
    let (db, _client) = with_dead_letters().await;
    insta::assert_snapshot!(db.host(&["dead", "show", "emails", "1"]).await.ok());
    let json = json_of(&db, &["dead", "show", "emails", "1", "--json"]).await;
    assert_eq!(json["payload"], "{\"n\": 1}");
    assert_eq!(json["history"][0]["error"], "busy");
    let text = db.host(&["dead", "show", "emails", "9"]).await.error(2);
    assert_eq!(text, "queue emails has no dead letter 9; see `host dead list emails`");
}

#[tokio::test]
async fn a_retry_is_a_new_message_of_the_same_id_and_history() {
    let (db, client) = with_dead_letters().await;
    let text = db.host(&["dead", "retry", "emails", "2", "9"]).await;
    assert_eq!((text.code, text.stdout.as_str()), (2, "1 dead letter retried\n"));
    assert!(text.stderr.contains("queue emails has no dead letter 9"), "{}", text.stderr);
    assert_eq!(dead_ids(&db).await, [3, 1]);
    let sql =
        "SELECT m.origin, m.attempt::int, m.handler_id = h.id, m.payload, m.headers, m.history,
            m.enqueued_at = '2026-01-02 03:04:05+00', m.run_at IS NULL
        FROM queue.emails m, host.handler h";
    let rows = client.query(sql, &[]).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].get::<_, i64>(0), rows[0].get::<_, i32>(1)), (2, 1));
    assert_eq!(rows[0].get::<_, Value>(3), json!({"n": 2}));
    assert_eq!(rows[0].get::<_, Value>(4), json!({"source": "shop"}));
    assert_eq!(rows[0].get::<_, Value>(5)[1]["attempt"], 2);
    for column in [2, 6, 7] {
        assert!(rows[0].get::<_, bool>(column), "column {column}");
    }
    // Once: a second time there is nothing to retry.
    db.host(&["dead", "retry", "emails", "2"]).await.error(2);
    let text = db.host(&["dead", "retry", "emails", "--all", "--reason", "attempts"]).await.ok();
    assert_eq!(text, "1 dead letter retried\n");
    assert_eq!(dead_ids(&db).await, [1]);
}

#[tokio::test]
async fn nothing_is_purged_by_mistake() {
    let (db, client) = with_dead_letters().await;
    let text = db.host(&["dead", "purge", "emails", "--all"]).await.error(2);
    assert!(text.contains("confirm with --yes"), "{text}");
    for wrong in [&["purge", "emails", "--yes"][..], &["purge", "emails", "1", "--all", "--yes"]] {
        db.host(&[&["dead"], wrong].concat()).await.error(2);
    }
    assert_eq!(dead_ids(&db).await, [3, 2, 1]);
    let json = json_of(&db, &["dead", "purge", "emails", "1", "--yes", "--json"]).await;
    assert_eq!(json, json!({"purged": [1], "unknown": []}));
    let text = db.host(&["dead", "purge", "emails", "--all", "--yes"]).await.ok();
    assert_eq!(text, "2 dead letters purged\n");
    let row = client.query_one("SELECT count(*) FROM queue.emails", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_filter_says_which_are_meant() {
    let (db, client) = with_dead_letters().await;
    let meant = async |filter: &str| {
        let args = ["dead", "retry", "emails", "--where", filter, "--dry-run", "--json"];
        json_of(&db, &args).await["meant"].clone()
    };
    for (filter, ids) in [
        ("error ~ 'timeout'", json!([2])),
        ("error !~ 'timeout'", json!([1, 3])),
        ("error ~ '^line one.line'", json!([])),
        ("not (reason = 'rejected') and attempt >= 2", json!([2, 3])),
        ("id = 1 or message = 3", json!([1, 3])),
        ("handler = 'default' and attempt != 2", json!([])),
        ("died_at < now-1h", json!([])),
        (
            "died_at < '2026-01-02 05:00:00' and enqueued_at > '2026-01-02 03:00:00'",
            json!([1, 2, 3]),
        ),
        ("error = 'it''s'", json!([])),
    ] {
        // The dead letters are of January 2026; so that the present does not matter, they died in
        // the future of that.
        if filter == "died_at < now-1h" {
            client
                .batch_execute("UPDATE host.emails__dead_letter SET died_at = now()")
                .await
                .unwrap();
        }
        assert_eq!(meant(filter).await, ids, "{filter}");
        let reset = "UPDATE host.emails__dead_letter SET died_at = '2026-01-02 04:00:00+00'";
        client.batch_execute(reset).await.unwrap();
    }
    let text = db.host(&["dead", "list", "emails", "--where", "eror = 'x'"]).await.error(2);
    assert!(
        text.contains("column 1 of the filter: \"eror\" is no field: use one of id,"),
        "{text}"
    );
    let text = db.host(&["dead", "list", "emails", "--where", "error ~ '('"]).await.error(1);
    assert!(text.contains("invalid regular expression"), "{text}");
    db.host(&["dead", "retry", "emails"]).await.error(2);
    assert_eq!(dead_ids(&db).await, [3, 2, 1], "all of that was only looked at");

    let args = ["dead", "retry", "emails", "--where", "error ~ 'timeout'", "--reason", "attempts"];
    assert_eq!(db.host(&args).await.ok(), "1 dead letter retried\n");
    let args = ["dead", "purge", "emails", "--where", "reason = 'rejected'", "--yes"];
    assert_eq!(db.host(&args).await.ok(), "1 dead letter purged\n");
    assert_eq!(dead_ids(&db).await, [3]);
}

#[tokio::test]
async fn dead_letters_move_to_another_queue_of_any_type_all_or_none() {
    let (db, client) = with_dead_letters().await;
    for (queue, kind) in [("texts", "text"), ("bytes", "bytea"), ("aside", "jsonb")] {
        db.host(&["queue", "create", queue, "--payload", kind, "--max-bytes", "9B"]).await.ok();
    }
    let args = ["dead", "move", "emails", "1", "--to", "aside", "--dry-run"];
    assert_eq!(db.host(&args).await.ok(), "1 dead letter would be moved to queue aside\n");
    for (id, queue) in [("1", "texts"), ("2", "bytes")] {
        db.host(&["dead", "move", "emails", id, "--to", queue]).await.ok();
    }
    let sql = "SELECT (SELECT payload FROM queue.texts),
            (SELECT convert_from(payload, 'UTF8') FROM queue.bytes),
            (SELECT origin IS NULL AND handler_id IS NULL AND attempt = 1 AND headers ->> 'source' = 'shop'
                AND jsonb_array_length(history) = 2 FROM queue.texts)";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), ("{\"n\": 1}", "{\"n\": 2}", true));
    // What does not suit stays, all of it.
    let large = "UPDATE host.emails__dead_letter SET payload = '\"more than nine bytes\"'";
    client.batch_execute(large).await.unwrap();
    let text = db.host(&["dead", "move", "emails", "--all", "--to", "aside"]).await.error(1);
    assert!(text.contains("payload_is_at_most_9_bytes"), "{text}");
    assert_eq!(dead_ids(&db).await, [3]);
    let text = db.host(&["dead", "move", "emails", "3", "--to", "asid"]).await.error(2);
    assert!(text.contains("did you mean \"aside\"?"), "{text}");
    db.host(&["dead", "move", "emails", "3", "--to", "emails"]).await.error(2);
}
