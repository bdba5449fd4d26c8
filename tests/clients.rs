//! Producers that are object-relational mappers: with a producer's rights an ordinary model
//! enqueues, reads back what it has inserted, and nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::harness::process::finish;
use crate::harness::server::scratch_dir;
use crate::harness::sql_host::{create_queue, value};
use crate::harness::{Deployment, Scene, TestDb, repository};

const STATEMENTS: &str = include_str!("clients/statements.sql");

/// A database with the queue `emails`, and a login role that `host queue grant` has let enqueue
/// there.
async fn granted() -> (TestDb, TestDb) {
    let db = TestDb::new().await;
    let owner = db.client().await;
    create_queue(&owner, "emails", "").await;
    let role = format!("shop_{}", db.name);
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'shop'");
    owner.batch_execute(&create).await.unwrap();
    db.host(&["queue", "grant", "emails", &role]).await.ok();
    let url = db.url.replacen("postgres://postgres@", &format!("postgres://{role}@"), 1);
    let shop = db.through(url);
    (db, shop)
}

/// SQLSTATE of a statement that must fail.
async fn refused(client: &Client, sql: &str) -> String {
    let error = client.batch_execute(sql).await.expect_err(sql);
    error.code().unwrap_or_else(|| panic!("{sql}: {error}")).code().to_owned()
}

/// What a statement returns: the first column of each row.
async fn returned(client: &Client, sql: &str) -> Vec<Option<String>> {
    let answer = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
        _ => None,
    });
    rows.collect()
}

#[tokio::test]
async fn statements_of_mappers_enqueue_with_a_producers_rights() {
    let (db, shop) = granted().await;
    let (owner, producer) = (db.client().await, shop.client().await);
    let mut blocks = STATEMENTS.split("\n\n").skip(1).peekable();
    assert!(blocks.peek().is_some());
    for block in blocks {
        let lines: Vec<&str> = block.trim().lines().collect();
        let [who, statement @ .., last] = &lines[..] else { panic!("{block}") };
        let (rows, given) = last.trim_start_matches("-- ").split_once(':').expect(who);
        let rows: usize = rows.parse().expect(who);
        let statement = statement.join("\n");
        let before: i64 = value(&owner, "SELECT count(*) FROM queue.emails").await;
        let given = given.trim();
        let execute = if given.is_empty() { String::new() } else { format!("({given})") };
        let sent = format!("PREPARE mapper AS {statement}");
        producer.batch_execute(&sent).await.unwrap_or_else(|e| panic!("{who}: {e:?}"));
        let ids = returned(&producer, &format!("EXECUTE mapper{execute}")).await;
        producer.batch_execute("DEALLOCATE mapper").await.unwrap();
        let returns = statement.to_lowercase().contains("returning");
        assert_eq!(ids.len(), if returns { rows } else { 0 }, "{who}");
        let after: i64 = value(&owner, "SELECT count(*) FROM queue.emails").await;
        assert_eq!(after - before, rows as i64, "{who}");
        for id in ids.into_iter().flatten() {
            let found = format!("SELECT count(*) FROM queue.emails WHERE id = {id}");
            assert_eq!(value::<i64>(&owner, &found).await, 1, "{who}: {id}");
        }
    }
}

