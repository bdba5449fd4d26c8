//! Set-up as a file: what it says becomes so, all of it or nothing; what is written can be read.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::process::{Finished, finish, host_command};
use crate::harness::server::scratch_dir;
use crate::harness::sql_host::value;
use crate::harness::watchdog::remove_after_us;
use crate::harness::{TestDb, plugin, wait_until};

/// A database, and a folder with a file for it.
struct Place {
    db: TestDb,
    dir: PathBuf,
}

impl Place {
    async fn new(text: &str) -> Self {
        let dir = scratch_dir();
        remove_after_us(&dir);
        let place = Self { db: TestDb::new().await, dir };
        place.write(text);
        place
    }

    fn write(&self, text: &str) {
        for name in ["echo", "misbehave-batch"] {
            let link = self.dir.join(format!("{name}.wasm"));
            if !link.exists() {
                std::os::unix::fs::symlink(plugin(name), link).expect("a link");
            }
        }
        std::fs::write(self.dir.join("host.toml"), text).expect("the file");
    }

    async fn apply(&self, flags: &[&str]) -> Finished {
        let file = self.dir.join("host.toml").display().to_string();
        self.db.host(&[&["apply", &*file], flags].concat()).await
    }

    /// Why the file is refused; nothing has changed then.
    async fn refused(&self, text: &str) -> String {
        let before = self.export(&[]).await;
        self.write(text);
        let finished = self.apply(&[]).await;
        assert!([1, 2].contains(&finished.code), "{text}: {}", finished.stdout);
        let code = finished.code;
        let error = finished.error(code);
        assert_eq!(self.export(&[]).await, before, "{error}");
        error.replace(&format!("{}/", self.dir.display()), "")
    }

    async fn export(&self, flags: &[&str]) -> String {
        self.db.host(&[&["export"], flags].concat()).await.ok()
    }
}

const SHOP: &str = r#"
[queues.emails]
max-attempts = 5
delays = ["5s", "1m"]

[queues.emails.handlers.default]
file = "echo.wasm"
timeout = "10s"
config = { greeting = "Dear\n\"you\"" }

[queues.emails.handlers.audit]
file = "echo.wasm"

[cron.nightly]
schedule = "30 2 * * *"
queue = "emails"
payload = '{"n": 1}'
"#;

#[tokio::test]
async fn what_differs_is_shown_and_changed_and_nothing_else() {
    let place = Place::new(SHOP).await;
    let shown = place.apply(&["--dry-run"]).await.ok();
    assert!(shown.ends_with("4 changes to make; nothing is changed\n"), "{shown}");
    assert_eq!(place.db.host(&["queue", "list", "--json"]).await.ok(), "[]\n");
    let shown = place.apply(&[]).await.ok();
    assert!(shown.contains("create queue emails\n    max-attempts  5\n    backoff       5s, 1m\n"));
    assert!(shown.contains("deploy handler emails/audit\n    component  "), "{shown}");
    assert!(shown.ends_with("add cron nightly\nMade 4 changes\n"), "{shown}");
    let version = "SELECT host.catalog_version()";
    let client = place.db.client().await;
    let before: i64 = value(&client, version).await;
    assert_eq!(place.apply(&[]).await.ok(), "Nothing to change\n");
    assert_eq!(value::<i64>(&client, version).await, before);

    place.db.host(&["cron", "pause", "nightly"]).await.ok();
    let other = SHOP.replace("10s", "20s").replace("30 2", "30 3").replace("\"1m\"", "\"2m\"");
    place.write(&other);
    let shown: Value = serde_json::from_str(&place.apply(&["--json"]).await.ok()).unwrap();
    let [queue, handler, cron] = shown["changes"].as_array().unwrap().as_slice() else {
        panic!("{shown}");
    };
    assert_eq!(queue["details"][0], "backoff  5s, 1m -> 5s, 2m");
    assert_eq!(
        (&handler["name"], &handler["action"]),
        (&"emails/default".into(), &"deploy".into())
    );
    assert_eq!(cron["details"][0], "schedule  30 2 * * * -> 30 3 * * *");
    assert_eq!(place.apply(&[]).await.ok(), "Nothing to change\n");
    // What an operator has paused stays so.
    let paused = "SELECT count(*) FROM host.cron WHERE paused AND schedule = '30 3 * * *'";
    assert_eq!(value::<i64>(&client, paused).await, 1);
}

