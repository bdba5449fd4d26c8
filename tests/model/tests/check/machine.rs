//! The model as the checker wants it: a state, the actions that are possible in it, what comes of
//! one.

use model::{
    Broken, Connection, Db, Doing, Done, Handler, Id, Lease, Life, Outcome, Refused, Rows, Session,
    Set, Settle, TakeOver, World,
};

use super::scene::{Action, Scene, count};

/// What a session knows of a lease. It forgets nothing: any request may be sent, or arrive, at any
/// time.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ModelLease {
    lease: Id,
    token: u16,
    session: Session,
    handler: Handler,
    /// What it has read: position, payload, attempt, whether it is for its handler.
    read: Vec<(u8, u16, u8, bool)>,
    /// The settlements that it has sent, in order.
    sent: Vec<Settle>,
}

impl ModelLease {
    /// How many of its messages are in settlements.
    fn settled(&self) -> usize {
        self.sent.iter().map(|s| s.done.len()).sum()
    }

    /// The settlement of the next `n` messages.
    fn next(&self, n: usize, outcome: Outcome) -> Settle {
        let done = self.read[self.settled()..][..n].iter();
        let done = done.map(|&(position, payload, attempt, ours)| {
            let outcome = if ours { outcome } else { Outcome::NotOurs };
            Done { position, payload, attempt, outcome }
        });
        let Self { lease, session, token, handler, .. } = *self;
        let seq = self.sent.len() as u8;
        Settle { lease, session, token, handler, seq, done: done.collect() }
    }
}

/// A state of everything.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    /// The database.
    pub world: World,
    /// What a crash may go back to: the states since the last commit that waited for the disk.
    before: Vec<Db>,
    /// What the sessions know.
    held: Vec<ModelLease>,
    /// Ids that producers have drawn and not used.
    drawn: Vec<(Connection, Id)>,
    begun: u8,
    tokens: u16,
    aborts: u8,
    crashes: u8,
    deploys: u8,
}

const SETTLES: Connection = 32;
const TAKES_OVER: Connection = 64;
const LEASES: Connection = 96;
const PROMOTES: Connection = 97;
const TRUNCATES: Connection = 98;
const ADVANCES: Connection = 99;

impl State {
    pub(crate) fn new(scene: &Scene) -> Self {
        let mut world = World::new(scene.sessions, scene.deaths_max);
        world.broken = scene.broken;
        for _ in 0..scene.handlers {
            world.deploy().expect("nothing is in the way");
        }
        Self {
            world,
            before: Vec::new(),
            held: Vec::new(),
            drawn: Vec::new(),
            begun: 0,
            tokens: 0,
            aborts: 0,
            crashes: 0,
            deploys: 0,
        }
    }

