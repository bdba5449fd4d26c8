//! Settings of handlers: where a new version has them from, how they are shown, and how they change
//! without a file.

use serde_json::{Value, json};

use crate::harness::process::{finish, host_command};
use crate::harness::{TestDb, plugin, wait_until};

async fn with_handler(flags: &[&str]) -> TestDb {
    let db = TestDb::new().await;
    db.host(&["queue", "create", "emails"]).await.ok();
    deploy(&db, flags).await;
    db
}

async fn deploy(db: &TestDb, flags: &[&str]) -> String {
    let echo = plugin("echo").display().to_string();
    db.host(&[&["deploy", "--queue", "emails", &*echo], flags].concat()).await.ok()
}

async fn set(db: &TestDb, flags: &[&str]) -> String {
    db.host(&[&["handlers", "set", "emails"], flags].concat()).await.ok()
}

async fn refused(db: &TestDb, code: i32, flags: &[&str]) -> String {
    db.host(&[&["handlers", "set", "emails"], flags].concat()).await.error(code)
}

async fn shown(db: &TestDb, flags: &[&str]) -> Value {
    let args = [&["handlers", "show", "emails", "--json"], flags].concat();
    serde_json::from_str(&db.host(&args).await.ok()).expect("JSON")
}

#[tokio::test]
async fn a_deploy_after_a_rollback_keeps_the_newest_settings() {
    let db = with_handler(&["--config", "a=1"]).await;
    deploy(&db, &["--config", "b=2", "--timeout", "5s"]).await;
    let text = db.host(&["rollback", "--queue", "emails"]).await.ok();
    assert!(text.contains("  timeout   5s -> 30s\n  config b  \"2\" -> none\n"), "{text}");
    let next = "The next deploy starts from the settings of v2, the newest, unless you say --settings-of 1\n";
    assert!(text.contains(next), "{text}");

    let text = deploy(&db, &["--cpu", "1s"]).await;
    let said = "Settings of v2, changed against v1, which was in force:\n  timeout   30s -> 5s (from v2)\n  \
                cpu       10s -> 1s (given)\n  config b  none -> \"2\" (from v2)\n";
    assert!(text.contains(said), "{text}");
    let now = shown(&db, &[]).await;
    assert_eq!(now["settings"]["config"], json!({ "a": "1", "b": "2" }));

    let text = deploy(&db, &["--settings-of", "1", "--json"]).await;
    let made: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&made["settings_of"], &made["version_before"]), (&json!(1), &json!(3)));
    assert_eq!(made["changes"]["config.b"], json!({ "before": "2", "after": null }));
    assert_eq!(made["changes"]["cpu_ms"], json!({ "before": 1_000, "after": 10_000 }));
    assert_eq!(shown(&db, &[]).await["settings"]["config"], json!({ "a": "1" }));
    let text = deploy(&db, &["--reset"]).await;
    let said = "Default settings, changed against v4, which was in force:\n  config a  \"1\" -> none (default)\n";
    assert!(text.contains(said), "{text}");

    let echo = plugin("echo").display().to_string();
    let wrong = ["deploy", "--queue", "emails", &echo, "--settings-of", "9"];
    let error = db.host(&wrong).await.error(2);
    assert_eq!(error, "emails/default has no version 9; the nearest is 5");
}

