//! Migrating beside hosts of the version before. They are many connections that do what a host
//! does, each statement as that version's hosts send it.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use host_queue::migrate::{SchemaState, check};
use tokio_postgres::Error;

use super::old::{migrate_as_then, version_13};
use crate::harness::process::{Serve, host_command};
use crate::harness::sql_host::{create_queue, deploy};
use crate::harness::{SqlHost, SqlLease, TestDb, wait_until};

/// Rotates often, and never says that a hand may not.
const SETTINGS: &str = ", p_rotate_bytes => 65536, p_rotate_age_ms => 10, p_wake_up => false";

/// One queue: who works on it, and what became of its messages, which are numbers.
struct Crew {
    queue: &'static str,
    handler: i32,
    produced: AtomicI64,
    done: Mutex<HashSet<i64>>,
    /// Numbers that came again after they were done.
    doubled: Mutex<Vec<i64>>,
    no_more: AtomicBool,
    over: AtomicBool,
}

impl Crew {
    async fn new(db: &TestDb, queue: &'static str, settings: &str) -> Self {
        let client = db.client().await;
        create_queue(&client, queue, &format!("{SETTINGS}{settings}")).await;
        Self {
            queue,
            handler: deploy(&client, queue, "default").await,
            produced: AtomicI64::new(0),
            done: Mutex::default(),
            doubled: Mutex::default(),
            no_more: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    fn count(&self) -> usize {
        self.done.lock().unwrap().len()
    }

    fn is_done(&self) -> bool {
        self.count() as i64 == self.produced.load(Ordering::SeqCst)
    }

    /// Everything that goes on on a queue, until it is over.
    async fn work(&self, db: &TestDb) {
        tokio::join!(self.produce(db), self.handle(db), self.handle(db), self.keep_up(db));
    }

    async fn produce(&self, db: &TestDb) {
        let client = db.client().await;
        let insert = format!("INSERT INTO queue.{} (payload) SELECT to_jsonb(g)", self.queue);
        let insert = format!("{insert} FROM generate_series($1::bigint, $1 + 4) g");
        while !self.no_more.load(Ordering::SeqCst) {
            let n = self.produced.load(Ordering::SeqCst);
            if passes(client.execute(&insert, &[&n]).await).is_some() {
                self.produced.fetch_add(5, Ordering::SeqCst);
            }
        }
    }

    async fn handle(&self, db: &TestDb) {
        let hand = SqlHost::new(db, self.queue, self.handler).await;
        while !self.over.load(Ordering::SeqCst) {
            match passes(hand.try_lease(20, 1 << 40).await).flatten() {
                Some(held) => self.settle(&hand, &held).await,
                None => tokio::task::yield_now().await,
            }
        }
    }

    /// Acks a third, retries a third that is run for the first time, and gives the rest up.
    async fn settle(&self, hand: &SqlHost, held: &SqlLease) {
        let read = format!(
            "SELECT pos, payload::bigint, attempt FROM host.{}__read($1, $2) ORDER BY pos",
            self.queue
        );
        let rows = loop {
            let rows = hand.client.query(&read, &[&hand.session, &held.seq]).await;
            if let Some(rows) = passes(rows) {
                break rows;
            }
        };
        assert_eq!(rows.len() as i32, held.count, "{held:?}");
        let (mut retry, mut dead, mut done) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let (pos, number, attempt) =
                (row.get::<_, i32>(0), row.get::<_, i64>(1), row.get::<_, i16>(2));
            match number % 3 {
                1 if attempt == 1 => {
                    retry.push(pos);
                    continue;
                }
                2 => dead.push(pos),
                _ => {}
            }
            done.push(number);
        }
        let list = |positions: &[i32], each: &str| {
            let all: Vec<_> =
                positions.iter().map(|pos| each.replace("POS", &pos.to_string())).collect();
            format!("ARRAY[{}]", all.join(","))
        };
        let entry = "'{\"attempt\": 1, \"error\": \"no\"}'::jsonb";
        let mut more = Vec::new();
        if !retry.is_empty() {
            let (at, delays, entries) =
                (list(&retry, "POS"), list(&retry, "5::bigint"), list(&retry, entry));
            more.push(format!(
                ", p_retry_pos => {at}, p_retry_delay_ms => {delays}, p_retry_entry => {entries}"
            ));
        }
        if !dead.is_empty() {
            let (at, why, entries) =
                (list(&dead, "POS"), list(&dead, "'tired'"), list(&dead, entry));
            more.push(format!(
                ", p_dead_pos => {at}, p_dead_reason => {why}, p_dead_entry => {entries}"
            ));
        }
        let all = format!("{{[0,{})}}", held.count);
        while passes(hand.settle(held, 0, &all, &more.concat()).await).is_none() {}
        let mut known = self.done.lock().unwrap();
        self.doubled.lock().unwrap().extend(done.into_iter().filter(|n| !known.insert(*n)));
    }

    /// Promotes and rotates.
    async fn keep_up(&self, db: &TestDb) {
        let client = db.client().await;
        let calls = [
            "promote(100)",
            "truncate(0)",
            "truncate(1)",
            "truncate(2)",
            "advance()",
            "truncate_schedule()",
        ];
        while !self.over.load(Ordering::SeqCst) {
            for call in calls {
                let sql = format!("SELECT * FROM host.{}__{call}", self.queue);
                passes(client.query(&sql, &[]).await);
            }
        }
    }
}

/// The answer, unless it was one that a host of that version asks for again: a plan that has
/// changed, a lock that it waited for in vain. Never a deadlock, and never a function or a table
/// that is not there.
#[track_caller]
fn passes<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let code = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
            assert!(["0A000", "55P03"].contains(&&*code), "{error:?}");
            None
        }
    }
}