    /// Everything that may happen next.
    pub(crate) fn actions(&self, scene: &Scene, actions: &mut Vec<Action>) {
        use Action as A;
        let world = &self.world;
        if self.begun < scene.producers {
            actions.push(A::Insert);
            if scene.draws_early {
                actions.push(A::Draw);
            }
        }
        actions.extend(self.drawn.iter().map(|(who, _)| A::InsertDrawn(*who)));
        for (&who, transaction) in &world.open {
            match transaction.doing {
                Doing::Settle(_) | Doing::TakeOver(_)
                    if transaction.rows.settlements.is_empty() =>
                {
                    actions.push(A::Write(who));
                }
                Doing::Truncate(_) => actions.push(A::TruncateFinish),
                Doing::Advance if transaction.rows.promotions.is_empty() => {
                    actions.push(A::AdvanceCarry);
                    if self.aborts < scene.aborts {
                        actions.push(A::Abort(who));
                    }
                }
                _ if self.drawn.iter().any(|(drawn, _)| *drawn == who) => {}
                _ => {
                    actions.push(A::Commit(who));
                    if self.aborts < scene.aborts {
                        actions.push(A::Abort(who));
                    }
                }
            }
        }
        let handlers = world.db.handlers.len() as Handler;
        let live = |s: &Session| world.db.sessions[usize::from(*s)] == Life::Live;
        for session in (0..scene.sessions).filter(live) {
            if self.tokens < scene.leases {
                for handler in 0..handlers {
                    actions.extend(scene.batches.iter().map(|n| A::Lease(session, handler, *n)));
                }
                for lease in world.open_leases() {
                    actions
                        .extend(scene.batches.iter().map(|n| A::TakeOver(session, lease.id, *n)));
                }
            }
            if session < scene.ends {
                actions.extend([A::End(session, true), A::End(session, false)]);
            }
        }
        if scene.broken == Some(Broken::LeaseWhereOneInserts) && self.tokens < scene.leases {
            actions.extend(self.drawn.iter().map(|(who, _)| A::LeaseInside(*who, 2)));
        }
        for (i, held) in self.held.iter().enumerate() {
            if world.open.contains_key(&(SETTLES + i as u8)) {
                continue;
            }
            actions.extend((0..held.sent.len()).map(|j| A::Again(i, j)));
            let settled = held.settled();
            for n in 1..=held.read.len() - settled {
                actions.push(A::Settle(i, n as u8, Outcome::Ack));
                if held.read[settled].2 < scene.attempts {
                    actions.push(A::Settle(i, n as u8, Outcome::Retry(0)));
                }
            }
        }
        if scene.attempts > 1 {
            actions.extend([A::Promote(1), A::Promote(2)]);
            actions.extend((0..=world.now).map(A::TruncateSchedule));
            if world.db.rows.scheduled.iter().any(|s| s.due.0 == world.now) {
                actions.push(A::Tick);
            }
        }
        if scene.generations > 0 {
            actions.extend((0..3).map(A::TruncateLook));
        }
        if world.db.generation < scene.generations {
            actions.push(A::AdvanceBegin);
        }
        if self.deploys < scene.deploys {
            actions.push(A::Deploy);
        }
        if self.crashes < scene.crashes {
            actions.extend((0..=self.before.len()).map(A::Crash));
        }
    }

    /// What comes of an action. None: it cannot be done now, or does nothing.
    pub(crate) fn next(&self, scene: &Scene, action: Action) -> Option<Self> {
        let mut next = self.clone();
        next.act(scene, action)?;
        (next != *self).then_some(next)
    }

    fn act(&mut self, scene: &Scene, action: Action) -> Option<()> {
        let world = &mut self.world;
        match action {
            Action::Insert | Action::Draw => {
                let who = self.begun;
                self.begun += 1;
                world.produce(who);
                let id = world.draw_message();
                if action == Action::Insert {
                    world.insert(who, id, who.into());
                } else {
                    self.drawn.push((who, id));
                }
            }
            Action::InsertDrawn(who) => {
                let at = self.drawn.iter().position(|(drawn, _)| *drawn == who)?;
                world.insert(who, self.drawn.remove(at).1, who.into());
            }
            Action::Commit(who) => {
                let before = world.db.clone();
                self.commit(scene, who, before);
            }
            Action::Abort(who) => {
                world.abort(who);
                self.aborts += 1;
            }
            Action::Lease(session, handler, n) => {
                // With the lease, its number is lost and will be given out again.
                let before = world.db.clone();
                let lease = world.lease(LEASES, handler, session, self.tokens, (n, false)).ok()?;
                self.tokens += u16::from(lease.is_some());
                self.commit(scene, LEASES, before);
            }
            Action::LeaseInside(who, n) => {
                world.lease(who, 0, 0, self.tokens, (n, false)).ok()??;
                self.tokens += 1;
            }
            Action::Settle(i, n, outcome) => {
                let request = self.held[i].next(usize::from(n), outcome);
                self.held[i].sent.push(request.clone());
                self.settle(scene, i, &request);
            }
            Action::Again(i, j) => {
                let request = self.held[i].sent[j].clone();
                self.settle(scene, i, &request);
            }
            Action::Write(who) => return self.write(scene, who),
            Action::TakeOver(session, lease, n) => {
                let who = TAKES_OVER + session;
                if world.open.contains_key(&who) {
                    return None;
                }
                let token = self.tokens;
                world.take_over_read(who, TakeOver { lease, session, token, n, seq: 0 }).ok()?;
                self.tokens += 1;
            }
            Action::End(session, lost) => {
                world.end_session(session, lost);
                self.before.clear();
            }
            Action::Promote(n) => {
                if world.promote(PROMOTES, n, false).ok()? > 0 {
                    count(&scene.tally.promoted);
                } else if world.open[&PROMOTES].tx.is_none() {
                    return None;
                }
            }
            Action::TruncateLook(leaf) => world.truncate_look(TRUNCATES, leaf).ok()?,
            Action::TruncateFinish => {
                let messages = world.db.rows.messages.len();
                match world.truncate_finish(TRUNCATES) {
                    Ok(()) => {
                        if world.db.rows.messages.len() < messages {
                            count(&scene.tally.truncated);
                        }
                        self.before.clear();
                    }
                    Err(_) => count(&scene.tally.late),
                }
            }
            Action::TruncateSchedule(due) => {
                world.truncate_schedule(due).ok()?;
                self.before.clear();
            }
            Action::AdvanceBegin => world.advance_begin(ADVANCES).ok()?,
            Action::AdvanceCarry => world.advance_carry(ADVANCES),
            Action::Deploy => {
                world.deploy().ok()?;
                self.deploys += 1;
                self.before.clear();
            }
            Action::Tick => world.now += 1,
            Action::Crash(to) => self.crash(scene, to),
        }
        Some(())
    }

