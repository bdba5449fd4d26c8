//! settle, take_over and sessions: `settle.sql`, `host.end_session`.
//!
//! settle and take_over are two steps each: what they read, then what they write. In between,
//! another may have written; the unique number of a settlement decides.

use crate::rows::{Effect, Id, Lease, Outcome, Rows, Scheduled, Session, Settlement};
use crate::set::Set;
use crate::world::{Broken, Connection, Doing, Life, Refused, Settle, TakeOver, World};

/// A message that two sessions died with is leased alone.
const ALONE_AFTER: u8 = 2;

impl World {
    /// A lease by its id.
    #[must_use]
    pub fn lease_row(&self, id: Id) -> Option<&Lease> {
        self.db.rows.leases.iter().find(|l| l.id == id)
    }

    fn settlements(&self, lease: Id) -> impl Iterator<Item = &Settlement> {
        self.db.rows.settlements.iter().filter(move |s| s.lease == lease)
    }

    /// The positions of a lease that are to be settled yet.
    #[must_use]
    pub fn rest(&self, lease: &Lease) -> Set {
        self.settlements(lease.id)
            .fold(lease.all(), |rest, s| if s.revoked { Set::EMPTY } else { rest.minus(s.settled) })
    }

    /// The leases that are open.
    pub fn open_leases(&self) -> impl Iterator<Item = &Lease> {
        self.db.rows.leases.iter().filter(|l| l.count > 0 && !self.rest(l).is_empty())
    }

    /// settle, as far as it reads. False: this settlement was made before; true: it goes on.
    pub fn settle_read(&mut self, who: Connection, request: &Settle) -> Result<bool, Refused> {
        let lease = self.lease_row(request.lease).ok_or(Refused::Lost)?;
        let token_fits = lease.token == request.token || self.lacks(Broken::NoToken);
        if lease.session != request.session || !token_fits {
            return Err(Refused::Lost);
        }
        let settled = request.settled();
        let last = self.settlements(lease.id).last();
        if last.is_some_and(|last| last.revoked) {
            return Err(Refused::Lost);
        }
        if last.is_some_and(|last| last.seq >= request.seq) {
            let same = |s: &Settlement| s.seq == request.seq && s.settled == settled;
            return if self.settlements(lease.id).any(same) {
                Ok(false)
            } else {
                Err(Refused::Lost)
            };
        }
        let follows = request.seq == last.map_or(0, |last| last.seq + 1);
        if !follows || !settled.minus(self.rest(lease)).is_empty() {
            return Err(Refused::Lost);
        }
        self.begin(who, Doing::Settle(request.clone()));
        Ok(true)
    }

    /// The compare-and-set: whether this number of this lease's settlements is free. Busy: another
    /// transaction has written it and is not over, so this one waits. A conflict ends it.
    fn take_number(&mut self, who: Connection, lease: Id, seq: u8) -> Result<(), Refused> {
        let taken = |rows: &Rows| rows.settlements.iter().any(|s| s.lease == lease && s.seq == seq);
        if self.lacks(Broken::NoCompareAndSet) {
            return Ok(());
        }
        if taken(&self.db.rows) {
            self.abort(who);
            return Err(Refused::Conflict);
        }
        if self.open.values().any(|t| taken(&t.rows)) { Err(Refused::Busy) } else { Ok(()) }
    }

    /// settle, as far as it writes.
    pub fn settle_write(&mut self, who: Connection) -> Result<(), Refused> {
        let Doing::Settle(request) = &self.open[&who].doing else {
            panic!("{who} does not settle")
        };
        let request = request.clone();
        let retries = request.done.iter().any(|done| matches!(done.outcome, Outcome::Retry(_)));
        if retries && self.open[&who].tx.is_none() {
            // Before it waits.
            let tx = self.begin_tx();
            self.open.get_mut(&who).expect("it is open").tx = Some(tx);
        }
        self.take_number(who, request.lease, request.seq)?;
        let lease = self.lease_row(request.lease).expect("nothing truncates what is read").clone();
        let messages: Vec<_> = self.read(&lease).into_iter().cloned().collect();
        let (lease_id, seq, settled) = (lease.id, request.seq, request.settled());
        let mut rows = Rows::default();
        rows.settlements.push(Settlement { lease: lease_id, seq, settled, revoked: false });
        let mut unseen = lease.handler != request.handler;
        for done in &request.done {
            let Some(message) = messages.get(usize::from(done.position)) else {
                unseen = true;
                continue;
            };
            let (payload, attempt, handler) = (message.payload, message.attempt, lease.handler);
            unseen |= (payload, attempt) != (done.payload, done.attempt);
            if done.outcome == Outcome::NotOurs {
                unseen |= message.is_for(handler);
                continue;
            }
            if let Outcome::Retry(delay) = done.outcome {
                let due = (self.open[&who].began + delay, self.db.next_scheduled);
                self.db.next_scheduled += 1;
                let tx = self.open[&who].tx.expect("it has one");
                let (origin, attempt) = (message.origin, attempt + 1);
                rows.scheduled.push(Scheduled { due, tx, payload, origin, handler, attempt });
            }
            rows.effects.push(Effect { payload, handler, attempt, outcome: done.outcome });
        }
        self.db.settled_unseen |= unseen;
        self.open.get_mut(&who).expect("it is open").rows = rows;
        Ok(())
    }

