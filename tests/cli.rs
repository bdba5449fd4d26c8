//! What the command line says: help, wrong usage, exit codes.

use crate::harness::process::{finish, host_command};
use crate::harness::{TestDb, repository};

#[test]
fn help_texts_are_as_recorded() {
    trycmd::TestCases::new()
        .register_bin("host", std::path::Path::new(env!("CARGO_BIN_EXE_host")))
        .case(repository().join("tests/cmd/*.trycmd"));
}

#[tokio::test]
async fn wrong_usage_is_one_line_and_code_2() {
    let text = finish(host_command(&["migrat"])).await.error(2);
    assert_eq!(
        text,
        "unrecognized subcommand 'migrat'; tip: a similar subcommand exists: 'migrate'"
    );
    let text = finish(host_command(&["migrate", "--log-level", "=,="])).await.error(2);
    assert!(text.contains("\"=,=\" is not a level"), "{text}");
}

#[tokio::test]
async fn no_connection_is_one_line_and_code_3() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://ada:s3cret@127.0.0.1:{closed}/jobs");
    let text = finish(host_command(&["migrate", "--database-url", &url])).await.error(3);
    assert!(text.contains(&format!("postgres://ada:***@127.0.0.1:{closed}/jobs")), "{text}");
    assert!(text.contains("refused") && !text.contains("s3cret"), "{text}");

    let db = TestDb::empty().await;
    let url = db.url.replacen(&db.name, "nowhere", 1);
    let text = finish(host_command(&["migrate", "--database-url", &url])).await.error(3);
    assert!(text.contains("database \"nowhere\" does not exist"), "{text}");
    let text = finish(host_command(&["migrate", "--database-url", "mysql://x"])).await.error(3);
    assert!(text.contains("it does not start with postgres://"), "{text}");
}

#[tokio::test]
async fn a_command_whose_words_nobody_reads_does_what_it_was_told() {
    let db = TestDb::new().await;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = host_command(&["queue", "create", "mail"]);
    command.env("DATABASE_URL", &db.url).stdout(writer);
    let done = finish(command).await;
    assert_eq!((done.code, &*done.stderr), (0, ""));
    assert!(db.host(&["queue", "list"]).await.ok().contains("mail"));
}
