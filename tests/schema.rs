//! `migrations/schema.sql` is what a migrated database with one queue looks like.

use crate::harness::{TestDb, repository};

const HEADER: &str = "\
-- A migrated database with one queue named `sample`, for reading and for review. Never applied.
-- Written by `make schema` from PostgreSQL ";

#[tokio::test]
async fn the_dump_is_current() {
    let db = TestDb::new().await;
    let client = db.client().await;
    let sample = "DROP EVENT TRIGGER tripwire; DROP SCHEMA tripwire CASCADE;
        SELECT host.create_queue('sample', p_keep_ms => 60000)";
    client.batch_execute(sample).await.unwrap();
    let row = client.query_one("SELECT current_setting('server_version_num')::int / 10000", &[]);
    let major: i32 = row.await.unwrap().get(0);
    let dump = db.program("pg_dump", &["--schema-only", "--no-owner"]).await;
    let now = format!("{HEADER}{major}.\n{}", without_noise(&dump));

    let path = repository().join("migrations/schema.sql");
    if std::env::var_os("SCHEMA").is_some_and(|v| v == "write") {
        std::fs::write(&path, now).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    if !kept.starts_with(&format!("{HEADER}{major}.")) {
        eprintln!(
            "schema.sql is from another major version of PostgreSQL than {major}: not compared"
        );
        return;
    }
    let change = kept.lines().zip(now.lines()).find(|(kept, now)| kept != now);
    assert!(
        kept == now,
        "migrations/schema.sql is not what the migrations make (first difference: {change:?}): \
         run `make schema`, and look at what changed"
    );
}

/// What changes with the version of `pg_dump`, and what says nothing.
fn without_noise(dump: &str) -> String {
    let noise = ["-- Name: ", "-- PostgreSQL database dump", "-- Dumped ", "SET ", "\\"];
    let mut text = String::new();
    for line in dump.lines().map(str::trim_end) {
        let set_config = line.starts_with("SELECT pg_catalog.set_config");
        if line == "--" || set_config || noise.iter().any(|noise| line.starts_with(noise)) {
            continue;
        }
        // One empty line is enough.
        if line.is_empty() && text.ends_with("\n\n") {
            continue;
        }
        text.push_str(line);
        text.push('\n');
    }
    format!("{}\n", text.trim())
}
