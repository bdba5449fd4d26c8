//! How a command finds the database, what it says when it does not, and that nobody sees the
//! password.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use host_embedded::Embedded;

use crate::harness::process::{Finished, finish, host_command};
use crate::harness::server::scratch_dir;
use crate::harness::{TestDb, wait_until, watchdog};

async fn run(mut command: Command, environment: &[(&str, &str)]) -> Finished {
    command.envs(environment.iter().copied()).env("HOME", "/nowhere");
    finish(command).await
}

#[tokio::test]
async fn no_password_is_in_an_argument_the_log_or_an_error() {
    // In the place of psql, one that says how it was called.
    let dir = scratch_dir();
    let psql = dir.join("psql");
    std::fs::write(
        &psql,
        "#!/bin/sh\nprintf '%s\\n' \"$@\"\nprintf 'PGPASSWORD=%s\\n' \"$PGPASSWORD\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&psql, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (url, bare) in [
        ("postgres://u:top?s3cret@h/d", "postgres://u@h/d"),
        ("postgres://u@h/d?a_b=c&password=top%3Fs3cret", ""),
        (
            "postgres://u@h/d?password=top%3Fs3cret&connect_timeout=1",
            "postgres://u@h/d?connect_timeout=1",
        ),
    ] {
        let mut command = host_command(&["psql", "-c", "SELECT 1"]);
        command.env("DATABASE_URL", url).env("PATH", &dir);
        let done = finish(command).await;
        assert!(!done.stderr.contains("s3cret"), "{}", done.stderr);
        if !bare.is_empty() {
            assert_eq!(done.ok(), format!("{bare}\n-c\nSELECT 1\nPGPASSWORD=top?s3cret\n"));
        }
    }
    let url = "postgres://u:top?s3cret@h/d";
    for flag in [&["--database-url", url][..], &[&format!("--database-url={url}")]] {
        for args in [[flag, &["-c", "x"]].concat(), [&["-c", "x"], flag].concat()] {
            let mut command = host_command(&[&["psql"], &*args].concat());
            command.env("PATH", &dir);
            let said = finish(command).await.ok();
            assert_eq!(said, "postgres://u@h/d\n-c\nx\nPGPASSWORD=top?s3cret\n");
        }
    }
    finish(host_command(&["psql", "--database-url"])).await.error(2);
    for url in [
        "postgres://ada:top?s3cret@127.0.0.1:1/jobs",
        "postgres://ada@127.0.0.1:1/jobs?password=top%26s3cret",
        "postgres://ada:top@s3cret?x@127.0.0.1:1/jobs",
        "postgres://ada:top/s3cret@nowhere.invalid/jobs",
    ] {
        for command in [&["queue", "list"][..], &["migrate", "--log-level", "trace"]] {
            let mut command = host_command(command);
            command.env("DATABASE_URL", url);
            let done = finish(command).await;
            let said = done.stdout.clone() + &done.stderr;
            assert!(!said.contains("s3cret"), "{said}");
            done.error(3);
        }
    }
}

#[tokio::test]
async fn a_password_comes_from_where_libpq_has_it() {
    let dir = scratch_dir();
    let server = Embedded::start(&dir).await.unwrap();
    watchdog::quit_with_us(server.pid());
    let password = std::fs::read_to_string(server.place().join("password")).unwrap();
    let port = server.url().rsplit_once("port=").unwrap().1;
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    let migrate = |url: &str| {
        let mut command = host_command(&["migrate"]);
        command.env("DATABASE_URL", url);
        command
    };
    let text = run(migrate(&url), &[]).await.error(3);
    assert!(text.starts_with("the server asks for a password, and none was given"), "{text}");
    assert!(text.contains("PGPASSWORD or ~/.pgpass") && text.contains(&url), "{text}");
    run(migrate(&url), &[("PGPASSWORD", password.trim())]).await.ok();

    let file = dir.join("passwords");
    std::fs::write(&file, format!("*:{port}:postgres:*:{password}")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = file.display().to_string();
    run(migrate(&url), &[("PGPASSFILE", &file)]).await.ok();
    let all = [
        ("PGPASSFILE", file.as_str()),
        ("PGHOST", "127.0.0.1"),
        ("PGPORT", port),
        ("PGUSER", "postgres"),
        ("PGDATABASE", "postgres"),
    ];
    run(migrate("postgres://"), &all).await.ok();
    let wrong = [("PGHOST", "127.0.0.1"), ("PGPORT", "1")];
    let text = run(migrate("postgres://"), &wrong).await.error(3);
    assert!(text.contains("(at postgres:// and PGHOST=127.0.0.1)"), "{text}");
    server.stop_if_last().await.unwrap();
}

#[tokio::test]
async fn an_error_says_what_it_is() {
    let db = TestDb::new().await;
    let with = |options: &str| {
        let mut command = host_command(&["queue", "create", "mail"]);
        command.env("DATABASE_URL", format!("{}&options={options}", db.url));
        command
    };
    let read_only = with("-c%20default_transaction_read_only%3Don");
    let text = finish(read_only).await.error(1);
    assert!(text.starts_with("the server is read-only: "), "{text}");

    let client = db.client().await;
    client.batch_execute("BEGIN; LOCK TABLE host.queue").await.unwrap();
    let text = finish(with("-c%20statement_timeout%3D200ms")).await.error(1);
    assert!(text.starts_with("Postgres stopped the statement: "), "{text}");
    let text = finish(with("-c%20lock_timeout%3D200ms")).await.error(1);
    assert!(text.starts_with("another transaction is in the way: "), "{text}");
    client.batch_execute("ROLLBACK").await.unwrap();

    let nowhere = "postgres://postgres@127.0.0.1:1/postgres";
    let mut command = host_command(&["queue", "list"]);
    command.env("DATABASE_URL", nowhere);
    let done = finish(command).await;
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    assert!(done.error(3).starts_with("cannot reach Postgres: "));
    // A host tries again, and says so.
    let mut serve = host_command(&["serve"]);
    serve.env("DATABASE_URL", nowhere);
    let serve = crate::harness::process::Serve::spawn(serve);
    wait_until("it tries again", async || serve.log().contains("trying again")).await;
    serve.kill();
}

#[tokio::test]
async fn a_queue_takes_no_name_that_is_taken() {
    let db = TestDb::new().await;
    let text = db.host(&["queue", "create", "emails_id_seq"]).await.error(1);
    assert!(text.contains("choose a name that does not end in _id_seq"), "{text}");
    db.client().await.batch_execute("CREATE VIEW queue.mine AS SELECT 1").await.unwrap();
    let text = db.host(&["queue", "create", "mine"]).await.error(1);
    assert!(text.contains("queue.mine exists, and is no queue"), "{text}");
}