async fn crews(db: &TestDb) -> [Crew; 4] {
    [
        Crew::new(db, "order", "").await,
        Crew::new(db, "kept", ", p_keep_ms => 3600000").await,
        Crew::new(db, "delays", ", p_delays_ms => '{1,2}'").await,
        Crew::new(db, "z", "").await,
    ]
}

/// Waits until each queue has done a number of messages more than it has now.
async fn go_on(crews: &[Crew], more: usize) {
    let before: Vec<_> = crews.iter().map(Crew::count).collect();
    wait_until("all queues go on", async || {
        crews.iter().zip(&before).all(|(crew, before)| crew.count() >= before + more)
    })
    .await;
}

async fn finish(db: &TestDb, crews: &[Crew]) {
    for crew in crews {
        crew.no_more.store(true, Ordering::SeqCst);
    }
    wait_until("all is done", async || crews.iter().all(Crew::is_done)).await;
    for crew in crews {
        crew.over.store(true, Ordering::SeqCst);
    }
    let client = db.client().await;
    for crew in crews {
        assert_eq!(*crew.doubled.lock().unwrap(), [0; 0], "{}", crew.queue);
        let dead = format!(
            "SELECT count(*), count(DISTINCT message_id) FROM host.{}__dead_letter",
            crew.queue
        );
        let dead = client.query_one(&dead, &[]).await.unwrap();
        let wanted = crew.done.lock().unwrap().iter().filter(|n| **n % 3 == 2).count() as i64;
        assert_eq!(
            (dead.get::<_, i64>(0), dead.get::<_, i64>(1)),
            (wanted, wanted),
            "{}",
            crew.queue
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_of_the_version_before_work_on_while_it_runs() {
    let db = TestDb::empty().await;
    migrate_as_then(&db.client().await, &version_13()).await;
    let crews = crews(&db).await;
    let work = async {
        let all = crews.iter().map(|crew| crew.work(&db));
        futures_util::future::join_all(all).await;
    };
    let upgrade = async {
        go_on(&crews, 300).await;
        let text = db.host(&["migrate"]).await.ok();
        assert!(text.starts_with("Migrated from version 13 to "), "{text}");
        // The same hosts, on the tables and functions of this version, over at least one turn of
        // the rotation.
        go_on(&crews, 3_000).await;
        let text = db.host(&["migrate"]).await.ok();
        assert!(text.starts_with("Nothing to do"), "{text}");
        finish(&db, &crews).await;
    };
    tokio::join!(work, upgrade);
    let status = db.host(&["doctor", "--json"]).await;
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let shape = status["findings"].as_array().unwrap().iter().find(|f| f["kind"] == "damaged");
    assert_eq!(shape, None, "{status}");
}

/// Killed while it waits for a queue: those before it are upgraded, this one and those after it are
/// not. All are served by the hosts that serve them, and no other begins to.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_killed_goes_on_where_it_was() {
    let db = TestDb::empty().await;
    let old = version_13();
    migrate_as_then(&db.client().await, &old).await;
    let crews = crews(&db).await;
    let work = async {
        let all = crews.iter().map(|crew| crew.work(&db));
        futures_util::future::join_all(all).await;
    };
    let upgrade = async {
        go_on(&crews, 100).await;
        // A producer that takes its time. Its table is locked last.
        let mut producer = db.client().await;
        let open = producer.transaction().await.unwrap();
        open.execute("INSERT INTO queue.z (payload) VALUES ('0')", &[]).await.unwrap();
        let mut command = host_command(&["migrate"]);
        command.env("DATABASE_URL", &db.url);
        let migrate = Serve::spawn(command);
        migrate.wait_for_log("waiting for queue \"z\": process").await;
        let said = migrate.log();
        assert!(said.contains("holds RowExclusiveLock on "), "{said}");
        migrate.kill();

        let client = db.client().await;
        let files = host_queue::migrate::Migrations::embedded().unwrap();
        let version = files.version();
        assert_eq!(check(&client, &files).await, Ok(SchemaState::Unfinished { version }));
        assert_eq!(check(&client, &old).await, Ok(SchemaState::Newer { have: version, want: 13 }));
        let text = db.host(&["queue", "list"]).await.error(4);
        assert!(text.contains("has not reached all queues: run `host migrate`"), "{text}");
        // Nothing gives it the functions of the new version with the tables of the old one.
        let set = client.execute("SELECT host.set_limits('z', 10, NULL, NULL, NULL)", &[]).await;
        let error = set.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "55000", "{error:?}");
        create_queue(&client, "made", "").await;
        go_on(&crews, 3_000).await;
        open.rollback().await.unwrap();

        db.host(&["migrate"]).await.ok();
        assert_eq!(check(&client, &files).await, Ok(SchemaState::Current { version }));
        go_on(&crews, 300).await;
        finish(&db, &crews).await;
    };
    tokio::join!(work, upgrade);
}

/// Whoever has locked a queue for good is named, and the queues before it are done.
#[tokio::test]
async fn who_is_in_the_way_for_long_is_named() {
    let db = TestDb::empty().await;
    let client = db.client().await;
    migrate_as_then(&client, &version_13()).await;
    create_queue(&client, "q", "").await;
    let mut other = db.client().await;
    let open = other.transaction().await.unwrap();
    open.batch_execute(
        "SET LOCAL application_name = 'lunch'; LOCK TABLE host.q__lease IN ACCESS SHARE MODE",
    )
    .await
    .unwrap();
    let text = db.host(&["migrate"]).await.error(1);
    assert!(text.starts_with("queue \"q\" could not be changed for "), "{text}");
    assert!(text.contains("(lunch) holds AccessShareLock on host.q__lease since"), "{text}");
    assert!(text.contains("run `host migrate` again"), "{text}");
    drop(open);
    db.host(&["migrate"]).await.ok();
}