    /// settle or take_over, as far as it writes. None: it waits for another.
    fn write(&mut self, scene: &Scene, who: Connection) -> Option<()> {
        let takes_over = matches!(self.world.open[&who].doing, Doing::TakeOver(_));
        let result = if takes_over {
            self.world.take_over_write(who).map(|lease| lease.is_none())
        } else {
            self.world.settle_write(who).map(|()| false)
        };
        match result {
            Ok(true) => count(&scene.tally.poisoned),
            Ok(false) => {}
            Err(Refused::Conflict) => count(&scene.tally.conflict),
            Err(_) => return None,
        }
        Some(())
    }

    fn settle(&mut self, scene: &Scene, i: usize, request: &Settle) {
        match self.world.settle_read(SETTLES + i as u8, request) {
            Ok(true) => {}
            Ok(false) => count(&scene.tally.repeated),
            Err(_) => count(&scene.tally.fenced),
        }
    }

    /// Commits, and tells the session of the lease that it has got.
    fn commit(&mut self, scene: &Scene, who: Connection, before: Db) {
        let transaction = self.world.open[&who].clone();
        let waits_for_disk =
            matches!(transaction.doing, Doing::Settle(_) | Doing::TakeOver(_) | Doing::Advance);
        if waits_for_disk || self.crashes == scene.crashes {
            self.before.clear();
        } else if transaction.rows != Rows::default() {
            self.before.push(before);
        }
        self.world.commit(who);
        let leases = transaction.rows.leases.into_iter();
        for lease in leases.filter(|l| l.count > 0 && l.token != u16::MAX) {
            let held = self.hold(&lease);
            self.held.push(held);
        }
    }

    fn hold(&self, lease: &Lease) -> ModelLease {
        let read = self.world.read(lease);
        let read = lease.all().iter().filter_map(|position| {
            let message = read.get(usize::from(position))?;
            let ours = message.is_for(lease.handler);
            Some((position, message.payload, message.attempt, ours))
        });
        let Lease { id, token, session, handler, .. } = *lease;
        ModelLease { lease: id, token, session, handler, read: read.collect(), sent: Vec::new() }
    }

    fn crash(&mut self, scene: &Scene, to: usize) {
        let lost = self.before.len();
        if to < lost {
            let leases = |db: &Db| db.rows.leases.len();
            if leases(&self.before[to]) < leases(&self.world.db) {
                count(&scene.tally.lost);
            }
            self.world.db = self.before[to].clone();
        }
        self.before.clear();
        self.world.open.clear();
        self.drawn.clear();
        self.world.db.over = Set::below(self.world.db.next_tx);
        self.crashes += 1;
    }
}
