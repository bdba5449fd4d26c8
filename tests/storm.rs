//! A storm of reschedules: many messages at once that are put off leave no dead row, and other
//! queues go on.

use std::time::Instant;

use crate::harness::sql_host::assert_only_inserted;
use crate::harness::{Deployment, Scene};

/// Enough that they are on the schedule in many settlements and come back in many portions. From
/// the environment, to see more of it: `STORM=1000000 cargo test --release storm -- --nocapture`.
fn storm() -> i64 {
    std::env::var("STORM").map_or(20_000, |n| n.parse().expect("STORM is a number"))
}

#[tokio::test]
async fn a_storm_of_reschedules_leaves_nothing_dead_and_other_queues_go_on() {
    let scene = Scene::new("p_rotate_bytes => 1048576, p_rotate_age_ms => 100").await;
    scene.queue("calm", "").await;
    let batch = || Deployment { isolation: "batch", ..Deployment::default() };
    scene.deploy("work", "misbehave", batch()).await;
    scene.deploy("calm", "echo", batch()).await;
    let host = scene.serve("host", &[]);
    scene.wait_loaded("work", 1, 1).await;
    scene.wait_loaded("calm", 1, 1).await;
    // Each fails once, and is due again when most others are.
    scene
        .run(&format!(
            r#"INSERT INTO queue.work (payload)
               SELECT '{{"do": "watch", "n": 1, "ms": 0, "text": "again"}}' FROM generate_series(1, {})"#,
            storm()
        ))
        .await;
    let mut beside = Vec::new();
    while scene.unsettled("work").await > 0 {
        let started = Instant::now();
        scene.run("INSERT INTO queue.calm (payload) VALUES ('{}')").await;
        scene.wait_done("calm").await;
        beside.push(started.elapsed());
    }
    beside.sort();
    let (median, longest) = (beside[beside.len() / 2], beside[beside.len() - 1]);
    println!("{} calm messages beside it: median {median:?}, longest {longest:?}", beside.len());
    assert!(beside.len() > 1, "the storm was over at once");
    assert_eq!(scene.number("SELECT count(*) FROM host.work__dead_letter").await, 0);
    let Scene { db, client } = scene;
    drop((client, host));
    assert_only_inserted(&db).await;
}
