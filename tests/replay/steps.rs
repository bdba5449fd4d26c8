//! A walk: one random step after the other, each done by the model and by the database.

use std::collections::BTreeMap;

use fastrand::Rng;
use model::{
    Connection, Doing, Done, Handler, Id, Lease, Life, Message, Outcome, Refused, Session, Set,
    Settle, TakeOver, Transaction, World,
};

use super::facts::{difference, facts};
use super::stage::{Answer, LINKS, Link, Stage, id, number, token};
use crate::harness::{TestDb, wait_until};

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
struct Held {
    lease: Lease,
    read: Vec<Message>,
    sent: Vec<Settle>,
}

pub struct Walk {
    rng: Rng,
    seed: u64,
    world: World,
    stage: Stage,
    held: Vec<Held>,
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
        let mut producers = self.open();
        producers.retain(|who| produces(who) && !prepared(who));
        let who = self.choose(producers)?;
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

    async fn lease(&mut self) -> Option<&'static str> {
        let who = self.idle()?;
        let handler = self.choose(0..self.world.db.handlers.len() as Handler)?;
        let session = self.session();
        let (n, new_token) = (self.rng.u8(1..5), self.tokens);
        let mut after = self.world.clone();
        let asked = after.lease(who, handler, session, new_token, (n, false));
        if asked == Err(Refused::Busy) {
            return None;
        }
        self.tokens += 1;
        self.note(format!("{who}: lease {n} for {handler}, session {session}, token {new_token}"));
        let call = format!(
            "SELECT lease_id, row_count, more FROM host.{{q}}__lease({}, {}, {new_token}, '{}', {n}, 1 << 30)",
            self.stage.handlers[usize::from(handler)],
            self.stage.sessions[usize::from(session)],
            token(new_token)
        );
        self.stage.run(who, "BEGIN").await;
        let answer = self.stage.call(who, &call).await;
        let lease = match asked {
            Ok(lease) => lease,
            Err(refused) => {
                self.refused(who, refused, answer).await;
                return Some("lease for an ended session");
            }
        };
        let row = answer.unwrap_or_else(|code| panic!("{code}: {}", self.story()));
        let real = row.get::<_, Option<i64>>(0).map(id);
        assert_eq!(real, lease.as_ref().map(|l| l.id), "{}", self.story());
        let Some(lease) = lease else {
            if after.db.next[1] < self.next_lease().await {
                after = self.world.clone();
                let kept = after.lease(who, handler, session, new_token, (n, true));
                assert_eq!(kept, Ok(None));
            }
            self.world = after;
            self.leave_or_finish(who).await;
            return Some("lease nothing");
        };
        assert_eq!(row.get::<_, i32>(1), i32::from(lease.count), "{}", self.story());
        assert_eq!(row.get::<_, bool>(2), lease.more, "{}", self.story());
        self.world = after;
        self.hold(lease);
        self.leave_or_finish(who).await;
        Some("lease")
    }

    /// The number that the next lease will have.
    async fn next_lease(&self) -> u16 {
        let next = "SELECT CASE WHEN is_called THEN last_value + 1 ELSE last_value END FROM host.{q}__lease_id_seq";
        id(self.stage.value(next).await).number
    }

    fn hold(&mut self, lease: Lease) {
        let read = self.world.read(&lease).into_iter().cloned().collect();
        self.held.push(Held { lease, read, sent: Vec::new() });
    }

    /// A call that the model refuses is refused, and its transaction ended.
    async fn refused(&mut self, who: Connection, refused: Refused, answer: Answer) {
        let wanted = match refused {
            Refused::Ended => "HQ001",
            Refused::Lost => "HQ002",
            Refused::Conflict => "23505",
            Refused::Busy | Refused::Nothing => unreachable!("that is no SQLSTATE"),
        };
        assert_eq!(answer.map(drop), Err(wanted.to_owned()), "{}", self.story());
        self.stage.run(who, "ROLLBACK").await;
    }

    async fn settle(&mut self) -> Option<&'static str> {
        let who = self.idle()?;
        // Mostly of one that is open, now and then of one that another is just settling or taking over.
        let about = match self.rng.u8(..8) {
            0 => None,
            1 | 2 => self.choose(self.world.open.values().filter_map(about).collect::<Vec<_>>()),
            _ => self.choose(self.world.open_leases().map(|l| l.id).collect::<Vec<_>>()),
        };
        let fits = |i: &usize| about.is_none_or(|about| self.held[*i].lease.id == about);
        let i = self.choose((0..self.held.len()).filter(fits).collect::<Vec<_>>())?;
        let request = self.request(i);
        let mut after = self.world.clone();
        let read = after.settle_read(who, &request);
        let written = if read == Ok(true) { after.settle_write(who) } else { Ok(()) };
        if written == Err(Refused::Busy) && self.someone_waits() {
            return None;
        }
        if self.world.db.next_tx as u16 >= MANY {
            return None;
        }
        self.note(format!("{who}: settle {request:?}"));
        let call = self.stage.settle(&request);
        self.world = after;
        self.stage.run(who, "BEGIN").await;
        if written == Err(Refused::Busy) {
            self.stage.call_and_leave(who, &call).await;
            return Some("settle waits");
        }
        let answer = self.stage.call(who, &call).await;
        match read {
            Err(refused) => {
                self.refused(who, refused, answer).await;
                Some("settle refused")
            }
            Ok(new) => {
                let row = answer.unwrap_or_else(|code| panic!("{code}: {}", self.story()));
                assert_eq!(row.get::<_, bool>(0), new, "{}", self.story());
                if new {
                    self.leave_or_finish(who).await;
                    return Some("settle");
                }
                self.stage.run(who, "COMMIT").await;
                Some("settled before")
            }
        }
    }

    /// The next settlement of a lease, or one that was sent before, or one that does not follow.
    fn request(&mut self, i: usize) -> Settle {
        let held = &self.held[i];
        let made =
            self.world.db.rows.settlements.iter().filter(|s| s.lease == held.lease.id).count();
        if held.sent.len() > made && self.rng.u8(..4) > 0 {
            // The last one did not come through.
            return held.sent[made].clone();
        }
        if !held.sent.is_empty() && self.rng.u8(..5) == 0 {
            return held.sent[self.rng.usize(..held.sent.len())].clone();
        }
        let sent: Set = held.sent.iter().fold(Set::EMPTY, |all, s| all.or(s.settled()));
        let mut rest: Vec<u8> = held.lease.all().minus(sent).iter().collect();
        let forged = rest.is_empty() || self.rng.u8(..12) == 0;
        if forged {
            rest = (0..held.lease.count).collect();
        }
        self.rng.shuffle(&mut rest);
        rest.truncate(self.rng.usize(1..=rest.len()));
        rest.sort_unstable();
        let mut done = Vec::new();
        for position in rest {
            let message = &held.read[usize::from(position)];
            let outcome = match self.rng.u8(..10) {
                _ if !message.is_for(held.lease.handler) => Outcome::NotOurs,
                0..5 => Outcome::Ack,
                5..8 => Outcome::Retry(-1_000 * self.rng.i32(1..4)),
                8 => Outcome::Retry(1_000),
                _ => Outcome::Dead,
            };
            let Message { payload, attempt, .. } = *message;
            done.push(Done { position, payload, attempt, outcome });
        }
        let Lease { id, token, session, handler, .. } = held.lease;
        let seq = held.sent.len() as u8 + u8::from(forged && self.rng.bool());
        let request = Settle { lease: id, session, token, handler, seq, done };
        if !forged {
            self.held[i].sent.push(request.clone());
        }
        request
    }

    async fn take_over(&mut self) -> Option<&'static str> {
        let who = self.idle()?;
        let rows = self.world.db.rows.leases.iter();
        let gone = |l: &&Lease| self.world.db.sessions[usize::from(l.session)] != Life::Live;
        let leases: Vec<_> = match self.rng.u8(..8) {
            0 => rows.filter(|l| l.count > 0).map(|l| l.id).collect(),
            1 => self.world.open.values().filter_map(about).collect(),
            _ => self.world.open_leases().filter(gone).map(|l| l.id).collect(),
        };
        let lease = self.choose(leases)?;
        let (session, n) = (self.session(), self.rng.u8(1..4));
        let request = TakeOver { lease, session, token: self.tokens, n, seq: 0 };
        let mut after = self.world.clone();
        let read = after.take_over_read(who, request.clone());
        let written = if read.is_ok() { after.take_over_write(who) } else { Ok(None) };
        let waits = written == Err(Refused::Busy);
        if read == Err(Refused::Busy) || waits && self.someone_waits() {
            return None;
        }
        self.note(format!("{who}: {request:?}"));
        let call = format!(
            "SELECT lease_id, row_count FROM host.{{q}}__take_over({}, {}, {}, '{}', {n}, {})",
            number(lease),
            self.stage.sessions[usize::from(session)],
            self.tokens,
            token(self.tokens),
            self.world.deaths_max
        );
        self.tokens += 1;
        self.world = after;
        self.stage.run(who, "BEGIN").await;
        if written == Err(Refused::Busy) {
            self.stage.call_and_leave(who, &call).await;
            return Some("take over waits");
        }
        let answer = self.stage.call(who, &call).await;
        if let Err(refused) = read {
            self.refused(who, refused, answer).await;
            return Some("take over refused");
        }
        let taken = written.expect("it is written");
        self.taken(&answer, taken.as_ref());
        let result = if taken.is_some() { "take over" } else { "poisoned" };
        if let Some(taken) = taken {
            self.hold(taken);
        }
        self.leave_or_finish(who).await;
        Some(result)
    }

    fn taken(&self, answer: &Answer, taken: Option<&Lease>) {
        let row = answer.as_ref().unwrap_or_else(|code| panic!("{code}: {}", self.story()));
        let real = row.get::<_, Option<i64>>(0).map(id);
        assert_eq!(real, taken.map(|l| l.id), "{}", self.story());
        let count = row.get::<_, Option<i32>>(1).unwrap_or(0);
        assert_eq!(count, taken.map_or(0, |l| l.all().len().into()), "{}", self.story());
    }

    /// Those whose waiting is over go on, as the model says.
    async fn wake_up(&mut self) -> Vec<&'static str> {
        let mut results = Vec::new();
        for who in self.open().into_iter().filter(|who| self.waits(*who)).collect::<Vec<_>>() {
            let mut after = self.world.clone();
            let takes_over = matches!(after.open[&who].doing, Doing::TakeOver(_));
            let written = if takes_over {
                after.take_over_write(who)
            } else {
                after.settle_write(who).map(|()| None)
            };
            if written == Err(Refused::Busy) && !self.stage.is_finished(who) {
                continue;
            }
            let answer = self.stage.collect(who).await;
            if answer.as_ref().err().is_some_and(|code| code == "55P03") {
                // The machine is so slow that it has given up.
                self.note(format!("{who}: gave up"));
                self.world.abort(who);
                self.stage.run(who, "ROLLBACK").await;
                continue;
            }
            self.note(format!("{who}: goes on, {written:?}"));
            self.world = after;
            match written {
                Err(refused) => {
                    self.refused(who, refused, answer).await;
                    results.push("waited in vain");
                    continue;
                }
                Ok(taken) if takes_over => {
                    self.taken(&answer, taken.as_ref());
                    if let Some(taken) = taken {
                        self.hold(taken);
                    }
                }
                Ok(_) => {
                    let done = answer.map(|row| row.get::<_, bool>(0));
                    assert_eq!(done, Ok(true), "{}", self.story());
                }
            }
            results.push("waited and went on");
            self.leave_or_finish(who).await;
        }
        results
    }

    async fn end_session(&mut self) -> Option<&'static str> {
        // One is left to go on with.
        // Rather one whose messages others have died with.
        let often = |l: &Lease| vec![l.session; 1 + 5 * usize::from(l.deaths)];
        let holds: Vec<_> = self.world.open_leases().flat_map(often).collect();
        let session = self.choose(holds).filter(|session| *session > 0)?;
        let lost = self.rng.u8(..4) > 0;
        self.note(format!("end session {session}, lost: {lost}"));
        self.world.end_session(session, lost);
        let end = format!(
            "SELECT host.end_session({}, {lost})",
            self.stage.sessions[usize::from(session)]
        );
        let _: bool = self.stage.value(&end).await;
        Some("end a session")
    }

    async fn promote(&mut self) -> Option<&'static str> {
        let who = self.idle()?;
        if u16::from(self.world.db.next_tx) >= MANY {
            return None;
        }
        if !self.world.db.rows.scheduled.iter().any(|s| self.world.is_scheduled(s))
            && self.rng.u8(..4) > 0
        {
            return None;
        }
        let n = self.rng.u8(1..4);
        let mut after = self.world.clone();
        let promoted = after.promote(who, n, false);
        self.note(format!("{who}: promote {n}"));
        self.stage.run(who, "BEGIN").await;
        let answer =
            self.stage.call(who, &format!("SELECT promoted FROM host.{{q}}__promote({n})")).await;
        let real = answer.map(|row| row.get::<_, i32>(0));
        assert_eq!(real, Ok(i32::from(promoted.unwrap_or(0))), "{}", self.story());
        let Ok(promoted) = promoted else {
            self.stage.run(who, "ROLLBACK").await;
            return Some("promote while another does");
        };
        let next = "SELECT CASE WHEN is_called THEN last_value + 1 ELSE last_value END FROM host.{q}__promotion_id_seq";
        if after.db.next[2] < id(self.stage.value(next).await).number {
            after = self.world.clone();
            assert_eq!(after.promote(who, n, true), Ok(promoted));
        }
        self.world = after;
        self.leave_or_finish(who).await;
        Some(if promoted > 0 { "promote" } else { "promote nothing" })
    }

    async fn truncate(&mut self) -> Option<&'static str> {
        let who = self.idle()?;
        let leaf = self.rng.u8(..3);
        let looked = self.world.truncate_look(who, leaf);
        let done = looked.and_then(|()| self.world.truncate_finish(who));
        self.note(format!("truncate {leaf}: {done:?}"));
        let answer = self.stage.call(who, &format!("SELECT host.{{q}}__truncate({leaf})")).await;
        let why: Option<String> =
            answer.map(|row| row.get(0)).unwrap_or_else(|code| panic!("{code}: {}", self.story()));
        assert_eq!(why.is_none(), done.is_ok(), "{why:?}: {}", self.story());
        Some(if done.is_ok() { "truncate" } else { "truncate refused" })
    }

    async fn advance(&mut self) -> Option<&'static str> {
        let who = self.idle()?;
        // It would wait for a handler's cursor, or for the schedule's.
        let would_wait = |d: &Doing| matches!(d, Doing::Lease(_) | Doing::Promote);
        if self.world.open.values().any(|t| would_wait(&t.doing)) {
            return None;
        }
        let begun = self.world.advance_begin(who);
        if begun.is_ok() {
            self.world.advance_carry(who);
        }
        self.note(format!("{who}: advance: {begun:?}"));
        let (stage, mut why) = (&self.stage, None);
        wait_until("the generation is old enough", async || {
            stage.run(who, "BEGIN").await;
            let answer = stage.call(who, "SELECT host.{q}__advance()").await;
            why = answer.expect("advance").get::<_, Option<String>>(0);
            let young = why.as_ref().is_some_and(|why| why.contains("not old enough"));
            if why.is_some() {
                stage.run(who, "ROLLBACK").await;
            }
            !young
        })
        .await;
        assert_eq!(why.is_none(), begun.is_ok(), "{why:?}: {}", self.story());
        if begun.is_err() {
            return Some("advance refused");
        }
        self.leave_or_finish(who).await;
        Some("advance")
    }

    async fn deploy(&mut self) -> Option<&'static str> {
        if self.world.db.handlers.len() >= 2 || self.world.deploy().is_err() {
            return None;
        }
        self.note("deploy".to_owned());
        self.stage.deploy().await;
        Some("deploy")
    }
}
