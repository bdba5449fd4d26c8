//! Settings and default privileges that a server, a database or a role may have: the main job runs
//! whole under each. The roles are those that the documentation advises: an owner who is no
//! superuser, and a member of each group role.

mod worlds;

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_postgres::Client;

use self::worlds::{ROWS, Row, world};
use crate::harness::process::Serve;
use crate::harness::{Scene, TestDb, plugin, wait_for, wait_until};

/// Messages of the plain sort.
const PLAIN: i64 = 300;

fn misbehave() -> String {
    plugin("misbehave").display().to_string()
}

/// Whose settings the rows are.
#[derive(Clone, Copy)]
enum SetFor {
    Database,
    /// Each role that works with it.
    Roles,
}

/// One database under some rows, and who works with it.
struct World {
    names: String,
    /// The server's superuser, whom no row concerns.
    admin: Client,
    owner: TestDb,
    operator: TestDb,
    producer: TestDb,
    server: TestDb,
}

impl World {
    async fn new(rows: &[&Row], set_for: SetFor) -> Self {
        let db = TestDb::empty().await;
        let admin = db.client().await;
        let owner = format!("owner_{}", db.name);
        let run = async |sql: &str| {
            let sql = sql.replace("{db}", &db.name).replace("{owner}", &owner);
            admin.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        };
        run("CREATE ROLE {owner} LOGIN; ALTER DATABASE {db} OWNER TO {owner}").await;
        for row in rows {
            run(row.before).await;
        }
        let operator = db.as_member_of("host_operator").await;
        let producer = db.as_member_of("host_producer").await;
        let server = db.as_member_of("host_serve").await;
        let group = ["host_operator", "host_producer", "host_serve"];
        let roles = group.map(|group| format!("ROLE {group}_{}", db.name));
        let whose = match set_for {
            SetFor::Database => vec![format!("DATABASE {}", db.name)],
            SetFor::Roles => [&roles[..], &[format!("ROLE {owner}")]].concat(),
        };
        for setting in rows.iter().flat_map(|row| row.settings) {
            for whose in &whose {
                run(&format!("ALTER {whose} SET {setting}")).await;
            }
        }
        let url = db.url.replacen("postgres://postgres@", &format!("postgres://{owner}@"), 1);
        let owner = db.through(url);
        let names = rows.iter().map(|row| row.name).collect::<Vec<_>>().join(" + ");
        Self { names, admin, owner, operator, producer, server }
    }

    async fn number(&self, sql: &str) -> i64 {
        let row = self.admin.query_one(&format!("SELECT ({sql})::bigint"), &[]).await;
        row.unwrap_or_else(|e| panic!("{}: {sql}: {e:?}", self.names)).get(0)
    }

    async fn wait(&self, sql: &str, wanted: i64) {
        wait_for(&format!("under {}: {sql}", self.names), wanted, async || self.number(sql).await)
            .await;
    }

    /// An operator's command.
    async fn ok(&self, args: &[&str]) -> String {
        let finished = self.operator.host(args).await;
        assert_eq!(finished.code, 0, "under {}: host {args:?}: {finished:?}", self.names);
        finished.stdout
    }

