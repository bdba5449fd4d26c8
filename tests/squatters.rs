//! Schemas of the names `host` and `queue` that are somebody else's: nothing in them is called, and
//! it is said what to do.

use host_queue::constants::SESSION_LOCK;
use tokio_postgres::Client;

use crate::harness::sql_host::{backend, value};
use crate::harness::{Scene, TestDb};

/// What everybody who asks a database for its schema calls first; it makes whoever may a superuser.
const PLANT: &str = "CREATE SCHEMA host;
    CREATE TABLE host.migration ();
    CREATE FUNCTION host.migration_applied() RETURNS TABLE (version int, name text, sha256 text) LANGUAGE plpgsql AS
        'BEGIN EXECUTE ''ALTER ROLE '' || (SELECT nspowner::regrole FROM pg_namespace WHERE nspname = ''host'') || '' SUPERUSER'';
            RAISE EXCEPTION ''called''; END';
    GRANT USAGE ON SCHEMA host TO PUBLIC";

/// A new role that may create schemas, and its connection.
async fn mallory(db: &TestDb) -> (String, Client) {
    let name = format!("mallory_{}", db.name);
    let create =
        format!("CREATE ROLE {name} LOGIN; GRANT CREATE ON DATABASE {} TO {name}", db.name);
    db.client().await.batch_execute(&create).await.unwrap();
    let url = db.url.replacen("postgres://postgres@", &format!("postgres://{name}@"), 1);
    (name, crate::harness::server::connect(&url).await)
}

/// Runs each command, which must fail in those words.
async fn all_refused(db: &TestDb, words: &[&str]) {
    for args in [
        &["migrate"][..],
        &["status"],
        &["doctor"],
        &["serve"],
        &["enqueue", "q", "1"],
        &["queue", "create", "q"],
    ] {
        let text = db.host(args).await.error(1);
        assert!(words.iter().all(|word| text.contains(word)), "{args:?}: {text}");
    }
}

#[tokio::test]
async fn what_somebody_planted_is_not_called() {
    let db = TestDb::empty().await;
    let (name, mallory) = mallory(&db).await;
    mallory.batch_execute(PLANT).await.unwrap();
    all_refused(&db, &[&name, "schema \"host\"", "superuser", "drop it"]).await;
    let operator = db.as_member_of("host_operator").await;
    all_refused(&operator, &[&name, "schema \"host\"", "does not call"]).await;
    let is_super = format!("SELECT rolsuper FROM pg_roles WHERE rolname = '{name}'");
    assert!(!value::<bool>(&mallory, &is_super).await);
    mallory.batch_execute("DROP SCHEMA host CASCADE").await.unwrap();
    db.host(&["migrate"]).await.ok();
}

#[tokio::test]
async fn a_function_beside_ours_is_not_called_either() {
    let db = TestDb::new().await;
    let (name, mallory) = mallory(&db).await;
    let client = db.client().await;
    client.batch_execute(&format!("GRANT ALL ON SCHEMA host TO {name}")).await.unwrap();
    let beside =
        "CREATE FUNCTION host.pause(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true'";
    mallory.batch_execute(beside).await.unwrap();
    all_refused(&db, &[&name, "host.pause(text,text)", "superuser"]).await;
    mallory.batch_execute("DROP FUNCTION host.pause(text, text)").await.unwrap();
    db.host(&["status"]).await.ok();
}

/// As the documentation has it: a role that may create schemas, and no more, installs host; others
/// work with it.
#[tokio::test]
async fn an_owner_without_any_rank_is_trusted_as_an_operator() {
    let db = TestDb::empty().await;
    let (name, _mallory) = mallory(&db).await;
    let url = db.url.replacen("postgres://postgres@", &format!("postgres://{name}@"), 1);
    let owner = db.through(url);
    owner.host(&["migrate"]).await.ok();
    owner.host(&["queue", "create", "q"]).await.ok();
    let operator = db.as_member_of("host_operator").await;
    let text = operator.host(&["status"]).await.error(1);
    assert!(text.contains("GRANT host_operator to it"), "{text}");
    db.client().await.batch_execute(&format!("GRANT host_operator TO {name}")).await.unwrap();
    operator.host(&["status"]).await.ok();
    let text = db.host(&["status"]).await.error(1);
    assert!(text.contains("no superuser"), "{text}");
}

