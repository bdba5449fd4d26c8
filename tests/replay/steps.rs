//! A walk: one random step after the other, each done by the model and by the database.

mod hosts;

use std::collections::BTreeMap;

use fastrand::Rng;
use model::{Connection, Doing, Id, Lease, Life, Message, Session, Settle, Transaction, World};

use super::facts::{difference, facts};
use super::stage::{LINKS, Link, Stage, id, number};
use crate::harness::TestDb;

const SESSIONS: u8 = 6;
/// Of transactions and of messages, since the model's sets have no more.
const MANY: u16 = 110;

/// How often what happened.
pub type Tally = BTreeMap<&'static str, u32>;

/// What must happen in a run.
pub const RESULTS: &[&str] = &[
    "begin",
    "insert",
    "insert with an old id",
    "insert rolled back",
    "commit",
    "roll back",
    "prepare",
    "lease",
    "lease nothing",
    "lease for an ended session",
    "lease lost and its number given again",
    "settle",
    "settled before",
    "settle refused",
    "settle waits",
    "take over",
    "take over refused",
    "take over waits",
    "poisoned",
    "waited and went on",
    "waited in vain",
    "end a session",
    "promote",
    "promote nothing",
    "promote while another does",
    "truncate",
    "truncate refused",
    "advance",
    "advance refused",
    "deploy",
];

/// What a session knows of a lease.
struct ReplayLease {
    lease: Lease,
    read: Vec<Message>,
    sent: Vec<Settle>,
}

pub struct Walk {
    rng: Rng,
    seed: u64,
    world: World,
    stage: Stage,
    held: Vec<ReplayLease>,
    drawn: Vec<Id>,
    payloads: u16,
    tokens: u16,
    trace: Vec<String>,
}

/// The lease that a transaction settles or takes over.
fn about(transaction: &Transaction) -> Option<Id> {
    match &transaction.doing {
        Doing::Settle(request) => Some(request.lease),
        Doing::TakeOver(request) => Some(request.lease),
        _ => None,
    }
}

impl Walk {
    pub async fn new(db: &TestDb, number: i32, links: Vec<Link>, seed: u64) -> Self {
        let stage = Stage::new(db, number, links, SESSIONS).await;
        let mut rng = Rng::with_seed(seed);
        let mut walk = Self {
            seed,
            world: World::new(SESSIONS, rng.u8(1..4)),
            rng,
            stage,
            held: Vec::new(),
            drawn: Vec::new(),
            payloads: 0,
            tokens: 0,
            trace: Vec::new(),
        };
        if walk.rng.u8(..4) > 0 {
            walk.deploy().await;
        }
        walk
    }

    /// Ends what is open, and gives the connections back.
    pub async fn end(mut self) -> Vec<Link> {
        while let Some(&who) = self.free().first() {
            self.finish(who, false).await;
            self.wake_up().await;
        }
        self.stage.end().await
    }

    /// Does a step, and compares.
    pub async fn step(&mut self, tally: &mut Tally) {
        self.world.now += 1;
        let done = loop {
            if let Some(done) = self.try_step().await {
                break done;
            }
        };
        *tally.entry(done).or_default() += 1;
        for result in self.wake_up().await {
            *tally.entry(result).or_default() += 1;
        }
        self.compare().await;
    }

    async fn compare(&self) {
        let difference = difference(&facts(&self.world), &self.stage.facts().await);
        assert!(difference.is_empty(), "\n{difference}{}", self.story());
        let right = self.world.each_in_one_place()
            && self.world.each_effect_once()
            && !self.world.db.settled_unseen
            && !self.world.db.truncated_unsettled;
        assert!(right, "{}", self.story());
    }

    /// How it came to this, and how to see it again.
    fn story(&self) -> String {
        format!("SEED={} WALKS=1, after:\n{}", self.seed, self.trace.join("\n"))
    }

    fn note(&mut self, step: String) {
        self.trace.push(step);
    }

    /// The connections that are in the midst of a transaction.
    fn open(&self) -> Vec<Connection> {
        self.world.open.keys().copied().collect()
    }

    /// Those of them that wait for nobody.
    fn free(&self) -> Vec<Connection> {
        let mut open = self.open();
        open.retain(|who| !self.waits(*who));
        open
    }

    fn someone_waits(&self) -> bool {
        self.free().len() < self.world.open.len()
    }

    fn waits(&self, who: Connection) -> bool {
        self.stage.links[usize::from(who)].waiting.is_some()
    }

    fn idle(&self) -> Option<Connection> {
        (0..LINKS).find(|who| !self.world.open.contains_key(who))
    }

    fn choose<T>(&mut self, from: impl IntoIterator<Item = T>) -> Option<T> {
        let all: Vec<T> = from.into_iter().collect();
        (!all.is_empty()).then(|| self.rng.usize(..all.len())).and_then(|n| all.into_iter().nth(n))
    }

    /// A session, mostly one that lives.
    fn session(&mut self) -> Session {
        let live = |s: &Session| self.world.db.sessions[usize::from(*s)] == Life::Live;
        let live: Vec<_> = (0..SESSIONS).filter(live).collect();
        if self.rng.u8(..6) == 0 {
            self.rng.u8(..SESSIONS)
        } else {
            self.choose(live).expect("one lives")
        }
    }