    /// take_over, as far as it reads.
    pub fn take_over_read(
        &mut self,
        who: Connection,
        mut request: TakeOver,
    ) -> Result<(), Refused> {
        let has_lock = |d: &Doing| matches!(d, Doing::Truncate(_) | Doing::Advance);
        if self.any(has_lock) && !self.lacks(Broken::TakeOverWithoutLock) {
            return Err(Refused::Busy);
        }
        let life = |session: Session| self.db.sessions[usize::from(session)];
        let lease = self.lease_row(request.lease).ok_or(Refused::Lost)?;
        let open = lease.count > 0 && !self.rest(lease).is_empty();
        let masterless = |l: &Lease| l.session == request.session || life(l.session) != Life::Live;
        if !open || !masterless(lease) || life(request.session) != Life::Live {
            return Err(Refused::Lost);
        }
        request.seq = self.settlements(lease.id).last().map_or(0, |last| last.seq + 1);
        self.begin(who, Doing::TakeOver(request));
        Ok(())
    }

    /// take_over, as far as it writes. None: nothing is left, it went to the dead letters.
    pub fn take_over_write(&mut self, who: Connection) -> Result<Option<Lease>, Refused> {
        let Doing::TakeOver(request) = &self.open[&who].doing else {
            panic!("{who} takes nothing")
        };
        let request = request.clone();
        self.take_number(who, request.lease, request.seq)?;
        let old = self.lease_row(request.lease).expect("nothing truncates what is read").clone();
        let (lease, seq) = (old.id, request.seq);
        let rest = self.settlements(lease).fold(old.all(), |rest, s| rest.minus(s.settled));
        let died = self.db.sessions[usize::from(old.session)] == Life::Lost && !old.leftover;
        let deaths = old.deaths + u8::from(died);
        let mut rows = Rows::default();
        rows.settlements.push(Settlement { lease, seq, settled: Set::EMPTY, revoked: true });
        let mut new = None;
        if deaths >= self.deaths_max {
            for position in rest.iter() {
                let message = self.read(&old)[usize::from(position)];
                if !message.is_for(old.handler) && !self.lacks(Broken::NotOursDies) {
                    continue;
                }
                let (payload, attempt, handler) = (message.payload, message.attempt, old.handler);
                rows.effects.push(Effect { payload, handler, attempt, outcome: Outcome::Dead });
            }
        } else {
            let first = rest.first(if deaths >= ALONE_AFTER { 1 } else { request.n });
            let part = Lease { is_cursor: false, more: false, deaths, leftover: false, ..old };
            let mine = Lease {
                id: self.draw_lease(),
                session: request.session,
                token: request.token,
                positions: Some(first),
                ..part.clone()
            };
            rows.leases.push(mine.clone());
            new = Some(mine);
            if rest != first {
                // Its token is known to nobody.
                rows.leases.push(Lease {
                    id: self.draw_lease(),
                    token: u16::MAX,
                    positions: Some(rest.minus(first)),
                    leftover: true,
                    ..part
                });
            }
        }
        self.open.get_mut(&who).expect("it is open").rows = rows;
        Ok(new)
    }

    /// Ends a session, which may not have noticed.
    pub fn end_session(&mut self, session: Session, lost: bool) {
        let life = &mut self.db.sessions[usize::from(session)];
        if *life == Life::Live {
            *life = if lost { Life::Lost } else { Life::Stopped };
        }
    }
}

impl Settle {
    /// The positions that it settles.
    #[must_use]
    pub fn settled(&self) -> Set {
        self.done.iter().map(|done| done.position).collect()
    }
}