#[tokio::test]
async fn names_that_an_application_has_taken_are_named() {
    for (schema, other) in [("queue", "host"), ("host", "queue")] {
        let db = TestDb::empty().await;
        let client = db.client().await;
        let take = format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.orders ()");
        client.batch_execute(&take).await.unwrap();
        let text = db.host(&["migrate"]).await.error(1);
        assert!(
            text.contains(&format!("schema \"{schema}\" already")) && text.contains("orders"),
            "{text}"
        );
        let left = format!("SELECT to_regnamespace('{other}') IS NULL");
        assert!(value::<bool>(&client, &left).await, "nothing was begun");
        client.batch_execute(&format!("ALTER SCHEMA {schema} RENAME TO shop")).await.unwrap();
        db.host(&["migrate"]).await.ok();
    }
}

/// What a superuser may have made for the owner beforehand.
#[tokio::test]
async fn an_empty_schema_is_taken_over() {
    let db = TestDb::empty().await;
    db.client().await.batch_execute("CREATE SCHEMA host").await.unwrap();
    db.host(&["migrate"]).await.ok();
}

#[tokio::test]
async fn a_schema_that_was_restored_without_its_rows_is_known() {
    let scene = Scene::new("").await;
    let dump = scene
        .db
        .program("pg_dump", &["--schema-only", "--schema", "host", "--schema", "queue"])
        .await;
    let db = TestDb::empty().await;
    let file = crate::harness::server::scratch_dir().join("schema.sql");
    std::fs::write(&file, dump).unwrap();
    db.program("psql", &["--no-psqlrc", "-q", "-f", file.to_str().unwrap()]).await;
    let text = db.host(&["migrate"]).await.error(1);
    assert!(
        text.contains("pg_dump -s") && text.contains("drop schema host, queue cascade"),
        "{text}"
    );
    db.client().await.batch_execute("DROP SCHEMA host, queue CASCADE").await.unwrap();
    db.host(&["migrate"]).await.ok();
}

/// The owner of a database may give it a search path, and a superuser who works there has it.
#[tokio::test]
async fn a_search_path_does_not_lead_a_superuser_astray() {
    let db = TestDb::empty().await;
    let (name, mallory) = mallory(&db).await;
    let client = db.client().await;
    client.batch_execute(&format!("ALTER DATABASE {} OWNER TO {name}", db.name)).await.unwrap();
    let plant = format!(
        "CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO PUBLIC; ALTER DATABASE {} SET search_path = trap, pg_catalog;
         CREATE FUNCTION trap.sprung() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''sprung''; END'",
        db.name
    );
    mallory.batch_execute(&plant).await.unwrap();
    // All that is asked in plain words: functions that are called, and the operators between them.
    for function in [
        "now()",
        "clock_timestamp()",
        "pg_advisory_lock(bigint)",
        "current_setting(text)",
        "to_regclass(text)",
        "pg_backend_pid()",
    ] {
        let create = format!(
            "CREATE FUNCTION trap.{function} RETURNS boolean LANGUAGE sql AS 'SELECT trap.sprung()'"
        );
        mallory.batch_execute(&create).await.unwrap();
    }
    for kind in ["text", "int", "bigint", "oid", "name", "boolean"] {
        let create = format!(
            "CREATE FUNCTION trap.same({kind}, {kind}) RETURNS boolean LANGUAGE sql AS 'SELECT trap.sprung()';
             CREATE OPERATOR trap.= (LEFTARG = {kind}, RIGHTARG = {kind}, FUNCTION = trap.same)"
        );
        mallory.batch_execute(&create).await.unwrap();
    }
    for args in [
        &["migrate"][..],
        &["queue", "create", "q"],
        &["enqueue", "q", "1"],
        &["status"],
        &["handlers"],
        &["cron", "list"],
        &["queue", "drop", "q", "--force"],
    ] {
        db.host(args).await.ok();
    }
}

/// Anybody may take an advisory lock, those of sessions to come included.
#[tokio::test]
async fn who_keeps_a_host_from_beginning_is_named() {
    let scene = Scene::new("").await;
    let (name, squatter) = mallory(&scene.db).await;
    let take = format!("SELECT pg_advisory_lock({SESSION_LOCK}, n) FROM generate_series(1, 20) n");
    squatter.batch_execute(&take).await.unwrap();
    let pid = backend(&squatter).await;
    let host = scene.serve("host", &[]);
    host.wait_for_log(&format!("is held by process {pid} of role {name}")).await;
    let doctor = scene.db.host(&["doctor", "--patience", "0s"]).await;
    assert_eq!(doctor.code, 6);
    let says = format!("pg_terminate_backend({pid})");
    assert!(doctor.stdout.contains("whose locks are held by process"), "{}", doctor.stdout);
    assert!(doctor.stdout.contains(&says), "{}", doctor.stdout);
    scene.run(&format!("SELECT {says}")).await;
    host.wait_for_log("serving").await;
    let doctor = scene.db.host(&["doctor", "--patience", "0s"]).await;
    assert!(!doctor.stdout.contains("whose locks"), "{}", doctor.stdout);
}