#[tokio::test]
async fn a_version_is_shown_with_what_it_changed() {
    let db = with_handler(&["--memory", "32MiB", "--config", "letter=Dear {name},\n\nhello"]).await;
    set(&db, &["--http", "GET https://api.example.com", "--config", "b=\u{1b}[31m"]).await;
    let text = db.host(&["handlers", "show", "emails"]).await.ok();
    for line in [
        "Handler    emails/default v2, in force\n",
        "Settings   timeout          30s\n",
        "           memory           32.0 MiB\n",
        "           http             GET https://api.example.com\n",
        "           config b         \"\\u001b[31m\"\n",
        "           config letter    \"Dear {name},\\n\\nhello\"\n",
        "Since v1   http      none -> GET https://api.example.com\n           config b  none -> ",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let first = shown(&db, &["--version", "1"]).await;
    assert_eq!((&first["in_force"], &first["version_before"]), (&json!(false), &Value::Null));
    assert_eq!(first["settings"]["memory_bytes"], 32 << 20);
    let second = shown(&db, &[]).await;
    let http = json!({ "before": [], "after": ["GET https://api.example.com"] });
    assert_eq!((&second["version"], &second["changes"]["http"]), (&json!(2), &http));

    db.host(&["handlers", "pause", "emails"]).await.ok();
    let text = db.host(&["handlers", "show", "emails/default"]).await.ok();
    assert!(text.starts_with("Handler    emails/default v2, in force, paused\n"), "{text}");
    let text = db.host(&["handlers", "show", "emails", "--version", "1"]).await.ok();
    assert!(text.starts_with("Handler    emails/default v1, not in force: v2 is\n"), "{text}");
    let error = db.host(&["handlers", "show", "emails", "--version", "7"]).await.error(2);
    assert_eq!(error, "emails/default has no version 7; the nearest is 2");
    let error = db.host(&["handlers", "show", "email"]).await.error(2);
    assert_eq!(error, "no queue \"email\"; did you mean \"emails\"?");

    // A version that somebody has spoilt is shown as far as it goes.
    let client = db.client().await;
    let spoil = "UPDATE host.handler_version SET timeout_ms = 1 WHERE version = 1";
    client.batch_execute(spoil).await.unwrap();
    let text = db.host(&["handlers", "show", "emails", "--version", "1"]).await.ok();
    assert!(text.contains("timeout 1ms is out of range"), "{text}");
    let text = db.host(&["handlers", "show", "emails"]).await.ok();
    assert!(text.contains("Since v1   its settings cannot be read\n"), "{text}");
}

#[tokio::test]
async fn settings_change_without_a_file() {
    let db = with_handler(&["--config", "a=1", "--config", "b=2"]).await;
    db.host(&["secret", "set", "key", "--from-file", "/etc/hostname"]).await.ok();
    let text = set(&db, &["--config", "a=3", "--unset-config", "b", "--timeout", "1m"]).await;
    let said = "Deployed emails/default v2, with the component of v1\nSettings of v1, changed:\n  \
                timeout   30s -> 1m\n  config a  \"1\" -> \"3\"\n  config b  \"2\" -> none\n";
    assert!(text.starts_with(said), "{text}");
    let again = set(&db, &["--timeout", "1m"]).await;
    assert!(
        again.contains("emails/default v2 is in force already, with these settings"),
        "{again}"
    );

    // Values with newlines, by a file and by the command line, which wins.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, r#"{"letter": "Dear {name},\n\nhello", "b": "file"}"#).unwrap();
    let file = &file.display().to_string();
    set(&db, &["--config-file", file, "--config", "b=x\ny"]).await;
    let config = json!({ "a": "3", "b": "x\ny", "letter": "Dear {name},\n\nhello" });
    assert_eq!(shown(&db, &[]).await["settings"]["config"], config);

    set(&db, &["--http", "https://a.example.com", "--secret", "key", "--memory", "32MiB"]).await;
    let granted = shown(&db, &[]).await["settings"].clone();
    assert_eq!(
        (&granted["http"], &granted["secrets"]),
        (&json!(["https://a.example.com"]), &json!(["key"]))
    );
    set(&db, &["--no-http", "--no-secret"]).await;
    let taken = shown(&db, &[]).await["settings"].clone();
    assert_eq!((&taken["http"], &taken["secrets"]), (&json!([]), &json!([])));
    assert_eq!((&taken["memory_bytes"], &taken["config"]), (&json!(32 << 20), &config));
}

#[tokio::test]
async fn a_change_that_cannot_be_stores_nothing() {
    let db = TestDb::new().await;
    db.host(&["queue", "create", "emails"]).await.ok();
    let thumbnail = plugin("thumbnail").display().to_string();
    db.host(&["deploy", "--queue", "emails", &thumbnail, "--config", "size=9"]).await.ok();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, r#"{"size": 9}"#).unwrap();
    let file = &file.display().to_string();
    for (code, flags, said) in [
        (2, &[][..], "the following required arguments were not provided"),
        (2, &["--unset-config", "sise"], "no config key \"sise\"; did you mean \"size\"?"),
        (2, &["--config-file", file], "\"size\" is 9: write each value as a string"),
        (2, &["--config-file", "/nowhere.json"], "cannot read /nowhere.json"),
        (2, &["--timeout", "5ms"], "timeout 5ms is out of range: use 10ms to 1h"),
        (2, &["--batch-size", "5"], "--batch-size is for a component that exports `handle-batch`"),
        (2, &["--secret", "nobody"], "no secret \"nobody\""),
        (1, &["--memory", "1MiB"], "deploy it with a higher --memory"),
        (2, &["--http", "https://a", "--no-http"], "cannot be used with"),
    ] {
        let error = refused(&db, code, flags).await;
        assert!(error.contains(said), "{flags:?}: {error}");
    }
    assert_eq!(shown(&db, &[]).await["version"], 1);
}

#[tokio::test]
async fn after_a_rollback_a_change_says_what_it_changes() {
    let db = with_handler(&[]).await;
    set(&db, &["--config", "b=2"]).await;
    db.host(&["rollback", "--queue", "emails"]).await.ok();
    let error = refused(&db, 2, &["--config", "c=3"]).await;
    assert_eq!(
        error,
        "emails/default v1 is in force, and v2 is newer with other settings: say which to change, with \
         --settings-of 1 or --settings-of 2"
    );
    set(&db, &["--config", "c=3", "--settings-of", "2"]).await;
    assert_eq!(shown(&db, &[]).await["settings"]["config"], json!({ "b": "2", "c": "3" }));
}

/// Two operators at once: the second is told, and nothing of the first is lost.
#[tokio::test]
async fn a_change_in_between_is_not_lost() {
    let db = with_handler(&[]).await;
    set(&db, &["--config", "b=2"]).await;
    let client = db.client().await;
    client.batch_execute("BEGIN; UPDATE host.handler SET version = 1").await.unwrap();
    let mut command = host_command(&["handlers", "set", "emails", "--config", "c=3"]);
    command.env("DATABASE_URL", &db.url);
    let running = tokio::spawn(finish(command));
    let watcher = db.client().await;
    wait_until("the second waits for the first", async || {
        let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND query LIKE '%expect_versions%' AND datname = current_database())";
        watcher.query_one(sql, &[]).await.unwrap().get(0)
    })
    .await;
    client.batch_execute("COMMIT").await.unwrap();
    let error = running.await.unwrap().error(1);
    assert_eq!(
        error,
        "handler emails/default was changed meanwhile: version 1 is in force now: run the command again"
    );
    let newest: i32 = client
        .query_one("SELECT max(version) FROM host.handler_version", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(newest, 2);
}