    /// What an operator's command says as JSON, however it ends.
    async fn json(&self, args: &[&str]) -> Value {
        let finished = self.operator.host(args).await;
        serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|e| panic!("under {}: host {args:?}: {e}: {finished:?}", self.names))
    }

    async fn set_up(&self) {
        let migrated = self.owner.host(&["migrate"]).await;
        assert_eq!(migrated.code, 0, "under {}: {migrated:?}", self.names);
        let again = self.owner.host(&["migrate"]).await.ok();
        assert!(again.starts_with("Nothing to do"), "under {}: {again}", self.names);
        self.ok(&[
            "queue",
            "create",
            "jobs",
            "--rotate-size",
            "16KiB",
            "--rotate-age",
            "1s",
            "--backoff",
            "1ms",
            "--max-attempts",
            "2",
            "--keep",
            "1h",
            "--unique",
            "1h",
        ])
        .await;
        self.ok(&["queue", "create", "sink", "--payload", "text"]).await;
        self.ok(&["queue", "create", "strands", "--ordered", "--backoff", "1ms"]).await;
        for queue in ["jobs", "strands"] {
            self.ok(&["deploy", "--queue", queue, &misbehave(), "--no-wait"]).await;
        }
        self.ok(&[
            "cron",
            "add",
            "tick",
            "* * * * *",
            "--queue",
            "jobs",
            "--payload",
            r#"{"do": "ack"}"#,
        ])
        .await;
        let due =
            "UPDATE host.cron SET next_at = date_trunc('second', now()) - interval '1 minute'";
        self.admin.batch_execute(due).await.unwrap();
    }

    /// A producer's messages: for now, for later, with a key, and such as fail once or for good.
    async fn enqueue(&self) {
        let producer = self.producer.client().await;
        let insert = "INSERT INTO queue.jobs (payload, headers, run_at, unique_key)
            SELECT $1::text::jsonb, $2::text::jsonb, pg_catalog.now() + $3::bigint * interval '1 ms', $4 || n FROM generate_series(1, $5::bigint) n";
        let quoted = r#"{"a": "\\ ' \" ü"}"#;
        for (payload, delay, key, n) in [
            (r#"{"do": "ack", "text": "\\ ' ü"}"#, None, None, PLAIN),
            (r#"{"do": "ack"}"#, Some(300_i64), None, 20),
            (r#"{"do": "ack"}"#, None, Some("key"), 10),
            // Given up on at once, and after the second attempt.
            (r#"{"do": "dead", "text": "it's \\ no ü"}"#, None, None, 3),
            (r#"{"do": "retry", "ms": 1}"#, None, None, 2),
            (r#"{"do": "enqueue", "n": 1, "queue": "sink", "text": "x \\ ' ü"}"#, None, None, 5),
        ] {
            let enqueued = producer.execute(insert, &[&payload, &quoted, &delay, &key, &n]).await;
            assert_eq!(
                enqueued.unwrap_or_else(|e| panic!("under {}: {e:?}", self.names)),
                n as u64
            );
        }
        let ordered = "INSERT INTO queue.strands (payload, key) SELECT '\"ack\"', n % 5 FROM generate_series(1, 50) n";
        producer.batch_execute(ordered).await.unwrap();
        self.ok(&["enqueue", "jobs", r#"{"do": "ack"}"#, "--delay", "100ms", "--header", "a=b"])
            .await;
    }

    async fn wait_done(&self) {
        self.wait("SELECT count(*) FROM host.jobs__dead_letter", 5).await;
        self.wait("SELECT count(*) FROM queue.sink WHERE payload = E'x \\\\ '' ü'", 5).await;
        // Those of the producer, and the operator's.
        let settled = PLAIN + 20 + 10 + 5 + 1;
        let by_people = "SELECT count(*) FROM host.jobs__history WHERE headers -> 'cron' IS NULL";
        self.wait(by_people, settled).await;
        self.wait("SELECT sum(host.positions(settled)) FROM host.strands__settlement", 50).await;
        // It fires every minute, and the first time was due before there was a host.
        let by_cron =
            "SELECT least(count(*), 1) FROM host.jobs__history WHERE headers ->> 'cron' = 'tick'";
        self.wait(by_cron, 1).await;
    }

    /// What came in later begins the next generation, and the first one's messages go. It looks
    /// seldom: on a busy machine a statement under these settings takes long, and the partition is
    /// not truncated while one reads it.
    async fn wait_rotated(&self) {
        let more = "INSERT INTO queue.jobs (payload) VALUES ('{\"do\": \"ack\"}')";
        let mut look_at = Instant::now();
        wait_until(&format!("under {}: the queue has rotated", self.names), async || {
            if Instant::now() < look_at {
                return false;
            }
            look_at = Instant::now() + Duration::from_secs(1);
            // Anew: one that idles for a second is closed by one of the worlds.
            let producer = self.producer.client().await;
            let inserted = producer.batch_execute(more).await;
            inserted.unwrap_or_else(|e| panic!("under {}: {e:?}", self.names));
            self.number("SELECT count(*) FROM queue.jobs").await < PLAIN
        })
        .await;
    }

    async fn look(&self) {
        let status = self.json(&["status", "--json"]).await;
        let jobs = status["queues"]
            .as_array()
            .unwrap()
            .iter()
            .find(|q| q["name"] == "jobs")
            .unwrap()
            .clone();
        assert_eq!(
            (&jobs["dead"], &jobs["scheduled"]),
            (&5.into(), &0.into()),
            "under {}",
            self.names
        );
        assert_eq!(status["hosts"].as_array().unwrap().len(), 1, "under {}", self.names);
        let doctor = self.json(&["doctor", "--json"]).await;
        let findings = doctor["findings"].as_array().unwrap();
        let bad = |f: &&Value| {
            f["severity"] == "error" || f["kind"] == "missing_privileges"
                // What the rows open is taken back; that they do is said.
                || f["statements"].as_array().is_some_and(|open| !open.is_empty())
        };
        assert_eq!(findings.iter().find(bad), None, "under {}", self.names);
        self.ok(&["queue", "show", "jobs"]).await;
        self.ok(&["handlers"]).await;
        self.ok(&["cron", "list"]).await;
        self.ok(&["peek", "jobs", "--settled"]).await;
        let sink = self.json(&["peek", "sink", "--json"]).await;
        assert_eq!(sink[0]["payload"], "x \\ ' ü", "under {}", self.names);
        let dead = self
            .json(&[
                "dead",
                "list",
                "jobs",
                "--json",
                "--where",
                "error ~ 'no' and died_at > now-1h",
            ])
            .await;
        assert_eq!(dead.as_array().unwrap().len(), 3, "under {}: {dead}", self.names);
        let id = dead[0]["id"].to_string();
        assert_eq!(
            self.json(&["dead", "show", "jobs", &id, "--json"]).await["headers"]["a"],
            "\\ ' \" ü"
        );
        self.ok(&["message", "jobs", dead[0]["message"].as_str().unwrap()]).await;
        self.ok(&["dead", "retry", "jobs", &id]).await;
        self.wait("SELECT count(*) FROM host.jobs__dead_letter", 5).await;
        self.ok(&["dead", "move", "jobs", "--all", "--to", "sink"]).await;
    }

    /// The queues go as they came.
    async fn tear_down(&self, host: Serve) {
        self.ok(&["cron", "remove", "tick"]).await;
        self.wait("SELECT waiting + in_flight + scheduled FROM host.queue_status('jobs')", 0).await;
        let log = host.log();
        assert!(host.terminate().await.success(), "under {}: {log}", self.names);
        // On a queue that keeps order, who is refused a settlement has handed the lease on.
        let complains = |line: &&str| {
            (line.contains(" WARN ") || line.contains(" ERROR "))
                && !["lease lost", "tried again", "dead letter"]
                    .iter()
                    .any(|said| line.contains(said))
        };
        assert_eq!(log.lines().find(complains), None, "under {}: {log}", self.names);
        self.wait("SELECT count(*) FROM host.session WHERE ended_at IS NULL", 0).await;
        for queue in ["jobs", "strands"] {
            self.ok(&["queue", "drop", queue]).await;
        }
        self.ok(&["queue", "drop", "sink", "--force"]).await;
        assert_eq!(
            self.number("SELECT count(*) FROM pg_tables WHERE schemaname = 'queue'").await,
            0
        );
    }
}

/// Everything, from an empty database to one without queues again.
async fn main_job(rows: &[&Row], set_for: SetFor) {
    let world = World::new(rows, set_for).await;
    world.set_up().await;
    let serving = Scene::of(world.server.clone()).await;
    let host = serving.serve("host", &["--poll", "50ms"]);
    // A running host hears of it, and says that it runs it.
    world.ok(&["deploy", "--queue", "jobs", &misbehave()]).await;
    world.enqueue().await;
    world.wait_done().await;
    world.wait_rotated().await;
    world.look().await;
    world.tear_down(host).await;
}

/// The rows that do not exclude one another, together.
#[tokio::test]
async fn the_main_job_runs_in_the_first_world_of_hostile_settings() {
    main_job(&world(0), SetFor::Database).await;
}

#[tokio::test]
async fn the_main_job_runs_in_the_second_world_of_hostile_settings() {
    main_job(&world(1), SetFor::Database).await;
}

#[tokio::test]
async fn the_main_job_runs_in_the_third_world_of_hostile_settings() {
    main_job(&world(2), SetFor::Roles).await;
}

#[tokio::test]
#[ignore = "takes minutes: each row alone, which says more when the worlds fail"]
async fn the_main_job_runs_under_each_hostile_setting_alone() {
    for row in ROWS {
        for set_for in [SetFor::Database, SetFor::Roles] {
            eprintln!("{}", row.name);
            main_job(&[row], set_for).await;
        }
    }
}