#[tokio::test]
async fn nothing_is_forged_or_read_through_the_view() {
    let (db, shop) = granted().await;
    let group = db.as_member_of("host_producer").await;
    let owner = db.client().await;
    owner.batch_execute("INSERT INTO queue.emails (payload) VALUES ('\"secret\"')").await.unwrap();
    for producer in [shop.client().await, group.client().await] {
        let insert = "INSERT INTO queue.emails__orm (id, payload) OVERRIDING SYSTEM VALUE
            VALUES (900000000001, '1') RETURNING id";
        let id: i64 = value(&producer, insert).await;
        assert!(id < 100, "the identity gives ids, not the producer: {id}");
        let last: i64 = value(&producer, "SELECT lastval()").await;
        assert_eq!(last, id);
        assert_eq!(value::<i64>(&producer, "SELECT currval('queue.emails_id_seq')").await, id);
        assert_eq!(value::<i64>(&producer, "SELECT count(*) FROM queue.emails__orm").await, 0);
        for sql in [
            "SELECT payload FROM queue.emails",
            "INSERT INTO queue.emails (payload) VALUES ('1') RETURNING *",
            "INSERT INTO queue.emails (id, payload) VALUES (DEFAULT, '1')",
            "SELECT nextval('queue.emails_id_seq')",
            "SELECT setval('queue.emails_id_seq', 1)",
            "DO 'BEGIN LOCK TABLE queue.emails__orm; END'",
            "CREATE TRIGGER mine INSTEAD OF INSERT ON queue.emails__orm
                 FOR EACH ROW EXECUTE FUNCTION host.emails__insert_for_orm()",
            "TRUNCATE queue.emails",
        ] {
            assert_eq!(refused(&producer, sql).await, "42501", "{sql}");
        }
        for sql in ["UPDATE queue.emails__orm SET payload = '2'", "DELETE FROM queue.emails__orm"] {
            let code = refused(&producer, sql).await;
            assert!(["42501", "55000"].contains(&code.as_str()), "{sql}: {code}");
        }
        // Checks are the table's.
        let long =
            "INSERT INTO queue.emails__orm (payload) VALUES (to_jsonb(repeat('x', 1048577)))";
        assert_eq!(refused(&producer, long).await, "23514");
        assert_eq!(
            refused(&producer, "INSERT INTO queue.emails__orm (headers) VALUES ('{}')").await,
            "23502"
        );
    }
    // Who may use the view and not the table enqueues nothing.
    let stranger = format!("stranger_{}", db.name);
    owner
        .batch_execute(&format!(
            "CREATE ROLE {stranger} LOGIN; GRANT USAGE ON SCHEMA queue TO {stranger};
             GRANT ALL ON queue.emails__orm TO {stranger}; SET ROLE {stranger}"
        ))
        .await
        .unwrap();
    let insert = "INSERT INTO queue.emails__orm (payload) VALUES ('1')";
    assert_eq!(refused(&owner, insert).await, "42501");
}

#[tokio::test]
async fn a_dropped_duplicate_gives_the_id_of_who_has_the_key() {
    let (db, shop) = granted().await;
    let producer = shop.client().await;
    db.host(&["queue", "set", "emails", "--unique", "1h"]).await.ok();
    let insert =
        "INSERT INTO queue.emails__orm (payload, unique_key) VALUES ('1', 'k') RETURNING id";
    let first: i64 = value(&producer, insert).await;
    assert_eq!(value::<i64>(&producer, insert).await, first);
    let two = "INSERT INTO queue.emails__orm (payload, unique_key)
        VALUES ('1', 'k'), ('2', NULL), ('3', 'l'), ('4', 'l') RETURNING id";
    let ids = returned(&producer, two).await;
    assert_eq!(ids.len(), 4);
    assert_eq!((ids[0].clone(), &ids[2]), (Some(first.to_string()), &ids[3]));
    assert_ne!(ids[1], ids[2]);
    let quiet = insert.replace("RETURNING", "ON CONFLICT DO NOTHING RETURNING");
    assert_eq!(value::<i64>(&producer, &quiet).await, first);
    assert_eq!(value::<i64>(&db.client().await, "SELECT count(*) FROM queue.emails").await, 3);

    db.host(&["queue", "set", "emails", "--on-duplicate", "refuse"]).await.ok();
    for sql in [insert, &quiet] {
        assert_eq!(refused(&producer, sql).await, "23505");
    }
    // What went before is kept, if the INSERT has a savepoint of its own.
    producer
        .batch_execute("BEGIN; INSERT INTO queue.emails__orm (payload) VALUES ('9'); SAVEPOINT s")
        .await
        .unwrap();
    assert_eq!(refused(&producer, insert).await, "23505");
    producer.batch_execute("ROLLBACK TO s; COMMIT").await.unwrap();
    assert_eq!(value::<i64>(&db.client().await, "SELECT count(*) FROM queue.emails").await, 4);
}

