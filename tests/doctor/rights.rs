//! What `host doctor` says of rights that nobody was meant to have.

use super::{none, one};
use crate::harness::TestDb;
use crate::harness::sql_host::{create_queue, value};

/// Default privileges open what is made to everybody: what is host's is closed when it is made, and
/// by `host migrate`.
#[tokio::test]
async fn privileges_that_are_open_to_everybody() {
    let db = TestDb::new().await;
    let client = db.client().await;
    let run = async |sql: &str| {
        client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    };
    create_queue(&client, "old", "").await;
    none(&db, "open_privileges").await;
    // Whoever wants that may have it.
    run("GRANT INSERT ON queue.old TO PUBLIC").await;
    none(&db, "open_privileges").await;

    run("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
         ALTER DEFAULT PRIVILEGES IN SCHEMA host GRANT ALL ON SEQUENCES TO PUBLIC;
         ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO host_producer")
    .await;
    let finding = one(&db, "open_privileges", "warning").await;
    assert_eq!(finding["statements"], serde_json::json!([]), "{finding}");
    assert_eq!(finding["defaults"].as_array().unwrap().len(), 3, "{finding}");
    create_queue(&client, "new", ", p_keep_ms => 3600000").await;
    let finding = one(&db, "open_privileges", "warning").await;
    assert_eq!(finding["statements"], serde_json::json!([]), "{finding}");
    for statement in finding["defaults"].as_array().unwrap() {
        run(statement.as_str().unwrap()).await;
    }
    none(&db, "open_privileges").await;

    run("GRANT SELECT ON queue.new, host.handler TO PUBLIC; GRANT ALL ON SCHEMA host TO PUBLIC")
        .await;
    let finding = one(&db, "open_privileges", "warning").await;
    assert_eq!(finding["statements"].as_array().unwrap().len(), 3, "{finding}");
    assert!(finding["remedy"].as_str().unwrap().contains("host migrate"), "{finding}");
    db.host(&["migrate"]).await.ok();
    none(&db, "open_privileges").await;
    let kept: bool =
        value(&client, "SELECT has_table_privilege('pg_monitor', 'queue.old', 'INSERT')").await;
    assert!(kept);
}

/// What a role was given by accident, as default privileges do: nobody but its owner can say that
/// it was one.
#[tokio::test]
async fn what_a_single_role_may_change_is_named_with_its_revoke() {
    let db = TestDb::new().await;
    let client = db.client().await;
    let run = async |sql: &str| {
        client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    };
    let role = format!("analysts_{}", db.name);
    run(&format!("CREATE ROLE {role}")).await;
    create_queue(&client, "old", "").await;
    run(&format!(
        "SELECT host.grant_producer('old', '{role}');
         GRANT INSERT ON queue.old TO {role};
         GRANT USAGE ON SCHEMA host TO {role};
         GRANT SELECT ON ALL TABLES IN SCHEMA queue TO {role};
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA queue TO {role}"
    ))
    .await;
    none(&db, "excess_privileges").await;

    let defaults = |verb: &str, to: &str| {
        format!(
            "ALTER DEFAULT PRIVILEGES {verb} EXECUTE ON FUNCTIONS {to} {role};
             ALTER DEFAULT PRIVILEGES {verb} ALL ON TABLES {to} {role};
             ALTER DEFAULT PRIVILEGES {verb} ALL ON SEQUENCES {to} {role}"
        )
    };
    run(&defaults("GRANT", "TO")).await;
    for n in 1..=5 {
        create_queue(&client, &format!("new{n}"), ", p_keep_ms => 3600000").await;
    }
    run(&defaults("REVOKE", "FROM")).await;
    let excess = one(&db, "excess_privileges", "warning").await;
    assert_eq!(excess["role"], role, "{excess}");
    let what = excess["what"].as_str().unwrap();
    assert!(what.contains("EXECUTE on ") && what.contains(" functions of host, such as"), "{what}");
    assert!(what.contains("UPDATE"), "{what}");
    let statements = excess["statements"].as_array().unwrap().clone();
    assert!(statements.len() <= 6, "for all queues together: {excess}");
    for statement in &statements {
        assert!(excess["remedy"].as_str().unwrap().contains(statement.as_str().unwrap()));
        run(statement.as_str().unwrap()).await;
    }
    none(&db, "excess_privileges").await;
    let kept = format!("SELECT has_table_privilege('{role}', 'queue.old', 'INSERT')");
    assert!(value::<bool>(&client, &kept).await);

    // Single objects, columns, and what our own roles were not meant to have.
    run(&format!(
        "GRANT EXECUTE ON FUNCTION host.drop_queue TO {role};
         GRANT UPDATE (headers) ON queue.old TO {role};
         GRANT SELECT (value) ON host.secret TO {role};
         GRANT UPDATE ON host.queue TO host_operator"
    ))
    .await;
    let found = super::found(&db, "excess_privileges").await;
    let of = |who: &str| found.iter().find(|f| f["role"] == who).expect("it is named");
    assert_eq!(
        of(&role)["rights"],
        serde_json::json!([
            "EXECUTE on function host.drop_queue(text,boolean)",
            "SELECT on table host.secret",
            "UPDATE on table queue.old"
        ])
    );
    let ours = of("host_operator");
    assert_eq!(
        ours["statements"],
        serde_json::json!(["REVOKE UPDATE ON TABLE host.queue FROM host_operator"])
    );
    for finding in &found {
        for statement in finding["statements"].as_array().unwrap() {
            run(statement.as_str().unwrap()).await;
        }
    }
    none(&db, "excess_privileges").await;
    one(&db, "missing_privileges", "warning").await;
    db.host(&["migrate"]).await.ok();
    none(&db, "missing_privileges").await;
    none(&db, "excess_privileges").await;

    run("GRANT EXECUTE ON FUNCTION host.drop_queue TO PUBLIC").await;
    let open = one(&db, "open_privileges", "warning").await;
    assert!(open["statements"][0].as_str().unwrap().contains("drop_queue"), "{open}");
    db.host(&["migrate"]).await.ok();
    none(&db, "open_privileges").await;
    run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
