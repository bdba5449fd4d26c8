//! What people see: nothing that a terminal would obey, tables as wide as it is, times and bytes
//! whatever the settings.

use crate::harness::process::{finish, host_command};
use crate::harness::sql_host::{create_queue, deploy};
use crate::harness::{SqlHost, TestDb};

/// Everything that a terminal may obey, as SQL writes it in an escape string; a jsonb takes no NUL.
const HOSTILE: &str = "\\x1b]0;owned\\x07\\r\\u009b31m\\u202e\\u2028\\u200e\nForged     line";

fn assert_harmless(text: &str) {
    let obeyed = |c: char| {
        c.is_control() && c != '\n'
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
    };
    assert!(!text.contains(obeyed), "{text:?}");
}

#[tokio::test]
async fn nothing_from_outside_reaches_a_terminal_raw() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", ", 'text', p_keep_ms => 3600000").await;
    db.host(&["queue", "set", "q", "--unique", "1h"]).await.ok();
    let handler = deploy(&client, "q", "default").await;
    let hand = SqlHost::new(&db, "q", handler).await;
    hand.run(&format!(
        "INSERT INTO queue.q (payload, unique_key, headers)
            VALUES (E'{HOSTILE}', E'{HOSTILE}', jsonb_build_object('h', E'{HOSTILE}'));
        INSERT INTO queue.q (payload) VALUES (E'{HOSTILE}')"
    ))
    .await;
    let lease = hand.must_lease(1).await;
    let result =
        format!(", p_result_pos => '{{0}}', p_results => ARRAY[convert_to(E'{HOSTILE}', 'UTF8')]");
    hand.settle(&lease, 0, "{[0,1)}", &result).await.unwrap();
    let entry = format!(
        "jsonb_build_object('error', E'{HOSTILE}', 'at', now(), 'attempt', 1, 'host', E'{HOSTILE}')"
    );
    hand.run(&format!(
        "INSERT INTO host.q__dead_letter (message_id, enqueued_at, handler_id, attempt, reason, error, history, payload)
            VALUES (7, now(), {handler}, 1, 'rejected', E'{HOSTILE}', jsonb_build_array({entry}), E'{HOSTILE}')"
    ))
    .await;
    for command in [
        &["peek", "q"][..],
        &["peek", "q", "--settled"],
        &["message", "q", "1"],
        &["message", "q", "7"],
        &["dead", "list", "q"],
        &["dead", "show", "q", "1"],
    ] {
        let text = db.host(command).await.ok();
        assert_harmless(&text);
        assert!(text.contains("owned"), "{command:?}: {text}");
        // Beyond the payload, which is what is left at the end, no line is anybody else's.
        let (ours, _) = text.split_once("\nPayload\n").unwrap_or((&text, ""));
        assert!(!ours.lines().any(|line| line.starts_with("Forged")), "{text}");
        let mut json = command.to_vec();
        json.push("--json");
        if !command.contains(&"--settled") {
            let text = db.host(&json).await.ok();
            assert_harmless(&text);
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
        }
    }
}

#[tokio::test]
async fn a_table_is_as_wide_as_its_terminal() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", ", 'text'").await;
    let long = "x ".repeat(25);
    client.execute("INSERT INTO queue.q (payload) VALUES ($1)", &[&long]).await.unwrap();
    for (columns, widest) in [("60", 60), ("nonsense", 100), ("3", 100)] {
        let mut command = host_command(&["peek", "q"]);
        command.env("DATABASE_URL", &db.url).env("COLUMNS", columns);
        let text = finish(command).await.ok();
        let width = text.lines().map(str::len).max().unwrap();
        assert!(width <= widest && width > 40, "{columns}: {width}\n{text}");
    }
}

#[tokio::test]
async fn bytes_are_shown_the_same_whatever_the_setting() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", ", 'bytea', p_keep_ms => 3600000").await;
    let handler = deploy(&client, "q", "default").await;
    let hand = SqlHost::new(&db, "q", handler).await;
    hand.run(&format!(
        "ALTER DATABASE {} SET bytea_output = 'escape';
        INSERT INTO queue.q (payload) SELECT '\\xff00' FROM generate_series(1, 2);
        INSERT INTO queue.q (payload, run_at) VALUES ('\\xff00', now() + interval '1 day');
        INSERT INTO host.q__dead_letter (message_id, enqueued_at, handler_id, attempt, reason, error, payload)
            VALUES (7, now(), {handler}, 1, 'rejected', 'no', '\\xff00')",
        db.name
    ))
    .await;
    let lease = hand.must_lease(1).await;
    hand.ack(&lease).await;
    let parked = hand.must_lease(2).await;
    hand.settle(&parked, 0, "{[0,2)}", ", p_park_pos => '{1}'").await.unwrap();
    hand.run("INSERT INTO queue.q (payload) VALUES ('\\xff00')").await;
    for command in [
        &["peek", "q"][..],
        &["peek", "q", "--settled"],
        &["message", "q", "2"],
        &["message", "q", "3"],
        &["message", "q", "4"],
        &["message", "q", "7"],
        &["dead", "show", "q", "1"],
    ] {
        let text = db.host(command).await.ok();
        assert!(text.contains("\\xff00"), "{command:?}: {text}");
    }
}

#[tokio::test]
async fn times_before_1970_and_with_an_offset_are_times() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", "").await;
    client
        .batch_execute("INSERT INTO queue.q (payload, run_at) VALUES ('1', '1960-01-01Z')")
        .await
        .unwrap();
    let text = db.host(&["peek", "q", "--json"]).await.ok();
    assert!(text.contains("\"run_at\":\"1960-01-01T00:00:00Z\""), "{text}");
    db.host(&["enqueue", "q", "2", "--run-at", "2029-01-31T10:00:00+02:00"]).await.ok();
    let text = db.host(&["peek", "q", "--json"]).await.ok();
    assert!(text.contains("\"run_at\":\"2029-01-31T08:00:00Z\""), "{text}");
    let text = db.host(&["enqueue", "q", "2", "--run-at", "tomorrow"]).await.error(2);
    assert!(text.contains("2030-01-31T08:00:00+01:00"), "{text}");
}
