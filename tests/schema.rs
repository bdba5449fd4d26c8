//! Recorded SQL, for review: `migrations/schema.sql` is what a migrated database with one queue
//! looks like, and `tests/rendered` has what other kinds of queues have else.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Command;

use tempfile::NamedTempFile;
use tokio_postgres::Client;

use crate::harness::{TestDb, repository};

const HEADER: &str = "\
-- A migrated database with one queue named `sample`, for reading and for review. Never applied.
-- Written by `make schema` from PostgreSQL ";

/// Queues whose functions differ from those of a plain queue, and how they are made.
const KINDS: [(&str, &str); 3] = [
    ("priorities", "p_priorities => true"),
    ("keyed", "p_keyed_lanes => 256"),
    ("ordered", "p_ordered_lanes => 256"),
];

/// A database with one queue named `sample`.
async fn sample(settings: &str) -> (TestDb, Client) {
    let db = TestDb::new().await;
    let client = db.client().await;
    let sample = format!(
        "DROP EVENT TRIGGER tripwire; DROP SCHEMA tripwire CASCADE;
         SELECT host.create_queue('sample'{settings})"
    );
    client.batch_execute(&sample).await.unwrap();
    (db, client)
}

/// Compares a recorded file with what it would be now, or writes it. `header` opens it, up to the
/// major version of Postgres that has written it.
async fn compare(client: &Client, path: &str, header: &str, now: &str) {
    let row = client.query_one("SELECT current_setting('server_version_num')::int / 10000", &[]);
    let header = format!("{header}{}.\n", row.await.unwrap().get::<_, i32>(0));
    let (now, name) = (format!("{header}{now}"), path);
    let path = repository().join(path);
    if std::env::var_os("SCHEMA").is_some_and(|v| v == "write") {
        std::fs::write(&path, now).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    if !kept.starts_with(&header) {
        eprintln!("{name} is from another major version of PostgreSQL: not compared");
        return;
    }
    let change = kept.lines().zip(now.lines()).find(|(kept, now)| kept != now);
    assert!(
        kept == now,
        "{name} is not what the migrations make (first difference: {change:?}): run `make schema`, \
         and look at what changed"
    );
}

#[tokio::test]
async fn the_dump_is_current() {
    let (db, client) = sample(", p_keep_ms => 60000").await;
    let dump = db.program("pg_dump", &["--schema-only", "--no-owner"]).await;
    compare(&client, "migrations/schema.sql", HEADER, &without_noise(&dump)).await;
}

/// The functions of a database's queue, by name.
async fn functions(client: &Client) -> BTreeMap<String, String> {
    let all = "SELECT p.proname::text, rtrim(pg_get_functiondef(p.oid)) FROM pg_proc p
        WHERE p.pronamespace = 'host'::regnamespace AND p.proname LIKE 'sample\\_\\_%'";
    let rows = client.query(all, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// What `diff` says of a function of two kinds of queues, without the lines' numbers: they would
/// change with every edit further up.
fn difference(plain: &str, other: &str) -> String {
    let files = [plain, other].map(|text| {
        let mut file = NamedTempFile::new().unwrap();
        writeln!(file, "{text}").unwrap();
        file
    });
    let files = files.iter().map(NamedTempFile::path);
    let output = Command::new("diff").arg("-U2").args(files).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().skip(2);
    lines
        .map(|line| if line.starts_with("@@") { "@@" } else { line })
        .fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

/// A plain queue's functions are in the dump.
#[tokio::test]
async fn the_functions_of_each_kind_of_queue_are_current() {
    let plain = functions(&sample("").await.1).await;
    for (kind, settings) in KINDS {
        let (_db, client) = sample(&format!(", {settings}")).await;
        let its = functions(&client).await;
        let mut shown = Vec::new();
        for (name, function) in its.iter().filter(|(name, its)| plain.get(*name) != Some(its)) {
            let (what, text) = match plain.get(name) {
                Some(plain) => ("differs", difference(plain, function)),
                None => ("is new", format!("{function}\n")),
            };
            shown.push(format!("\n-- {name} {what}\n{text}"));
        }
        for name in plain.keys().filter(|name| !its.contains_key(*name)) {
            shown.push(format!("\n-- {name} is not there\n"));
        }
        let header = format!(
            "-- Functions of a queue made with {settings}: what differs from a plain queue, whose
-- functions are in migrations/schema.sql. For reading and for review, never applied.
-- Written by `make schema` from PostgreSQL "
        );
        compare(&client, &format!("tests/rendered/{kind}.diff"), &header, &shown.concat()).await;
    }
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
