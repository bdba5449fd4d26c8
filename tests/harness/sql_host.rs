//! Drives the SQL functions of a queue by hand, as a host would, so that a test can stop between
//! any two steps. Panics where a test has no use for the error.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use super::{TestDb, wait_until};

/// Creates a queue. `settings` are further arguments of `host.create_queue`, in SQL.
pub async fn create_queue(client: &Client, name: &str, settings: &str) {
    client.batch_execute(&format!("SELECT host.create_queue('{name}'{settings})")).await.unwrap();
}

/// Settings of a queue that rotates as often as it can.
pub const ROTATES_ALWAYS: &str =
    ", p_rotate_bytes => 8192, p_rotate_age_ms => 10, p_wake_up => false";

/// Deploys bytes that no host will ever run. Returns the handler's number.
pub async fn deploy(client: &Client, queue: &str, handler: &str) -> i32 {
    let sha256 = "0".repeat(64);
    let upload = "INSERT INTO host.component (sha256, wasm) VALUES ($1, '') ON CONFLICT DO NOTHING";
    client.execute(upload, &[&sha256]).await.unwrap();
    let call = "SELECT handler_id FROM
        host.deploy($1, $2, $3, '{}', 'message', 1, 1 << 26, 1000, 1000, 1000, 10, 1000)";
    client.query_one(call, &[&queue, &handler, &sha256]).await.unwrap().get(0)
}

/// The SQLSTATE of a refusal.
#[track_caller]
pub fn sqlstate<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.expect_err("it should have been refused");
    error.code().unwrap_or_else(|| panic!("{error}")).code().to_owned()
}

