//! A database with queues and handlers, made without the operator's commands: the tests of what
//! hosts do need no other part of the product.

use std::fs::File;

use host_core::deployment::digest::Digest;
use serde_json::{Map, Value};
use tokio_postgres::Client;

use super::process::Serve;
use super::{TestDb, plugin, wait_for};

/// Where the hosts of all tests share compiled components.
const COMPILED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled");

/// A database, a connection to it, and what a test puts in it.
pub struct Scene {
    /// The database.
    pub db: TestDb,
    /// The test's own connection.
    pub client: Client,
}

/// How a plugin is deployed; the rest is as `host deploy` has it.
pub struct Deployment {
    /// What the guest may ask for by key.
    pub config: &'static [(&'static str, &'static str)],
    /// `message` or `batch`.
    pub isolation: &'static str,
    /// Sandboxes at once, on one host.
    pub concurrency: i32,
    /// Linear memory, in bytes.
    pub memory_bytes: i64,
    /// Wall time of a call.
    pub timeout_ms: i64,
    /// Time on a processor within that.
    pub cpu_ms: i64,
    /// Log text of a call, in bytes.
    pub log_bytes: i64,
    /// Follow-ups of a call.
    pub follow_ups: i32,
}

impl Default for Deployment {
    fn default() -> Self {
        Self {
            config: &[],
            isolation: "message",
            concurrency: 16,
            memory_bytes: 64 << 20,
            timeout_ms: 3_600_000,
            cpu_ms: 10_000,
            log_bytes: 64 << 10,
            follow_ups: 1_000,
        }
    }
}

impl Scene {
    /// A database with the queue `work` and the queue `sink`, whose payloads are text and which has
    /// no handler: what handlers put there stays.
    pub async fn new(work: &str) -> Self {
        let scene = Self::of(TestDb::new().await).await;
        scene.queue("work", work).await;
        scene.queue("sink", "p_payload_type => 'text'").await;
        scene
    }

    /// A database as it is.
    pub async fn of(db: TestDb) -> Self {
        let client = db.client().await;
        Self { db, client }
    }

    /// Makes a queue. `settings` are arguments of `host.create_queue`, as SQL.
    pub async fn queue(&self, name: &str, settings: &str) {
        let comma = if settings.is_empty() { "" } else { ", " };
        self.run(&format!("SELECT host.create_queue('{name}'{comma}{settings})")).await;
    }

    /// Deploys a plugin as the queue's handler. Returns the version.
    pub async fn deploy(&self, queue: &str, name: &str, how: Deployment) -> i32 {
        let wasm = std::fs::read(plugin(name)).expect("the plugin");
        self.deploy_bytes(queue, &wasm, how).await
    }

    /// Deploys any bytes, which no command would.
    pub async fn deploy_bytes(&self, queue: &str, wasm: &[u8], how: Deployment) -> i32 {
        let sha256 = Digest::of(wasm);
        let store = "INSERT INTO host.component (sha256, wasm) VALUES ($1, $2)
             ON CONFLICT DO NOTHING";
        self.client.execute(store, &[&sha256.as_str(), &wasm]).await.expect("store the component");
        let config: Map<_, _> =
            how.config.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        let deploy = "SELECT version
             FROM host.deploy($1, 'default', $2, $3, $4, $5, $6, $7, $8, $9, $10, 4194304)";
        let row = self
            .client
            .query_one(
                deploy,
                &[
                    &queue,
                    &sha256.as_str(),
                    &Value::Object(config),
                    &how.isolation,
                    &how.concurrency,
                    &how.memory_bytes,
                    &how.timeout_ms,
                    &how.cpu_ms,
                    &how.log_bytes,
                    &how.follow_ups,
                ],
            )
            .await;
        row.expect("deploy").get(0)
    }

    /// Runs SQL.
    pub async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// Pauses a queue, or has it go on.
    pub async fn pause(&self, queue: &str, paused: bool) {
        self.run(&format!("UPDATE host.queue SET paused = {paused} WHERE name = '{queue}'")).await;
    }

