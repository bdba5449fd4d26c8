//! A queue that is not as it was made: whatever it lacks is named, and what puts it back does.

use super::{doctor, none, one};
use crate::harness::TestDb;
use crate::harness::sql_host::create_queue;

/// The only damage of queue `q`; `named` says how doctor calls it.
async fn lacks(db: &TestDb, named: &str) -> String {
    let damaged = one(db, "damaged", "error").await;
    assert_eq!(damaged["queue"], "q");
    let missing = damaged["missing"].as_array().unwrap();
    assert!(
        missing.iter().any(|line| line.as_str().unwrap().contains(named)),
        "{named}: {damaged}"
    );
    damaged["remedy"].as_str().unwrap().strip_prefix("as the owner: ").unwrap().to_owned()
}

#[tokio::test]
async fn what_a_queue_lacks_is_named_and_put_back() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", ", p_keep_ms => 60000").await;
    create_queue(&client, "other", "").await;
    none(&db, "damaged").await;
    for (drop, named) in [
        (
            "DROP INDEX queue.q__message_window",
            "index: CREATE INDEX ON queue.q USING btree (txid, id)",
        ),
        (
            "DROP INDEX host.q__lease_1_id_idx",
            "index: CREATE UNIQUE INDEX ON host.q__lease_1 USING btree (id)",
        ),
        (
            "DROP INDEX host.q__schedule_late",
            "index: CREATE INDEX ON host.q__schedule USING btree (txid, id)",
        ),
        ("DROP TRIGGER wake ON queue.q", "trigger wake on queue.q"),
        ("ALTER TABLE queue.q DISABLE TRIGGER refuse_change", "trigger refuse_change on queue.q"),
        ("DROP VIEW queue.q__orm", "view queue.q__orm"),
        ("DROP FUNCTION host.q__cancel", "function host.q__cancel(p_message bigint)"),
        ("ALTER FUNCTION host.q__wake() SECURITY INVOKER", "the release's function host.q__wake()"),
        (
            "CREATE OR REPLACE FUNCTION host.q__wake() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "the release's function host.q__wake()",
        ),
    ] {
        client.batch_execute(drop).await.unwrap();
        let remedy = lacks(&db, named).await;
        client.batch_execute(&remedy).await.unwrap_or_else(|e| panic!("{drop}: {remedy}: {e:?}"));
        none(&db, "damaged").await;
    }
}

/// What no statement brings back is named all the same, also where it keeps doctor from looking at
/// the queue.
#[tokio::test]
async fn tables_columns_and_checks_that_are_gone_are_named() {
    for (drop, named) in [
        ("ALTER TABLE host.q__dead_letter DROP COLUMN key", "column host.q__dead_letter.key text"),
        ("ALTER TABLE host.q__lease DROP COLUMN tat", "column host.q__lease.tat"),
        ("ALTER TABLE queue.q DROP CONSTRAINT run_at_is_finite", "check queue.q run_at_is_finite"),
        ("DROP TABLE host.q__schedule_3", "table host.q__schedule_3 FOR VALUES IN ('3')"),
        ("DROP TABLE host.q__settlement", "table host.q__settlement"),
        ("DROP SEQUENCE host.q__asleep", "sequence host.q__asleep"),
        ("ALTER TABLE queue.q ALTER txid DROP DEFAULT", "column queue.q.txid bigint NOT NULL"),
    ] {
        let db = TestDb::new().await;
        let client = db.client().await;
        create_queue(&client, "q", "").await;
        client.batch_execute(drop).await.unwrap();
        let remedy = lacks(&db, named).await;
        assert!(remedy.contains("restore a backup"), "{drop}: {remedy}");
        assert_eq!(doctor(&db, &[]).await.0, 6, "{drop}");
    }
}

#[tokio::test]
async fn what_somebody_has_added_is_a_note() {
    let db = TestDb::new().await;
    let client = db.client().await;
    // What the other tests watch tables with was added, too.
    let tripwire = "DROP EVENT TRIGGER tripwire; DROP SCHEMA tripwire CASCADE";
    client.batch_execute(tripwire).await.unwrap();
    create_queue(&client, "q", "").await;
    none(&db, "extended").await;
    client
        .batch_execute(
            "ALTER TABLE queue.q ADD CONSTRAINT mine CHECK (payload <> '0');
             CREATE INDEX ON host.q__dead_letter (reason);
             CREATE FUNCTION host.q__mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        )
        .await
        .unwrap();
    let added = one(&db, "extended", "note").await;
    assert_eq!(added["added"].as_array().unwrap().len(), 3, "{added}");
    let what = added["what"].as_str().unwrap();
    for named in [
        "check queue.q mine",
        "index: CREATE INDEX ON host.q__dead_letter",
        "function host.q__mine()",
    ] {
        assert!(what.contains(named), "{what}");
    }
    none(&db, "damaged").await;
}