/// A trigger of the owner's that leaves a row out is none of ours: there is no id to tell.
#[tokio::test]
async fn a_row_that_another_trigger_leaves_out_does_not_come_back() {
    let (db, shop) = granted().await;
    let owner = db.client().await;
    owner
        .batch_execute(
            "CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER nothing BEFORE INSERT ON queue.emails FOR EACH ROW EXECUTE FUNCTION public.nothing()",
        )
        .await
        .unwrap();
    let insert = "INSERT INTO queue.emails__orm (payload) VALUES ('1') RETURNING id";
    assert_eq!(returned(&shop.client().await, insert).await, []);
}

#[tokio::test]
async fn headers_of_json_null_are_no_headers() {
    let scene = Scene::new("").await;
    scene.deploy("work", "echo", Deployment::default()).await;
    let insert = "INSERT INTO queue.work (payload, headers) VALUES ('1', 'null'), ('2', NULL), ('3', '{\"a\": \"b\"}')";
    scene.run(insert).await;
    let text = scene.db.host(&["message", "work", "1"]).await.ok();
    assert!(text.contains("Headers      none"), "{text}");
    let _host = scene.serve("host", &[]);
    scene.wait_done("work").await;
    assert_eq!(scene.number("SELECT count(*) FROM host.work__dead_letter").await, 0);
    for wrong in ["'[]'", "'1'", "'\"x\"'"] {
        let sql = format!("INSERT INTO queue.work (payload, headers) VALUES ('1', {wrong})");
        assert_eq!(refused(&scene.client, &sql).await, "23514", "{sql}");
    }
}

/// A role that was granted before there was the view, and a queue that was made by an earlier
/// release.
#[tokio::test]
async fn migrate_gives_the_view_to_who_could_enqueue_before() {
    let (db, shop) = granted().await;
    let owner = db.client().await;
    owner
        .batch_execute(
            "DROP VIEW queue.emails__orm; DROP FUNCTION host.emails__insert_for_orm();
             UPDATE host.migration_functions SET sha256 = 'of an earlier release'",
        )
        .await
        .unwrap();
    let insert = "INSERT INTO queue.emails__orm (payload) VALUES ('1')";
    assert_eq!(refused(&shop.client().await, insert).await, "42P01");
    db.host(&["migrate"]).await.ok();
    shop.client().await.batch_execute(insert).await.unwrap();
    let group = db.as_member_of("host_producer").await;
    group.client().await.batch_execute(insert).await.unwrap();
}

/// A program of host/docs/orms.md: its language, what it calls itself, and its text.
fn programs() -> Vec<(String, String, String)> {
    let page = std::fs::read_to_string(repository().join("host/docs/orms.md")).unwrap();
    let blocks = page.split("\n```").skip(1).step_by(2);
    let named = |block: &str| {
        let (language, text) = block.split_once('\n')?;
        let name = text.lines().find_map(|line| {
            line.strip_prefix("# ").or_else(|| line.strip_prefix("// ")).map(str::to_owned)
        });
        Some((language.to_owned(), name.unwrap_or_default(), text.to_owned()))
    };
    blocks.filter_map(named).collect()
}

