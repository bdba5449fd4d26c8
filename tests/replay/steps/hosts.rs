//! What hosts do: lease, settle, take over, promote, rotate.

use model::{
    Connection, Doing, Done, Handler, Lease, Life, Message, Outcome, Refused, Set, Settle, TakeOver,
};

use super::{MANY, ReplayLease, Walk, about};
use crate::harness::wait_until;
use crate::replay::stage::{Answer, id, number, token};

impl Walk {
    pub(super) async fn lease(&mut self) -> Option<&'static str> {
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
    pub(super) async fn next_lease(&self) -> u16 {
        let next = "SELECT CASE WHEN is_called THEN last_value + 1 ELSE last_value END FROM host.{q}__lease_id_seq";
        id(self.stage.value(next).await).number
    }

    fn hold(&mut self, lease: Lease) {
        let read = self.world.read(&lease).into_iter().cloned().collect();
        self.held.push(ReplayLease { lease, read, sent: Vec::new() });
    }

    /// A call that the model refuses is refused, and its transaction ended.
    pub(super) async fn refused(&mut self, who: Connection, refused: Refused, answer: Answer) {
        let wanted = match refused {
            Refused::Ended => "HQ001",
            Refused::Lost => "HQ002",
            Refused::Conflict => "23505",
            Refused::Busy | Refused::Nothing => unreachable!("that is no SQLSTATE"),
        };
        assert_eq!(answer.map(drop), Err(wanted.to_owned()), "{}", self.story());
        self.stage.run(who, "ROLLBACK").await;
    }

    pub(super) async fn settle(&mut self) -> Option<&'static str> {
        let who = self.idle()?;
        // Mostly of one that is open, now and then of one that another is just settling or taking
        // over.
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
        if u16::from(self.world.db.next_tx) >= MANY {
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

    pub(super) async fn take_over(&mut self) -> Option<&'static str> {
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
    pub(super) async fn wake_up(&mut self) -> Vec<&'static str> {
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

    pub(super) async fn end_session(&mut self) -> Option<&'static str> {
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

    pub(super) async fn promote(&mut self) -> Option<&'static str> {
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

    pub(super) async fn truncate(&mut self) -> Option<&'static str> {
        let who = self.idle()?;
        let leaf = self.rng.u8(..3);
        let looked = self.world.truncate_look(who, leaf);
        let done = looked.and_then(|()| self.world.truncate_finish(who));
        self.note(format!("truncate {leaf}: {done:?}"));
        let answer = self.stage.call(who, &format!("SELECT host.{{q}}__truncate({leaf})")).await;
        let why: Option<String> =
            answer.map_or_else(|code| panic!("{code}: {}", self.story()), |row| row.get(0));
        assert_eq!(why.is_none(), done.is_ok(), "{why:?}: {}", self.story());
        Some(if done.is_ok() { "truncate" } else { "truncate refused" })
    }

    pub(super) async fn advance(&mut self) -> Option<&'static str> {
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

    pub(super) async fn deploy(&mut self) -> Option<&'static str> {
        if self.world.db.handlers.len() >= 2 || self.world.deploy().is_err() {
            return None;
        }
        self.note("deploy".to_owned());
        self.stage.deploy().await;
        Some("deploy")
    }
}
