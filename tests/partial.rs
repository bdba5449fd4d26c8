//! A slow message is alone with its slowness: the acks and the follow-ups of all others are settled
//! while it runs, those of its own lease and those of later ones.

use crate::harness::{Deployment, Scene};

#[tokio::test]
async fn slow_messages_hold_back_nobody() {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", Deployment { concurrency: 4, ..Deployment::default() }).await;
    // All there before the host comes, so that they are leased together.
    scene
        .run(
            "INSERT INTO queue.work (payload) SELECT CASE
                 WHEN i % 160 = 80 THEN jsonb_build_object('do', 'enqueue', 'ms', 3600000, 'n', 1, 'queue', 'sink', 'text', 'slow')
                 ELSE jsonb_build_object('do', 'enqueue', 'n', 1, 'queue', 'sink', 'text', i::text) END
             FROM generate_series(1, 500) i",
        )
        .await;
    let host = scene.serve("host", &["--drain", "10ms"]);
    // 80, 240 and 400 are slow.
    scene.wait_number("SELECT count(DISTINCT payload) FROM queue.sink", 497).await;
    scene.run("INSERT INTO queue.work (payload) SELECT jsonb_build_object(
             'do', 'enqueue', 'n', 1, 'queue', 'sink', 'text', i::text) FROM generate_series(501, 2000) i").await;
    scene.wait_number("SELECT count(DISTINCT payload) FROM queue.sink", 1_997).await;
    // Their acks are durable as well: nothing but the slow ones would run again.
    let open = "SELECT sum(coalesce((SELECT min(s.rest) FROM host.work__settlement s WHERE s.lease_id = l.id), l.row_count))
         FROM host.work__lease l WHERE row_count > 0";
    scene.wait_number(open, 3).await;
    assert_eq!(scene.in_flight("work").await, 3);
    assert!(host.terminate().await.success());

    scene.deploy("work", "echo", Deployment::default()).await;
    let _next = scene.serve("next", &[]);
    scene.wait_done("work").await;
    assert_eq!(scene.number("SELECT count(*) FROM queue.sink").await, 1_997);
}