/// Where the libraries are, for `ORM_PYTHON=…/bin/python ORM_NODE_MODULES=…/node_modules`, else
/// wherever the programs of those names find them.
fn from_environment(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// How a program of a language is run on a file in `dir`, which this writes.
fn program(language: &str, text: &str, dir: &Path) -> Option<Command> {
    let node = from_environment("ORM_NODE_MODULES", "");
    let (file, run): (&str, Vec<String>) = match language {
        "python" => ("a.py", vec![from_environment("ORM_PYTHON", "python3")]),
        "ruby" => ("a.rb", vec!["ruby".into()]),
        "php" => ("a.php", vec!["php".into()]),
        "js" => ("a.cjs", vec!["node".into()]),
        "prisma" => {
            let prisma = PathBuf::from(&node).join("prisma/build/index.js");
            let generate = ["generate", "--schema"].map(String::from);
            let run = vec!["node".into(), prisma.display().to_string()];
            ("schema.prisma", run.into_iter().chain(generate).collect())
        }
        "java" => {
            let jar = from_environment("ORM_JDBC_JAR", "/usr/share/java/postgresql.jar");
            ("Enqueue.java", vec!["java".into(), "-cp".into(), jar])
        }
        _ => return None,
    };
    std::fs::write(dir.join(file), text).unwrap();
    if !node.is_empty() && !dir.join("node_modules").exists() {
        std::os::unix::fs::symlink(&node, dir.join("node_modules")).unwrap();
    }
    let mut command = Command::new(&run[0]);
    command.args(&run[1..]).arg(file).current_dir(dir);
    Some(command)
}

/// The programs of the page as they stand. One whose library is not installed is passed over, and
/// says so.
#[tokio::test]
#[ignore = "needs the mappers: pip, npm, and Debian's php-pgsql, ruby-activerecord, libpostgresql-jdbc-java"]
async fn the_programs_of_the_page_enqueue() {
    let (db, shop) = granted().await;
    let owner = db.client().await;
    let port: i32 = value(&owner, "SELECT current_setting('port')::int").await;
    let (role, name) = (format!("shop_{}", db.name), &shop.name);
    let at = format!("127.0.0.1:{port}/{name}");
    let port = port.to_string();
    let dir = scratch_dir();
    let mut ran = 0;
    for (language, who, text) in programs() {
        let Some(mut command) = program(&language, &text, &dir) else { continue };
        command
            .env("DATABASE_URL", format!("postgres://{role}:shop@{at}"))
            .env("JDBC_URL", format!("jdbc:postgresql://{at}?user={role}&password=shop"))
            .env(
                "PDO_DSN",
                format!("pgsql:host=127.0.0.1;port={port};dbname={name};user={role};password=shop"),
            )
            .envs([("PGHOST", "127.0.0.1"), ("PGPORT", &port), ("PGDATABASE", name)])
            .envs([("PGUSER", role.as_str()), ("PGPASSWORD", "shop")])
            // Nothing of the engine is needed to make a client, and it would be downloaded.
            .env("PRISMA_SCHEMA_ENGINE_BINARY", "/bin/true");
        if which(&command).is_none() {
            eprintln!("{language} {who}: skipped, {:?} is not installed", command.get_program());
            continue;
        }
        let finished = finish(command).await;
        let missing = [
            "ModuleNotFoundError",
            "Cannot find module",
            "LoadError",
            "could not find driver",
            "No suitable driver",
        ];
        if missing.iter().any(|text| finished.stderr.contains(text)) {
            eprintln!("{language} {who}: skipped, its library is not installed");
            continue;
        }
        let said = finished.ok();
        if language != "prisma" {
            let id: i64 = said.trim().parse().unwrap_or_else(|e| panic!("{who}: {e}: {said}"));
            let found = format!("SELECT count(*) FROM queue.emails WHERE id = {id}");
            assert_eq!(value::<i64>(&owner, &found).await, 1, "{who}");
            ran += 1;
            eprintln!("{language} {who}: enqueued message {id}");
        }
    }
    eprintln!("{ran} programs ran");
}

/// Where a program is, as a shell would find it.
fn which(command: &Command) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let program = Path::new(command.get_program());
    let mut all = path.split(':').map(|dir| Path::new(dir).join(program));
    all.find(|candidate| candidate.is_file())
}
