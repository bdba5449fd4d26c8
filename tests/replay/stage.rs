//! The database's side of a walk: connections that can be left in the middle of a transaction, and
//! the calls. It knows nothing of the model's state.

use std::fmt::Write as _;
use std::sync::Arc;

use host_queue::constants::GENERATION_SIZE;
use model::{Id, Outcome, Settle};
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};
use uuid::Uuid;

use super::facts::multirange;
use crate::harness::TestDb;
use crate::harness::sql_host::{ROTATES_ALWAYS, backend, create_queue, value};

/// Connections of a walk.
pub const LINKS: u8 = 7;
const FACTS: &str = include_str!("facts.sql");

/// What a call came to: its row, or the SQLSTATE of its refusal.
pub type Answer = Result<Row, String>;

/// One connection.
pub struct Link {
    client: Arc<Client>,
    pid: i32,
    /// A call that waits for another transaction.
    pub waiting: Option<JoinHandle<Result<Row, Error>>>,
    /// The name of its transaction, once that is prepared.
    pub prepared: Option<String>,
}

/// A queue of its own, and who works on it.
pub struct Stage {
    watcher: Client,
    facts: Statement,
    pub links: Vec<Link>,
    pub sessions: Vec<i32>,
    pub handlers: Vec<i32>,
    queue: String,
    walk: i32,
}

/// The connections of a database that walks have one after the other.
pub async fn links(db: &TestDb) -> Vec<Link> {
    let mut links = Vec::new();
    for _ in 0..LINKS {
        let client = Arc::new(db.client().await);
        let pid = backend(&client).await;
        links.push(Link { client, pid, waiting: None, prepared: None });
    }
    links
}

/// A database for walks.
pub async fn database() -> TestDb {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "sink", ", p_wake_up => false").await;
    let id = format!(
        "CREATE FUNCTION public.id(bigint) RETURNS text LANGUAGE sql IMMUTABLE
         RETURN $1 / {GENERATION_SIZE} || '.' || $1 % {GENERATION_SIZE};
         CREATE INDEX ON queue.sink (((payload ->> 'walk')::int))"
    );
    client.batch_execute(&id).await.expect("a function for facts.sql");
    db
}

pub const fn number(id: Id) -> i64 {
    id.generation as i64 * GENERATION_SIZE + id.number as i64
}

pub const fn id(number: i64) -> Id {
    Id { generation: (number / GENERATION_SIZE) as u16, number: (number % GENERATION_SIZE) as u16 }
}

pub const fn token(token: u16) -> Uuid {
    Uuid::from_u128(token as u128 + 1)
}

impl Stage {
    pub async fn new(db: &TestDb, walk: i32, links: Vec<Link>, sessions: u8) -> Self {
        let watcher = db.client().await;
        let plan_once = "SET jit = off; SET plan_cache_mode = force_generic_plan";
        watcher.batch_execute(plan_once).await.expect("settings");
        let queue = format!("walk{walk}");
        create_queue(&watcher, &queue, ROTATES_ALWAYS).await;
        let mut ids = Vec::new();
        for _ in 0..sessions {
            ids.push(value(&watcher, "SELECT host.begin_session('by hand', 0, 'none')").await);
        }
        let facts = FACTS.replace("{q}", &queue);
        let facts = watcher.prepare(&facts).await.unwrap_or_else(|e| panic!("facts.sql: {e:?}"));
        Self { watcher, facts, links, sessions: ids, handlers: Vec::new(), queue, walk }
    }

    /// Drops the queue, and gives the connections back.
    pub async fn end(self) -> Vec<Link> {
        let drop = format!("SELECT host.drop_queue('{}', true)", self.queue);
        self.watcher.batch_execute(&drop).await.expect("drop the queue");
        self.links
    }

    /// All that the database has, sorted.
    pub async fn facts(&self) -> Vec<String> {
        let params: [&(dyn ToSql + Sync); 3] = [&self.walk, &self.sessions, &self.handlers];
        let rows = self.watcher.query(&self.facts, &params).await;
        let rows = rows.unwrap_or_else(|e| panic!("facts.sql: {e:?}"));
        let mut facts: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        facts.sort_unstable();
        facts
    }

