//! What a deployment grants, from the command line to the wire: HTTP to a server over TLS, and
//! secrets that nobody sees.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::process::{Finished, Serve, finish, host_command};
use crate::harness::server::scratch_dir;
use crate::harness::watchdog::remove_after_us;
use crate::harness::web::{Identity, Web, answer};
use crate::harness::{Scene, TestDb, plugin, wait_for, wait_until};

/// Runs `host secret set` with a value on its standard input.
async fn set_secret(db: &TestDb, name: &str, value: &[u8]) -> Finished {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(value).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut command = host_command(&["secret", "set", name]);
    command.env("DATABASE_URL", &db.url).stdin(Stdio::from(file));
    finish(command).await
}

async fn json_of(db: &TestDb, args: &[&str]) -> Value {
    serde_json::from_str(&db.host(args).await.ok()).expect("JSON")
}

fn webhook() -> String {
    plugin("webhook").display().to_string()
}

#[tokio::test]
async fn secrets_are_set_listed_and_removed_and_never_shown() {
    let db = TestDb::new().await;
    assert_eq!(db.host(&["secret", "list"]).await.ok().lines().count(), 1);
    assert_eq!(set_secret(&db, "api-key", b"hunter22\n").await.ok(), "Set secret api-key\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter23").unwrap();
    let path = file.path().to_str().unwrap();
    let changed = db.host(&["secret", "set", "api-key", "--from-file", path]).await.ok();
    assert_eq!(changed, "Changed secret api-key\n");
    set_secret(&db, "other", b"x").await.ok();

    let client = db.client().await;
    let row = client.query_one("SELECT value FROM host.secret WHERE name = 'api-key'", &[]).await;
    assert_eq!(row.unwrap().get::<_, &str>(0), "hunter23");

    for (name, value, said) in [
        ("a b", &b"x"[..], "\"a b\" is not a secret's name"),
        ("empty", b"\n", "empty: the value is empty"),
        ("binary", b"\xff", "encode it, as with base64"),
        ("long", &vec![b'x'; 70_000], "at most 65536 are kept"),
    ] {
        let error = set_secret(&db, name, value).await.error(2);
        assert!(error.contains(said), "{error}");
    }
    let error = db.host(&["secret", "set", "api-key", "--from-file", "/no/such"]).await.error(2);
    assert!(error.contains("cannot read /no/such"), "{error}");

    db.host(&["queue", "create", "orders"]).await.ok();
    let webhook = webhook();
    let deploy = ["deploy", "--queue", "orders", &webhook];
    db.host(&[&deploy[..], &["--secret", "api-key"]].concat()).await.ok();
    let error = db.host(&[&deploy[..], &["--secret", "api-kye"]].concat()).await.error(2);
    assert_eq!(error, "no secret \"api-kye\"; did you mean \"api-key\"?");

    let list = db.host(&["secret", "list"]).await.ok();
    assert!(list.contains("api-key") && list.contains("orders/default"), "{list}");
    let json = json_of(&db, &["secret", "list", "--json"]).await;
    assert_eq!(json[0]["granted_to"], json!(["orders/default"]));
    for shown in [list, json.to_string(), db.host(&["handlers", "--json"]).await.ok()] {
        assert!(!shown.contains("hunter"), "{shown}");
    }

    let error = db.host(&["secret", "remove", "api-key"]).await.error(1);
    assert!(error.contains("secret \"api-key\" is granted to orders/default"), "{error}");
    assert!(error.contains("--force"), "{error}");
    db.host(&["secret", "remove", "api-key", "--force"]).await.ok();
    db.host(&["secret", "remove", "other"]).await.ok();
    let error = db.host(&["secret", "remove", "other"]).await.error(2);
    assert!(error.starts_with("no secret \"other\""), "{error}");
}