#[tokio::test]
async fn an_exported_set_up_makes_the_same_elsewhere() {
    let everything = r#"
[queues.plain]
payload = "bytea"
max-bytes = "1000B"
max-attempts = 3
backoff = "5s"
backoff-cap = "2h"
rotate-size = "8MiB"
rotate-age = "90s"
keep = "7d"
wake-up = false
unique = "0s"
on-duplicate = "refuse"
fleet-concurrency = 7
rate = "90/90m"
burst = 3

[queues.plain.handlers.default]
file = "echo.wasm"
timeout = "1m"
cpu = "2s"
memory = "33MiB"
isolation = "batch"
concurrency = 3
log-bytes = "1KiB"
follow-ups = 5
follow-up-bytes = "1001B"
http-requests = 6
http-bytes = "2MiB"
http = ["GET,POST https://api.example.com", "http://billing.internal:8080 private"]
secrets = ["key-a", "key-b"]

[queues.plain.handlers.default.config]
"a.b c" = """
two
lines with "quotes" and \\ and ' and é"""
empty = ""

[queues.batches.handlers.in-batches]
file = "misbehave-batch.wasm"
batch-size = 7

[queues.by_priority]
priorities = true

[queues.in_order]
payload = "text"
ordered = 16

[queues.each_key]
per-key = 4
rate = "5/1s"

[cron.bytes]
schedule = "*/5 * * * * *"
queue = "plain"
payload-hex = "ff00"
missed = "skip"
headers = { a = "1" }

[cron.words]
schedule = "@daily"
time-zone = "America/New_York"
queue = "in_order"
payload = "it's\n'''\ttime"
"#;
    let place = Place::new(everything).await;
    let error = place.refused(everything).await;
    let secret = "host.toml:18:24: handler plain/default: secret key-a has no value yet";
    assert!(error.starts_with(secret), "{error}");
    let set_secrets = async |db: &TestDb| {
        let client = db.client().await;
        let sql = "SELECT host.set_secret('key-a', 'x'), host.set_secret('key-b', 'y')";
        client.batch_execute(sql).await.unwrap();
    };
    set_secrets(&place.db).await;
    place.apply(&[]).await.ok();
    assert_eq!(place.apply(&[]).await.ok(), "Nothing to change\n");
    let settings = "SELECT string_agg(x, '|' ORDER BY x) FROM (
        SELECT (to_jsonb(q) - 'id' - 'created_at')::text AS x FROM host.queue q
        UNION ALL SELECT (to_jsonb(v) - 'deployed_at' - 'handler_id')::text FROM host.handler_version v
        UNION ALL SELECT (to_jsonb(c) - 'id' - 'queue_id' - 'next_at' - 'created_at')::text FROM host.cron c) x";
    let made: String = value(&place.db.client().await, settings).await;
    assert!(made.contains("\"rate_ms\": 5400000"), "{made}");

    // By digest, on the database that has them.
    let by_digest = place.export(&[]).await;
    place.write(&by_digest);
    assert_eq!(place.apply(&["--prune"]).await.ok(), "Nothing to change\n");
    let elsewhere = Place::new(&by_digest).await;
    set_secrets(&elsewhere.db).await;
    let error = elsewhere.refused(&by_digest).await;
    assert!(error.contains("is not stored; give its file instead"), "{error}");

    let dir = elsewhere.dir.join("components").display().to_string();
    let exported = place.export(&["--components", &dir]).await;
    elsewhere.write(&exported);
    elsewhere.apply(&[]).await.ok();
    assert_eq!(elsewhere.apply(&["--prune"]).await.ok(), "Nothing to change\n");
    assert_eq!(value::<String>(&elsewhere.db.client().await, settings).await, made);
    assert_eq!(elsewhere.export(&["--components", &dir]).await, exported);
    let json: Value = serde_json::from_str(&elsewhere.export(&["--json"]).await).unwrap();
    assert_eq!(json["queues"]["plain"]["max-bytes"], "1000B");
    assert_eq!(json["queues"]["in_order"].as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn one_broken_entry_refuses_all_with_line_and_column() {
    let place = Place::new(SHOP).await;
    place.apply(&[]).await.ok();
    let new = "[queues.new]\n".to_owned() + SHOP;
    for (from, to, error) in [
        ("5\n", "0\n", "host.toml:3:9: queue emails: max-attempts 0 is out of range: use 1 to"),
        ("delays", "delys", "host.toml:5:1: unknown field `delys`, expected one of `payload`"),
        ("\"1m\"", "\"1x\"", "host.toml:5:"),
        ("10s\"", "10s", "host.toml:"),
        (
            "echo.wasm",
            "nothing.wasm",
            "host.toml:7:25: handler emails/default: cannot read nothing",
        ),
        ("echo.wasm", "host.toml", "host.toml:7:25: handler emails/default: "),
        (
            "file = \"echo.wasm\"\n",
            "",
            "host.toml:7:25: handler emails/default: give its component",
        ),
        ("10s", "10h", "host.toml:7:25: handler emails/default: timeout 10h is out of range"),
        (
            "30 2",
            "99 2",
            "host.toml:15:7: cron entry nightly: \"99 2 * * *\" is not a cron pattern",
        ),
        (
            "queue = \"emails",
            "queue = \"mails",
            "host.toml:15:7: cron entry nightly: no queue \"mails\"",
        ),
        ("'{\"n\"", "'{\"n", "host.toml:15:7: cron entry nightly: not JSON"),
        (
            "max-att",
            "payload = \"text\"\nmax-att",
            "host.toml:3:9: queue emails: payload is jsonb, not text, and cannot",
        ),
        ("max-att", "ordered = 4\nmax-att", "host.toml:3:9: queue emails: order is roughly"),
        ("max-att", "ordered = 3\nmax-att", "host.toml:3:9: queue emails: ordered: use a power"),
        ("max-att", "burst = 3\nmax-att", "host.toml:3:9: queue emails: burst is for a queue"),
        ("[queues.emails]", "[queues.Emails]", "host.toml:3:9: queue Emails: \"Emails\" is not a"),
    ] {
        assert!(new.contains(from), "{from}");
        let said = place.refused(&new.replacen(from, to, 1)).await;
        assert!(said.starts_with(error), "{to}: {said}\n{error}");
    }
    // Refused by Postgres alone, in the midst of the changes: nothing of them stays.
    let client = place.db.client().await;
    client.batch_execute("INSERT INTO queue.emails (payload) VALUES ('1')").await.unwrap();
    let smaller = new.replace("max-att", "max-bytes = \"1KiB\"\nmax-att").replace("10s", "20s");
    let said = place.refused(&smaller).await;
    assert!(said.contains("while it has messages: 1 waiting"), "{said}");
    assert_eq!(value::<i64>(&client, "SELECT count(*) FROM host.queue").await, 1);
}

#[tokio::test]
async fn what_the_file_has_not_is_removed_only_when_asked() {
    let place = Place::new(SHOP).await;
    place.apply(&[]).await.ok();
    place.db.host(&["queue", "create", "old"]).await.ok();
    let (without_audit, _) = SHOP.split_once("[queues.emails.handlers.audit]").unwrap();
    place.write(without_audit);
    let said = place.apply(&[]).await.ok();
    let kept = "Not in the file, and kept without --prune: cron nightly, handler emails/audit, queue old\n";
    assert_eq!(said, format!("{kept}Nothing to change\n"));

    let client = place.db.client().await;
    client.batch_execute("INSERT INTO queue.old (payload) VALUES ('1')").await.unwrap();
    let error = place.apply(&["--prune"]).await.error(1);
    assert!(error.contains("queue old is not in the file, and has messages: 1 waiting"), "{error}");
    place.apply(&["--force"]).await.error(2);
    place.apply(&["--prune", "--force", "--dry-run"]).await.ok();
    assert_eq!(value::<i64>(&client, "SELECT count(*) FROM host.queue").await, 2);
    let said = place.apply(&["--prune", "--force"]).await.ok();
    assert!(said.ends_with("remove queue old\nMade 3 changes\n"), "{said}");
    let left = "SELECT (SELECT count(*) FROM host.queue) * 100
        + (SELECT count(*) FROM host.handler) * 10 + (SELECT count(*) FROM host.cron)";
    assert_eq!(value::<i64>(&client, left).await, 110);
}

#[tokio::test]
async fn an_operator_applies_and_exports_and_a_host_runs_it() {
    let place = Place::new(SHOP).await;
    let operator = place.db.as_member_of("host_operator").await;
    let file = place.dir.join("host.toml").display().to_string();
    operator.host(&["apply", &file]).await.ok();
    assert_eq!(operator.host(&["apply", &file]).await.ok(), "Nothing to change\n");
    let exported = operator.host(&["export"]).await.ok();
    assert!(exported.contains("[queues.emails.handlers.audit]\nsha256 = "), "{exported}");

    let _host = place.db.serve(&[]);
    place.db.host(&["enqueue", "emails", "{}"]).await.ok();
    wait_until("both handlers have it", async || {
        let status = place.db.host(&["status", "--json"]).await.ok();
        let status: Value = serde_json::from_str(&status).unwrap();
        status["queues"][0]["settled_last_minute"] == 2
    })
    .await;
}

/// All of it is tried again where a deadlock stops the first try.
#[tokio::test]
async fn a_deadlock_with_a_host_stops_nothing() {
    let place = Place::new("[queues.new]\n").await;
    let client = place.db.client().await;
    place.db.host(&["queue", "create", "old"]).await.ok();
    let mut other = place.db.client().await;
    let other = other.transaction().await.unwrap();
    // The other one is who finds it out.
    other.batch_execute("SET LOCAL deadlock_timeout = '1min'").await.unwrap();
    other.batch_execute("LOCK TABLE host.old__lease IN ACCESS SHARE MODE").await.unwrap();
    let apply = async { place.apply(&["--prune"]).await.ok() };
    let meet = async {
        wait_until("it waits for the leases", async || {
            let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'host.old__lease'::regclass";
            value::<i64>(&client, waits).await > 0
        })
        .await;
        other.batch_execute("LOCK TABLE queue.old IN ACCESS SHARE MODE").await.unwrap();
        other.commit().await.unwrap();
    };
    let (said, ()) = tokio::join!(apply, meet);
    assert!(said.ends_with("Made 2 changes\n"), "{said}");
    assert_eq!(
        place.db.host(&["queue", "list", "--json"]).await.ok().matches("\"name\"").count(),
        1
    );
}

/// A file that another program writes is read from standard input.
#[tokio::test]
async fn a_file_is_read_from_standard_input() {
    let place = Place::new("[queues.piped]\n").await;
    let mut command = host_command(&["apply", "-"]);
    command.env("DATABASE_URL", &place.db.url);
    command.stdin(std::fs::File::open(Path::new(&place.dir).join("host.toml")).unwrap());
    let said = finish(command).await.ok();
    assert_eq!(said, "create queue piped\nMade 1 change\n");
}
