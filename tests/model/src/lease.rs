//! Producers, deploy, lease and read: `lease.sql`, `host.deploy`.

use crate::rows::{Handler, Id, Lease, Message, Place, START, Session};
use crate::set::Set;
use crate::world::{Broken, Connection, Doing, Life, Refused, Sequence, Transaction, World};

impl World {
    /// Begins a producer's transaction, which gets its txid at once.
    pub fn produce(&mut self, who: Connection) {
        let tx = self.begin_tx();
        self.begin(who, Doing::Produce).tx = Some(tx);
    }

    /// An id for a message, from the identity. The row may be inserted much later.
    pub fn draw_message(&mut self) -> Id {
        self.draw(Sequence::Message)
    }

    /// Inserts a message with an id that was drawn before.
    pub fn insert(&mut self, who: Connection, id: Id, payload: u16) {
        self.db.used = self.db.used.with(id.leaf());
        let transaction = self.open.get_mut(&who).expect("a producer's transaction");
        let tx = transaction.tx.expect("a producer has a txid");
        let message = Message { id, tx, payload, origin: id, handler: None, attempt: 1 };
        transaction.rows.messages.push(message);
    }

    /// Deploys one more handler: its cursor begins with the oldest message that is kept.
    pub fn deploy(&mut self) -> Result<Handler, Refused> {
        if self.any(|d| matches!(d, Doing::Truncate(_) | Doing::Advance | Doing::TakeOver(_))) {
            return Err(Refused::Busy);
        }
        let handler = self.db.handlers.len() as Handler;
        self.db.handlers.push(self.db.gone);
        let cursor = self.cursor_row(handler, Session::MAX, 0, Set::EMPTY);
        self.db.rows.leases.push(cursor);
        self.db.rows.leases.sort_unstable();
        Ok(handler)
    }

    /// The handler's cursor.
    #[must_use]
    pub fn cursor(&self, handler: Handler) -> &Lease {
        let mut newest = self.db.rows.leases.iter().rev();
        newest.find(|l| l.is_cursor && l.handler == handler).expect("a handler has a cursor")
    }

    /// A row that is a cursor only.
    fn cursor_row(&mut self, handler: Handler, session: Session, token: u16, hi: Set) -> Lease {
        Lease {
            id: self.draw_lease(),
            token,
            session,
            handler,
            txids: Set::EMPTY,
            from: START,
            to: START,
            count: 0,
            positions: None,
            leaves: Set::EMPTY,
            hi,
            more: false,
            is_cursor: true,
            deaths: 0,
            leftover: false,
        }
    }

    /// An id for a row of the lease log, which is written at once.
    pub(crate) fn draw_lease(&mut self) -> Id {
        let id = self.draw(Sequence::Lease);
        self.db.used = self.db.used.with(id.leaf());
        id
    }

    fn place(&self, message: &Message) -> Place {
        let tx = if self.lacks(Broken::CursorOverIds) { 0 } else { message.tx };
        (tx, message.id)
    }

    /// The first `n` messages of a window after a place.
    fn cut(&self, txids: Set, after: Place, n: u8) -> Vec<&Message> {
        let messages = self.db.rows.messages.iter();
        let mut cut: Vec<_> =
            messages.filter(|m| txids.has(m.tx) && self.place(m) > after).collect();
        cut.sort_unstable_by_key(|m| self.place(m));
        cut.truncate(n.into());
        cut
    }

    /// The messages of a lease, those of all its positions.
    #[must_use]
    pub fn read(&self, lease: &Lease) -> Vec<&Message> {
        self.cut(lease.txids, lease.from, lease.count)
    }

    /// Whether a cursor has not passed a message that is committed.
    #[must_use]
    pub fn is_beyond(&self, cursor: &Lease, message: &Message) -> bool {
        let place = self.place(message);
        !cursor.hi.has(message.tx)
            || cursor.more && cursor.txids.has(message.tx) && place > cursor.to
    }

    /// lease. The transaction holds the handler's lock until it ends. `keep`: an empty look writes
    /// down how far it has come, as it does when it was dear.
    pub fn lease(
        &mut self,
        who: Connection,
        handler: Handler,
        session: Session,
        token: u16,
        (n, keep): (u8, bool),
    ) -> Result<Option<Lease>, Refused> {
        let has_lock = |d: &Doing| {
            matches!(d, Doing::Lease(h) if *h == handler)
                || matches!(d, Doing::Truncate(_) | Doing::Advance)
        };
        if self.any(has_lock) {
            return Err(Refused::Busy);
        }
        if self.db.sessions[usize::from(session)] != Life::Live {
            return Err(Refused::Ended);
        }
        let mut over = self.db.over;
        if let Some(Transaction { tx: Some(own), .. }) = self.open.get(&who) {
            if !self.lacks(Broken::LeaseWhereOneInserts) {
                return Err(Refused::Nothing);
            }
            // A snapshot does not list its own transaction as in progress.
            over = over.with(*own);
        } else {
            self.begin(who, Doing::Lease(handler));
        }

        let c = self.cursor(handler).clone();
        let (mut txids, mut hi, mut from) = (c.txids, c.hi, c.to);
        let mut cut = if c.more { self.cut(txids, from, n) } else { Vec::new() };
        if cut.is_empty() {
            (txids, hi, from) = (over.minus(c.hi), over, START);
            if self.lacks(Broken::CursorOverIds) {
                (txids, from) = (over, c.to);
            }
            cut = self.cut(txids, from, n);
        }
        let Some((first, last)) = cut.first().zip(cut.last()) else {
            if c.more || keep {
                let row = self.cursor_row(handler, session, token, hi);
                self.open.get_mut(&who).expect("just begun").rows.leases.push(row);
            }
            return Ok(None);
        };
        let generations =
            cut.iter().fold((first.id.generation, first.id.generation), |(low, high), m| {
                (low.min(m.id.generation), high.max(m.id.generation))
            });
        let lease = Lease {
            txids,
            from,
            to: self.place(last),
            count: cut.len() as u8,
            leaves: leaves_between(generations),
            hi,
            more: cut.len() == usize::from(n),
            ..self.cursor_row(handler, session, token, hi)
        };
        self.open.get_mut(&who).expect("just begun").rows.leases.push(lease.clone());
        Ok(Some(lease))
    }
}

/// The leaves of generations from one to another.
fn leaves_between((low, high): (u16, u16)) -> Set {
    (low..=high).take(3).map(|generation| (generation % 3) as u8).collect()
}
