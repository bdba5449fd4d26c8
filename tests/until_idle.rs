//! `host serve --until-idle`: it ends by itself, with everything done that could be.

use crate::harness::process::{finish, host_command};
use crate::harness::{Deployment, Scene, TestDb};

async fn until_idle(db: &TestDb) -> String {
    let mut command = host_command(&["serve", "--until-idle", "--poll", "50ms"]);
    command.env("DATABASE_URL", &db.url);
    let done = finish(command).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("idle: no message waits"), "{}", done.stderr);
    done.stderr
}

#[tokio::test]
async fn a_host_ends_when_nothing_waits_is_in_flight_or_due() {
    let scene = Scene::new("p_delays_ms => '{0}', p_max_attempts => 3").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    scene.deploy("sink", "echo", Deployment::default()).await;
    for queue in ["paused", "unhandled"] {
        scene.queue(queue, "").await;
        scene.run(&format!("INSERT INTO queue.{queue} (payload) VALUES ('1')")).await;
    }
    scene.deploy("paused", "echo", Deployment::default()).await;
    scene.pause("paused", true).await;
    scene
        .run(
            r#"INSERT INTO queue.work (payload, run_at)
               SELECT '{"do": "enqueue", "n": 1, "queue": "sink", "text": "x"}'::jsonb, NULL::timestamptz FROM generate_series(1, 200)
               UNION ALL SELECT '{"do": "retry"}', NULL
               UNION ALL SELECT '{"do": "ack"}', now() + interval '1 day'"#,
        )
        .await;
    let operator = scene.db.as_member_of("host_serve").await;
    until_idle(&operator).await;
    assert_eq!(scene.number("SELECT count(*) FROM host.unfinished()").await, 0);
    assert_eq!(
        scene.number("SELECT count(*) FROM host.work__dead_letter WHERE attempt = 3").await,
        1
    );
    let left = "SELECT waiting + in_flight FROM host.status_of('sink')";
    assert_eq!(scene.number(left).await, 0);
    assert_eq!(scene.number("SELECT count(*) FROM queue.sink").await, 200);
    assert_eq!(scene.number("SELECT scheduled FROM host.status_of('work')").await, 1);
    assert_eq!(scene.number("SELECT waiting FROM host.status_of('paused')").await, 1);
    // With nothing to do, too.
    until_idle(&scene.db).await;
}

#[tokio::test]
async fn what_is_due_on_the_schedule_is_waited_for() {
    let scene = Scene::new("").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let later = "INSERT INTO queue.work (payload, run_at) VALUES ('{\"do\": \"ack\"}', now() + interval '2 s')";
    scene.run(later).await;
    let host = scene.serve("host", &[]);
    scene.wait_number("SELECT count(*) FROM host.work__schedule", 1).await;
    assert!(host.terminate().await.success());
    let due = "SELECT count(*) FROM host.work__schedule WHERE due <= clock_timestamp()";
    scene.wait_number(due, 1).await;
    assert_eq!(scene.number("SELECT count(*) FROM host.unfinished()").await, 1);
    until_idle(&scene.db).await;
    assert_eq!(scene.number("SELECT scheduled FROM host.status_of('work')").await, 0);
    assert_eq!(scene.number("SELECT last_minute FROM host.status_of('work')").await, 1);
}
