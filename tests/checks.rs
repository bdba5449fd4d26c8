//! What an INSERT is refused for, by the checks of a queue's table.

use crate::harness::TestDb;
use crate::harness::sql_host::{create_queue, value};
use crate::queues::{count, refused};

#[tokio::test]
async fn a_payload_over_the_limit_is_refused_by_a_check_that_names_it() {
    let db = TestDb::new().await;
    let client = db.client().await;
    for (kind, fits, too_large) in [
        ("jsonb", "to_jsonb(repeat('x', 98))", "to_jsonb(repeat('x', 99))"),
        ("json", "to_json(repeat('x', 98))", "to_json(repeat('x', 99))"),
        ("text", "repeat('x', 100)", "repeat('x', 101)"),
        ("bytea", "decode(repeat('ff', 100), 'hex')", "decode(repeat('ff', 101), 'hex')"),
    ] {
        let name = format!("q_{kind}");
        db.host(&["queue", "create", &name, "--payload", kind, "--max-bytes", "100B"]).await.ok();
        let insert = |payload| format!("INSERT INTO queue.{name} (payload) VALUES ({payload})");
        client.batch_execute(&insert(fits)).await.unwrap();
        let (code, message, _) = refused(&client, &insert(too_large)).await;
        assert_eq!(code, "23514");
        assert!(message.contains("payload_is_at_most_100_bytes"), "{message}");
    }
}

/// `1e131071` takes a few bytes in a jsonb, and 131,072 as the text that a host is sent.
#[tokio::test]
async fn what_is_small_on_disk_and_huge_as_text_is_refused_too() {
    let db = TestDb::new().await;
    let client = db.client().await;
    db.host(&["queue", "create", "jobs"]).await.ok();
    let numbers = ["1e131071"; 10].join(",");
    let sql = format!("INSERT INTO queue.jobs (payload) VALUES ('[{numbers}]')");
    assert!(refused(&client, &sql).await.1.contains("payload_is_at_most_1048576_bytes"));
    let sql = "INSERT INTO queue.jobs (payload, headers)
        VALUES ('{}', jsonb_build_object('a', repeat('x', 65536)))";
    assert!(refused(&client, sql).await.1.contains("headers_are_at_most_65536_bytes"));
    assert_eq!(count(&client, "jobs").await, 0);
}

/// The check that makes no text of what is small says the same as one that always does.
#[tokio::test]
async fn a_small_jsonb_is_refused_by_its_length_as_text_all_the_same() {
    const LONGEST: &str = "('1e131071'::numeric + '1e-16383' - '1e-16383')";
    let db = TestDb::new().await;
    let client = db.client().await;
    let (mut refused, mut small, mut both) = (0, 0, 0);
    for (name, max) in [("kib", 12_288), ("small", 245_760), ("mib", 1 << 20), ("large", 8 << 20)] {
        create_queue(&client, name, &format!(", p_payload_bytes_max => {max}")).await;
        // The last is what a table compresses: to a size that the others have too.
        for n in [1, 2, 3, 4, 5, 7, 8, 30, 60, 400] {
            let made = format!(
                "CREATE TEMP TABLE made AS SELECT to_jsonb(array_fill({LONGEST}, ARRAY[{n}])) AS payload"
            );
            client.batch_execute(&made).await.unwrap();
            let fits = format!("SELECT octet_length(payload::text) <= {max} FROM made");
            let fits: bool = value(&client, &fits).await;
            let size = format!("SELECT pg_column_size(payload) <= {max} / 12288 FROM made");
            let is_small: bool = value(&client, &size).await;
            let insert = format!("INSERT INTO queue.{name} (payload) SELECT payload FROM made");
            assert_eq!(client.batch_execute(&insert).await.is_ok(), fits, "{n} in {name}");
            refused += u32::from(!fits);
            small += u32::from(is_small);
            both += u32::from(!fits && is_small);
            client.batch_execute("DROP TABLE made").await.unwrap();
        }
    }
    assert_eq!((refused, small, both), (25, 15, 1));
}

#[tokio::test]
async fn due_times_and_headers_that_would_harm_are_refused() {
    let db = TestDb::new().await;
    let client = db.client().await;
    db.host(&["queue", "create", "emails"]).await.ok();
    for (column, value, check) in [
        ("run_at", "'infinity'", "run_at_is_finite"),
        ("run_at", "'-infinity'", "run_at_is_finite"),
        ("run_at", "now() + interval '31 years'", "run_at_is_within_30_years"),
        ("headers", "'[1]'", "headers_is_an_object"),
        ("headers", "'\"x\"'", "headers_is_an_object"),
    ] {
        let sql = format!("INSERT INTO queue.emails (payload, {column}) VALUES ('1', {value})");
        let (code, message, _) = refused(&client, &sql).await;
        assert_eq!(code, "23514", "{sql}");
        assert!(message.contains(check), "{sql}: {message}");
    }
    let (code, ..) = refused(&client, "INSERT INTO queue.emails (payload) VALUES ('{')").await;
    assert_eq!(code, "22P02");
}