    /// A number that SQL says.
    pub async fn number(&self, sql: &str) -> i64 {
        let row = self.client.query_one(&format!("SELECT ({sql})::bigint"), &[]).await;
        row.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
    }

    /// The texts of SQL's first column.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let rows = self.client.query(&format!("SELECT x::text FROM ({sql}) AS t (x)"), &[]).await;
        rows.unwrap_or_else(|e| panic!("{sql}: {e:?}")).iter().map(|row| row.get(0)).collect()
    }

    /// Waits until SQL says a number.
    pub async fn wait_number(&self, sql: &str, wanted: i64) {
        wait_for(sql, wanted, async || self.number(sql).await).await;
    }

    /// Messages of a queue that are leased and not settled.
    pub async fn in_flight(&self, queue: &str) -> i64 {
        self.number(&backlog("in_flight", queue)).await
    }

    /// Messages of a queue that are to be handled, now or later.
    pub async fn unsettled(&self, queue: &str) -> i64 {
        self.number(&unsettled(queue)).await
    }

    /// Waits until a queue has nothing to do, neither now nor later.
    pub async fn wait_done(&self, queue: &str) {
        self.wait_number(&unsettled(queue), 0).await;
    }

    /// Waits until `n` live hosts run a version of the queue's handler.
    pub async fn wait_loaded(&self, queue: &str, version: i32, n: i64) {
        let loaded = format!(
            "SELECT count(*) FROM host.loaded l
             JOIN host.session s ON s.id = l.session_id AND s.ended_at IS NULL
             JOIN host.handler h ON h.id = l.handler_id
             JOIN host.queue q ON q.id = h.queue_id
             WHERE q.name = '{queue}' AND l.version = {version} AND l.error IS NULL"
        );
        self.wait_number(&loaded, n).await;
    }

    /// Starts a host of that name. Hosts of all tests share compiled components.
    pub fn serve(&self, name: &str, args: &[&str]) -> Serve {
        self.db.serve(&[&["--name", name, "--cache", COMPILED], args].concat())
    }

    /// The same, with its log in a file.
    pub fn serve_into(&self, name: &str, args: &[&str], log: File) -> Serve {
        self.db.serve_into(&[&["--name", name, "--cache", COMPILED], args].concat(), log)
    }

    /// The live session of a host of that name.
    pub async fn session(&self, name: &str) -> i64 {
        let live = format!(
            "SELECT max(id) FROM host.session WHERE host_name = '{name}' AND ended_at IS NULL"
        );
        let exists = format!("SELECT coalesce(({live}), 0)");
        let mut session = 0;
        super::wait_until(&format!("host {name} has a session"), async || {
            session = self.number(&exists).await;
            session > 0
        })
        .await;
        session
    }

    /// Messages of a queue that a session has leased and not settled.
    pub async fn held_by(&self, queue: &str, session: i64) -> i64 {
        self.number(&format!(
            "SELECT count(*) FROM host.{queue}__lease l WHERE l.session_id = {session} AND l.row_count > 0
             AND NOT EXISTS (SELECT FROM host.{queue}__settlement s WHERE s.lease_id = l.id AND s.rest = 0)"
        ))
        .await
    }

    /// Waits until a session holds a lease on a queue.
    pub async fn wait_held(&self, queue: &str, session: i64) {
        super::wait_until(&format!("session {session} holds a lease of {queue}"), async || {
            self.held_by(queue, session).await > 0
        })
        .await;
    }
}

/// What a queue has to do, now and later.
fn unsettled(queue: &str) -> String {
    let waiting = backlog("waiting + in_flight", queue);
    format!("({waiting}) + (SELECT scheduled FROM host.{queue}__stored(1000000))")
}

/// A number of the backlog of a queue's only handler.
fn backlog(what: &str, queue: &str) -> String {
    format!(
        "SELECT {what} FROM host.{queue}__backlog((SELECT h.id FROM host.handler h
             JOIN host.queue q ON q.id = h.queue_id WHERE q.name = '{queue}'), 1000000)"
    )
}