/// The single value of a query without parameters.
pub async fn value<T: for<'a> tokio_postgres::types::FromSql<'a>>(client: &Client, sql: &str) -> T {
    client.query_one(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
}

/// A session with one connection, and a handler of a queue.
pub struct SqlHost {
    /// The connection that it works on.
    pub client: Client,
    /// The queue's name.
    pub queue: String,
    /// The handler's number.
    pub handler: i32,
    /// The session's.
    pub session: i32,
    /// The lane that it leases from.
    pub lane: i32,
    next_seq: Arc<AtomicI64>,
}

/// A lease, as its session knows it.
#[derive(Clone, Copy, Debug)]
pub struct SqlLease {
    /// Its number in the log.
    pub id: i64,
    /// What the session calls it.
    pub seq: i64,
    /// Fences it.
    pub token: Uuid,
    /// Its messages.
    pub count: i32,
    /// Whether the queue had more.
    pub more: bool,
}

impl SqlHost {
    /// Begins a session.
    pub async fn new(db: &TestDb, queue: &str, handler: i32) -> Self {
        let client = db.client().await;
        let session = value(&client, "SELECT host.begin_session('by hand', 0, 'none')").await;
        let next_seq = Arc::new(AtomicI64::new(1));
        Self { client, queue: queue.to_owned(), handler, session, lane: 0, next_seq }
    }

    /// A database with the queue `q`, whose handler leases by hand.
    pub async fn with_queue(settings: &str) -> (TestDb, Client, Self) {
        let db = TestDb::new().await;
        let client = db.client().await;
        create_queue(&client, "q", settings).await;
        let handler = deploy(&client, "q", "default").await;
        let hand = Self::new(&db, "q", handler).await;
        (db, client, hand)
    }

    /// Another connection of the same session.
    pub async fn beside(&self, db: &TestDb) -> Self {
        let client = db.client().await;
        let (queue, next_seq) = (self.queue.clone(), self.next_seq.clone());
        let (handler, session, lane) = (self.handler, self.session, self.lane);
        Self { client, queue, handler, session, lane, next_seq }
    }

    /// Ends the session; `lost`: as one that was found dead.
    pub async fn end(&self, lost: bool) {
        let end = "SELECT host.end_session($1, $2)";
        self.client.execute(end, &[&self.session, &lost]).await.unwrap();
    }

    /// A number for the next lease.
    pub fn next_seq(&self) -> i64 {
        self.next_seq.fetch_add(1, Ordering::Relaxed)
    }

    /// A query on the queue: `{q}` is its name.
    pub async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, Error> {
        self.client.query_one(&sql.replace("{q}", &self.queue), params).await
    }

    /// The single value of a query.
    pub async fn value<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, sql: &str) -> T {
        value(&self.client, &sql.replace("{q}", &self.queue)).await
    }

    /// Runs statements on the queue.
    pub async fn run(&self, sql: &str) {
        let sql = sql.replace("{q}", &self.queue);
        self.client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// Enqueues the numbers from `a` to `b`.
    pub async fn enqueue(&self, a: i64, b: i64) {
        let numbers = "INSERT INTO queue.{q} (payload) SELECT to_jsonb(g) FROM generate_series";
        self.run(&format!("{numbers}({a}::bigint, {b}::bigint) g")).await;
    }

    /// Leases up to so many messages, and up to so many bytes.
    pub async fn try_lease(&self, messages: i32, bytes: i64) -> Result<Option<SqlLease>, Error> {
        let (seq, token) = (self.next_seq(), Uuid::new_v4());
        let call =
            "SELECT lease_id, row_count, more FROM host.{q}__lease($1, $2, $3, $4, $5, $6, $7)";
        let params: [&(dyn ToSql + Sync); 7] =
            [&self.handler, &self.session, &seq, &token, &messages, &bytes, &self.lane];
        let row = self.query(call, &params).await?;
        Ok(row.get::<_, Option<i64>>(0).map(|id| SqlLease {
            id,
            seq,
            token,
            count: row.get(1),
            more: row.get(2),
        }))
    }

    /// Leases up to so many messages.
    pub async fn lease(&self, messages: i32) -> Option<SqlLease> {
        self.try_lease(messages, 1 << 40).await.expect("lease")
    }

    /// Leases what must be there.
    pub async fn must_lease(&self, messages: i32) -> SqlLease {
        self.lease(messages).await.expect("there are messages")
    }

    /// The positions and payloads of a lease.
    pub async fn read(&self, held: &SqlLease) -> Vec<(i32, i64)> {
        let read = "SELECT pos, payload::bigint FROM host.{q}__read($1, $2) ORDER BY pos";
        let read = read.replace("{q}", &self.queue);
        let rows = self.client.query(&read, &[&self.session, &held.seq]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// The payloads of a lease, which must be as many as it says.
    pub async fn payloads(&self, held: &SqlLease) -> Vec<i64> {
        let rows = self.read(held).await;
        assert_eq!(rows.len() as i32, held.count, "{held:?}");
        rows.into_iter().map(|(_, payload)| payload).collect()
    }

    /// The payloads of a lease that may be of some positions only.
    pub async fn payloads_of(&self, held: &SqlLease) -> Vec<i64> {
        self.read(held).await.into_iter().map(|(_, payload)| payload).collect()
    }

    /// Acks positions, in a multirange's text. `more`: further arguments, in SQL.
    pub async fn settle(
        &self,
        held: &SqlLease,
        seq: i32,
        settled: &str,
        more: &str,
    ) -> Result<bool, Error> {
        let call = "SELECT host.{q}__settle($1, $2, $3, $4, $5::text::int4multirange";
        let params: [&(dyn ToSql + Sync); 5] =
            [&held.id, &self.session, &held.token, &seq, &settled];
        Ok(self.query(&format!("{call}{more})"), &params).await?.get(0))
    }

    /// Acks a whole lease that nothing of is settled yet.
    pub async fn ack(&self, held: &SqlLease) {
        let all = format!("{{[0,{})}}", held.count);
        assert!(self.settle(held, 0, &all, "").await.expect("settle"));
    }

    /// Leases and acks all there is; returns the payloads.
    pub async fn work_off(&self) -> Vec<i64> {
        let mut done = Vec::new();
        while let Some(held) = self.lease(1_000).await {
            done.extend(self.payloads(&held).await);
            self.ack(&held).await;
        }
        done
    }

    /// Takes a lease over, up to so many messages of it. `None`: nothing was left to run.
    pub async fn take_over(&self, lease: i64, messages: i32) -> Result<Option<SqlLease>, Error> {
        let (seq, token) = (self.next_seq(), Uuid::new_v4());
        let call =
            "SELECT lease_id, row_count, more FROM host.{q}__take_over($1, $2, $3, $4, $5, $6)";
        let deaths_max = host_queue::lease::DEATHS_MAX;
        let params: [&(dyn ToSql + Sync); 6] =
            [&lease, &self.session, &seq, &token, &messages, &deaths_max];
        let row = self.query(call, &params).await?;
        Ok(row.get::<_, Option<i64>>(0).map(|id| SqlLease {
            id,
            seq,
            token,
            count: row.get(1),
            more: row.get(2),
        }))
    }

    /// The leases without a master, as this session sees them.
    pub async fn strays(&self) -> Vec<i64> {
        let call = "SELECT host.{q}__strays($1, $2, 100)";
        let call = call.replace("{q}", &self.queue);
        let rows = self.client.query(&call, &[&self.handler, &self.session]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// One try to truncate a leaf; `Some`: why not.
    pub async fn truncate(&self, leaf: i32) -> Option<String> {
        self.query("SELECT host.{q}__truncate($1)", &[&leaf]).await.expect("truncate").get(0)
    }

    /// One try to begin the next generation; `Some`: why not.
    pub async fn advance(&self) -> Option<String> {
        self.value("SELECT host.{q}__advance()").await
    }

    /// Begins the next generation, as soon as the present one is old enough (some milliseconds,
    /// which a quick test is there before).
    pub async fn next_generation(&self) {
        wait_until("the next generation", async || self.advance().await.is_none()).await;
    }
}

/// Waits until a connection of another's waits for a lock.
pub async fn wait_for_lock(watcher: &Client, pid: i32) {
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'";
    wait_until("it waits for a lock", async || {
        watcher.query_one(waits, &[&pid]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
}

/// The process of a connection.
pub async fn backend(client: &Client) -> i32 {
    value(client, "SELECT pg_backend_pid()").await
}

/// Every row of a log, of messages or of the schedule is inserted and never touched again (I3). The
/// caller has dropped its connections: only then is all that they did counted.
pub async fn assert_only_inserted(db: &TestDb) {
    let client = db.client().await;
    let others = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    wait_until("the other connections are closed", async || {
        value::<i64>(&client, others).await == 0
    })
    .await;
    let logs = r"FROM pg_stat_user_tables
        WHERE relname ~ '__(message|lease|settlement|promotion|schedule|history)_\d+$|^heartbeat_\d$'";
    let inserted: i64 = value(&client, &format!("SELECT sum(n_tup_ins)::bigint {logs}")).await;
    assert!(inserted > 0, "nothing was counted");
    let touched: Vec<String> = value(
        &client,
        &format!(
            "SELECT coalesce(array_agg(relname::text), '{{}}') {logs} AND n_tup_upd + n_tup_del > 0"
        ),
    )
    .await;
    assert!(touched.is_empty(), "updated or deleted: {touched:?}");
}
