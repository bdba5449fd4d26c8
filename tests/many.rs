//! Many queues: whatever looks at all of them takes the locks of one at a time.

use serde_json::Value;

use crate::harness::postgres::OwnServer;
use crate::harness::server::scratch_dir;
use crate::harness::sql_host::value;

/// Enough for the least room for locks that a server can be given, as a thousand are for the room
/// it has by default.
const QUEUES: usize = 30;

#[tokio::test]
async fn a_server_with_room_for_few_locks_has_all_its_queues_looked_at() {
    let few = [
        ("max_locks_per_transaction", "10"),
        ("max_connections", "20"),
        ("max_wal_senders", "0"),
        ("max_worker_processes", "1"),
    ];
    let server = OwnServer::start(&scratch_dir(), &few).await;
    let scene = server.migrated().await;
    for n in 0..QUEUES {
        scene.queue(&format!("q{n}"), "").await;
    }
    let everything = "SELECT count(*) FROM pg_class WHERE relnamespace IN ('host'::regnamespace, 'queue'::regnamespace)
        AND pg_relation_size(oid) >= 0";
    assert!(value::<i64>(&scene.client, everything).await > 40 * QUEUES as i64);

    let json = async |args: &[&str]| -> Value {
        let finished = scene.db.host(args).await;
        serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|e| panic!("{args:?}: {e}: {finished:?}"))
    };
    let status = json(&["status", "--json"]).await;
    assert_eq!(status["queues"].as_array().unwrap().len(), QUEUES);
    assert_eq!(
        value::<i64>(&scene.client, "SELECT count(*) FROM host.status()").await,
        QUEUES as i64
    );
    let doctor = json(&["doctor", "--json"]).await;
    let findings = doctor["findings"].as_array().unwrap();
    let short =
        findings.iter().find(|f| f["kind"] == "few_locks").unwrap_or_else(|| panic!("{doctor}"));
    assert!(short["remedy"].as_str().unwrap().contains("max_locks_per_transaction = "), "{short}");
    let dump = std::process::Command::new(server.programs().join("pg_dump"))
        .arg(server.url())
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&dump.stderr).contains("max_locks_per_transaction"),
        "it is true"
    );

    for args in
        [&["queue", "list"][..], &["handlers"], &["cron", "list"], &["migrate", "--restored"]]
    {
        scene.db.host(args).await.ok();
    }
    // As a release does that has changed a function.
    scene.run("UPDATE host.migration_functions SET sha256 = ''").await;
    let text = scene.db.host(&["migrate"]).await.ok();
    assert!(text.starts_with("Replaced the functions"), "{text}");
    scene.run("UPDATE host.cluster SET system_identifier = 1").await;
    let text = scene.db.host(&["migrate", "--restored"]).await.ok();
    assert_eq!(text.matches("Rebased queue").count(), QUEUES, "{text}");
}