    /// Runs statements on a connection. `{q}` is the queue.
    pub async fn run(&self, who: u8, sql: &str) {
        let sql = sql.replace("{q}", &self.queue);
        let link = &self.links[usize::from(who)];
        link.client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// Calls a function on a connection.
    pub async fn call(&self, who: u8, sql: &str) -> Answer {
        let sql = sql.replace("{q}", &self.queue);
        answer(self.links[usize::from(who)].client.query_one(&sql, &[]).await)
    }

    /// Calls a function that must wait for another transaction, and leaves it waiting.
    pub async fn call_and_leave(&mut self, who: u8, sql: &str) {
        let sql = sql.replace("{q}", &self.queue);
        let link = &mut self.links[usize::from(who)];
        let client = link.client.clone();
        link.waiting = Some(tokio::spawn(async move { client.query_one(&sql, &[]).await }));
        crate::harness::sql_host::wait_for_lock(&self.watcher, link.pid).await;
    }

    /// Whether a call that was left waiting has come to an end.
    pub fn is_finished(&self, who: u8) -> bool {
        self.links[usize::from(who)].waiting.as_ref().expect("it waits").is_finished()
    }

    /// What it came to.
    pub async fn collect(&mut self, who: u8) -> Answer {
        let call = self.links[usize::from(who)].waiting.take().expect("it waits");
        answer(call.await.expect("the task"))
    }

    /// A single value, of the watcher's connection.
    pub async fn value<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, sql: &str) -> T {
        value(&self.watcher, &sql.replace("{q}", &self.queue)).await
    }

    /// One more handler.
    pub async fn deploy(&mut self) {
        let name = format!("handler{}", self.handlers.len());
        let handler = crate::harness::sql_host::deploy(&self.watcher, &self.queue, &name).await;
        self.handlers.push(handler);
    }

    /// The call of settle that a request is.
    pub fn settle(&self, request: &Settle) -> String {
        let of = |wanted: fn(&Outcome) -> bool| {
            request.done.iter().filter(move |done| wanted(&done.outcome))
        };
        let list = |items: Vec<String>| format!("'{{{}}}'", items.join(","));
        let retries = || of(|o| matches!(o, Outcome::Retry(_)));
        let dead = || of(|o| *o == Outcome::Dead);
        let acks = || of(|o| *o == Outcome::Ack);
        let entries = |n: usize| format!("array_fill('{{\"error\": \"no\"}}'::jsonb, ARRAY[{n}])");
        let delay = |outcome: Outcome| match outcome {
            Outcome::Retry(delay) => (i64::from(delay) * DELAY_UNIT_MS).to_string(),
            _ => unreachable!("these are retries"),
        };
        let mut call = format!(
            "SELECT host.{{q}}__settle({}, {}, '{}', {}, '{}'",
            number(request.lease),
            self.sessions[usize::from(request.session)],
            token(request.token),
            request.seq,
            multirange(request.settled()),
        );
        let positions = |done: &model::Done| done.position.to_string();
        if retries().next().is_some() {
            write!(
                call,
                ", p_retry_pos => {}, p_retry_delay_ms => {}, p_retry_entry => {}",
                list(retries().map(positions).collect()),
                list(retries().map(|d| delay(d.outcome)).collect()),
                entries(retries().count())
            )
            .expect("a String takes all");
        }
        if dead().next().is_some() {
            write!(call, ", p_dead_pos => {}, p_dead_reason => array_fill('given up'::text, ARRAY[{}]), p_dead_entry => {}",
                list(dead().map(positions).collect()),
                dead().count(),
                entries(dead().count())
            ).expect("a String takes all");
        }
        if acks().next().is_some() {
            let (walk, handler, count) = (self.walk, request.handler, acks().count());
            let follow_up = |d: &model::Done| {
                let (payload, attempt) = (d.payload, d.attempt);
                format!(
                    r#"'{{"walk": {walk}, "payload": {payload}, "handler": {handler}, "attempt": {attempt}}}'"#
                )
            };
            let follow_ups: Vec<_> = acks().map(follow_up).collect();
            write!(
                call,
                ", p_follow_up_queue => array_fill('sink'::text, ARRAY[{count}]),
                p_follow_up_payload => ARRAY[{}]::bytea[],
                p_follow_up_headers => array_fill(NULL::jsonb, ARRAY[{count}]),
                p_follow_up_delay_ms => array_fill(0::bigint, ARRAY[{count}])",
                follow_ups.join(",")
            )
            .expect("a String takes all");
        }
        call + ")"
    }
}

/// A delay of the model in milliseconds: long, so that no two of different length are ever due in
/// another order.
pub const DELAY_UNIT_MS: i64 = 3_600;

fn answer(result: Result<Row, Error>) -> Answer {
    result.map_err(|error| match error.code() {
        Some(code) => code.code().to_owned(),
        None => panic!("no refusal: {error:?}"),
    })
}
