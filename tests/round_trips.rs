//! Commands over a slow link: each is a few round trips, whatever it does. Counted, not timed.

use std::time::Duration;

use tokio_postgres::NoTls;

use crate::harness::plugin;
use crate::harness::postgres::OwnServer;
use crate::harness::process::{finish, host_command};
use crate::harness::proxy::{Mode, Proxy};
use crate::harness::server::scratch_dir;

/// What goes out together is read within this time.
const TOGETHER: Duration = Duration::from_millis(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_takes_three_round_trips_once_it_is_connected() {
    let server = OwnServer::start(&scratch_dir(), &[]).await;
    let scene = server.migrated().await;
    for queue in ["emails", "busy"] {
        scene.queue(queue, "").await;
    }
    scene.run("INSERT INTO queue.busy (payload) VALUES ('1')").await;
    let proxy = Proxy::to(&server.socket()).await;
    proxy.set(Mode::Delay(TOGETHER));
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port);

    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    // And the settings of the session.
    let to_connect = proxy.round_trips() + 1;
    drop((client, connection));
    let echo = plugin("echo").display().to_string();
    for (args, wanted) in [
        (&["enqueue", "emails", "{}", "--delay", "1h", "--header", "a=b"][..], 3),
        (&["status"], 3),
        (&["dead", "list", "emails"], 3),
        (&["handlers"], 3),
        (&["deploy", "--queue", "emails", &echo, "--no-wait"], 3),
        (&["deploy", "--queue", "busy", &echo, "--from", "now"], 4),
        (&["cron", "list"], 3),
        (&["queue", "list"], 3),
    ] {
        let before = proxy.round_trips();
        let mut command = host_command(args);
        command.env("DATABASE_URL", &url);
        finish(command).await.ok();
        let trips = proxy.round_trips() - before - to_connect;
        assert_eq!(trips, wanted, "{args:?}");
    }
}