/// At the SQL level as well: nothing in an error, and nothing for a role that was not given it.
#[tokio::test]
async fn the_database_keeps_a_value_to_itself() {
    let db = TestDb::new().await;
    let client = db.client().await;
    let set = "SELECT host.set_secret($1, $2)";
    for (name, value) in [("9", "hunter22"), ("a'; DROP", "hunter22"), ("a", "")] {
        let error = client.query(set, &[&name, &value]).await.unwrap_err();
        assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
    }
    client.query(set, &[&"a", &"hunter22"]).await.unwrap();
    let role = format!("reader_{}", db.name);
    client
        .batch_execute(&format!(
            "CREATE ROLE {role}; GRANT USAGE ON SCHEMA host TO {role}; SET ROLE {role}"
        ))
        .await
        .unwrap();
    for sql in ["SELECT value FROM host.secret", "SELECT * FROM host.read_secrets('{a}')"] {
        let error = client.query(sql, &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{sql}");
    }
    client
        .batch_execute(&format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}"))
        .await
        .unwrap();
}

#[tokio::test]
async fn grants_are_kept_shown_and_replaced() {
    let db = TestDb::new().await;
    db.host(&["queue", "create", "orders"]).await.ok();
    let webhook = webhook();
    let deploy = async |more: &[&str]| {
        let args = [&["deploy", "--queue", "orders", &webhook], more].concat();
        db.host(&args).await
    };
    let shown = async || {
        let all = json_of(&db, &["handlers", "--json"]).await;
        let version =
            all.as_array().unwrap().iter().find(|v| v["in_force"] == true).unwrap().clone();
        version["http"].clone()
    };
    let two = ["--http", "POST https://API.example.com", "--http", "http://10.0.0.1:8080"];
    deploy(&two).await.ok();
    let both = json!(["POST https://api.example.com", "http://10.0.0.1:8080"]);
    assert_eq!(shown().await, both);
    deploy(&["--timeout", "5s", "--http-bytes", "1MiB", "--http-requests", "5"]).await.ok();
    assert_eq!(shown().await, both);
    let again = deploy(&["--http-requests", "5"]).await.ok();
    assert!(again.contains("is in force already"), "{again}");
    deploy(&["--http", "https://*.example.com"]).await.ok();
    assert_eq!(shown().await, json!(["https://*.example.com"]));
    deploy(&["--reset"]).await.ok();
    assert_eq!(shown().await, json!([]));

    for (flags, said) in [
        (["--http", "ftp://a"], "\"ftp\" is not http or https"),
        (["--http", "https://a/path"], "leave the path out"),
        (["--http-requests", "10001"], "http-requests 10001 is out of range"),
        (["--http-bytes", "2GiB"], "http-bytes 2.0 GiB is out of range"),
    ] {
        let error = deploy(&flags).await.error(2);
        assert!(error.contains(said), "{error}");
    }
}

/// What the host's libraries would say of each mistake is not said: a guest can make any number.
#[tokio::test]
async fn a_guests_mistakes_do_not_flood_the_log() {
    let scene = Scene::new("p_payload_type => 'text'").await;
    scene.deploy("work", "misbehave", crate::harness::Deployment::default()).await;
    let host = scene.serve("a", &["--log-level", "debug"]);
    // Without a path it is no URL.
    let wrong =
        r#"{"do": "fetch", "queue": "sink", "fetch": {"scheme": "http", "authority": "a"}}"#;
    scene.run(&format!("INSERT INTO queue.work (payload) VALUES ('{wrong}')")).await;
    scene.wait_done("work").await;
    assert_eq!(scene.texts("SELECT payload FROM queue.sink").await, ["HttpProtocolError"]);
    assert!(!host.log().contains("http request error"), "{}", host.log());
    host.kill();
}

/// A host that trusts an authority of the test's own.
fn serve_trusting(scene: &Scene, identity: &Identity) -> Serve {
    let dir = scratch_dir();
    remove_after_us(&dir);
    let authority = dir.join("authority.pem");
    std::fs::write(&authority, &identity.authority).unwrap();
    let mut command: Command = host_command(&["serve", "--log-level", "debug"]);
    command.env("DATABASE_URL", &scene.db.url).env("SSL_CERT_FILE", authority);
    Serve::spawn(command)
}

/// From the command line to the wire and back. A secret changes under a running host. The handler
/// tries a busy server again with the same id. A refusal ends in the dead letters.
#[tokio::test]
async fn a_webhook_works_over_tls_with_a_secret_that_changes() {
    let scene = Scene::of(TestDb::new().await).await;
    scene.queue("orders", "p_payload_type => 'text'").await;
    let identity = Identity::new(&["localhost"]);
    let web = Web::start_tls(&identity, |received| match received.body.as_slice() {
        b"no" => answer("410 Gone", "", "never again"),
        b"busy" if received.header("webhook-timestamp").is_some() => {
            answer("503 Busy", "retry-after: 0\r\n", "")
        }
        _ => answer("200 OK", "", ""),
    })
    .await;
    set_secret(&scene.db, "token", b"first-token\n").await.ok();
    let server = format!("https://localhost:{}", web.port);
    let (url, grant, webhook) =
        (format!("url={server}/in"), format!("POST {server} private"), webhook());
    let args = [
        ["deploy", "--queue", "orders", &webhook].as_slice(),
        &["--config", &url, "--config", "bearer=token", "--secret", "token", "--http", &grant],
    ]
    .concat();
    scene.db.host(&args).await.ok();
    let host = serve_trusting(&scene, &identity);
    let authorizations = || {
        let received = web.received();
        received
            .iter()
            .filter_map(|r| r.header("authorization").map(str::to_owned))
            .collect::<Vec<_>>()
    };

    scene.run("INSERT INTO queue.orders (payload) VALUES ('one')").await;
    wait_until("the first has arrived", async || !web.received().is_empty()).await;
    assert_eq!(authorizations(), ["Bearer first-token"]);

    set_secret(&scene.db, "token", b"second-token").await.ok();
    wait_until("the new value is in use", async || {
        scene.run("INSERT INTO queue.orders (payload) VALUES ('two')").await;
        scene.wait_done("orders").await;
        authorizations().last().is_some_and(|last| last == "Bearer second-token")
    })
    .await;
    assert_eq!(scene.number("SELECT count(*) FROM host.handler_version").await, 1);

    scene.run("INSERT INTO queue.orders (payload) VALUES ('busy')").await;
    wait_until("the busy server is tried again", async || {
        web.received().iter().filter(|r| r.body == b"busy").count() > 1
    })
    .await;
    let ids: std::collections::HashSet<_> = web
        .received()
        .iter()
        .filter(|r| r.body == b"busy")
        .map(|r| r.header("webhook-id").unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");

    scene.run("INSERT INTO queue.orders (payload) VALUES ('no')").await;
    let dead = "SELECT error FROM host.orders__dead_letter WHERE reason = 'rejected'";
    wait_for(
        "the dead letter",
        vec!["the server answered 410: never again".to_owned()],
        async || scene.texts(dead).await,
    )
    .await;
    let log = host.log();
    assert!(!log.contains("first-token") && !log.contains("second-token"), "{log}");
    host.kill();
}