    /// A step, if the one that was thought of can be done now.
    async fn try_step(&mut self) -> Option<&'static str> {
        if self.someone_waits() && self.rng.u8(..3) > 0 {
            // Nobody should have to wait so long that it gives up.
            let who = self.free().into_iter().find(|who| self.is_waited_for(*who))?;
            let commits = self.rng.bool();
            return Some(self.finish(who, commits).await);
        }
        match self.rng.u8(..100) {
            0..8 => self.begin().await,
            8..22 => self.insert().await,
            22..24 => self.draw().await,
            24..38 => self.end_one().await,
            38..52 => self.lease().await,
            52..68 => self.settle().await,
            68..80 => self.take_over().await,
            80..85 => self.end_session().await,
            85..90 => self.promote().await,
            90..95 => self.truncate().await,
            95..99 => self.advance().await,
            _ => self.deploy().await,
        }
    }

    /// Whether its end is what another waits for.
    fn is_waited_for(&self, who: Connection) -> bool {
        let lease = about(&self.world.open[&who]);
        let waiting = self.world.open.iter().filter(|(other, _)| self.waits(**other));
        lease.is_some() && waiting.map(|(_, t)| about(t)).any(|l| l == lease)
    }

    async fn begin(&mut self) -> Option<&'static str> {
        let who = self.idle().filter(|_| u16::from(self.world.db.next_tx) < MANY)?;
        self.note(format!("{who}: begin"));
        self.world.produce(who);
        self.stage.run(who, "BEGIN; SELECT txid_current()").await;
        Some("begin")
    }

    async fn draw(&mut self) -> Option<&'static str> {
        let drawn = self.world.draw_message();
        self.note(format!("draw {drawn:?}"));
        let real: i64 = self.stage.value("SELECT nextval('queue.{q}_id_seq')").await;
        assert_eq!(id(real), drawn, "{}", self.story());
        self.drawn.push(drawn);
        Some("draw")
    }

    async fn insert(&mut self) -> Option<&'static str> {
        let produces = |who: &Connection| matches!(self.world.open[who].doing, Doing::Produce);
        let prepared = |who: &Connection| self.stage.links[usize::from(*who)].prepared.is_some();
        let mut open = self.open();
        open.retain(|who| produces(who) && !prepared(who));
        let who = self.choose(open)?;
        if self.payloads >= MANY {
            return None;
        }
        let payload = self.payloads;
        self.payloads += 1;
        let old = if self.rng.u8(..3) == 0 { self.drawn.pop() } else { None };
        let at = old.unwrap_or_else(|| self.world.draw_message());
        self.note(format!("{who}: insert {payload} as {at:?}"));
        let insert = match old {
            None => format!("INSERT INTO queue.{{q}} (payload) VALUES ('{payload}')"),
            Some(old) => format!(
                "INSERT INTO queue.{{q}} (id, payload) OVERRIDING SYSTEM VALUE VALUES ({}, '{payload}')",
                number(old)
            ),
        };
        if self.rng.u8(..8) == 0 {
            self.note(format!("{who}: to a savepoint"));
            self.world.db.used = self.world.db.used.with(at.leaf());
            self.stage.run(who, &format!("SAVEPOINT s; {insert}; ROLLBACK TO s")).await;
            // The lock on the leaf goes with the savepoint.
            return Some("insert rolled back");
        }
        self.world.insert(who, at, payload);
        let nested = self.rng.bool();
        let (save, release) = if nested { ("SAVEPOINT s; ", "; RELEASE s") } else { ("", "") };
        self.stage.run(who, &format!("{save}{insert}{release}")).await;
        Some(if old.is_some() { "insert with an old id" } else { "insert" })
    }

    async fn end_one(&mut self) -> Option<&'static str> {
        let who = self.choose(self.free())?;
        let produces = matches!(self.world.open[&who].doing, Doing::Produce);
        let nobody = self.stage.links.iter().all(|link| link.prepared.is_none());
        if produces && nobody && self.rng.u8(..5) == 0 {
            let name = format!("replay {} {} {who}", self.seed, self.trace.len());
            self.note(format!("{who}: prepare"));
            self.stage.run(who, &format!("PREPARE TRANSACTION '{name}'")).await;
            self.stage.links[usize::from(who)].prepared = Some(name);
            return Some("prepare");
        }
        let commits = self.rng.u8(..4) > 0;
        Some(self.finish(who, commits).await)
    }

    /// Commits or rolls back.
    async fn finish(&mut self, who: Connection, commits: bool) -> &'static str {
        let end = if commits { "COMMIT" } else { "ROLLBACK" };
        self.note(format!("{who}: {end}"));
        let lease = self.world.open[&who].rows.leases.first().map(|l| l.id);
        let leases = matches!(self.world.open[&who].doing, Doing::Lease(_));
        if commits {
            self.world.commit(who);
        } else {
            self.world.abort(who);
        }
        match self.stage.links[usize::from(who)].prepared.take() {
            Some(name) => self.stage.run(who, &format!("{end} PREPARED '{name}'")).await,
            None => self.stage.run(who, end).await,
        }
        if let Some(lost) = lease.filter(|_| leases && !commits) {
            let next = Id { generation: self.world.db.generation, number: self.world.db.next[1] };
            if (Id { number: lost.number + 1, ..lost }) == next && self.rng.bool() {
                // As after a crash.
                self.note(format!("the number {lost:?} is given out again"));
                self.world.db.next[1] = lost.number;
                let set =
                    format!("SELECT setval('host.{{q}}__lease_id_seq', {}, false)", number(lost));
                let _: i64 = self.stage.value(&set).await;
                return "lease lost and its number given again";
            }
        }
        if commits { "commit" } else { "roll back" }
    }

    /// Leaves a transaction open, or ends it.
    async fn leave_or_finish(&mut self, who: Connection) {
        if self.rng.u8(..3) > 0 {
            self.finish(who, true).await;
        }
    }
}
