//! The state: what is committed in the database, and the transactions that are not over. Never
//! decides anything: that is for the functions beside it.

use std::collections::BTreeMap;

use crate::rows::{Handler, Id, Outcome, Promotion, Rows, Session, Tx};
use crate::set::Set;

/// Whether a session lives, as the database has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Life {
    /// Not ended.
    Live,
    /// Ended in order.
    Stopped,
    /// Found dead.
    Lost,
}

/// A connection: who has a transaction open.
pub type Connection = u8;

/// What is committed: what a snapshot taken now would see.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Db {
    /// The next transaction's place.
    pub next_tx: Tx,
    /// The transactions that are over.
    pub over: Set,
    /// The generation that the sequences are in.
    pub generation: u16,
    /// The sequences: messages, leases, promotions.
    pub next: [u16; 3],
    /// The schedule's.
    pub next_scheduled: u16,
    /// The leaves that have anything on disk, be it rolled back.
    pub used: Set,
    /// The tables, each sorted.
    pub rows: Rows,
    /// Handlers, by number, each with the payloads that were gone when it was deployed.
    pub handlers: Vec<Set>,
    /// Payloads whose first row was committed.
    pub committed: Set,
    /// Payloads whose first row was truncated.
    pub gone: Set,
    /// Sessions, by number.
    pub sessions: Vec<Life>,
    /// Settled by one who had not run it. Must never be.
    pub settled_unseen: bool,
    /// Truncated before it was settled. Must never be.
    pub truncated_unsettled: bool,
}

/// What a transaction is about, with what its function has read so far.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Doing {
    /// A producer's.
    Produce,
    /// lease.
    Lease(Handler),
    /// settle.
    Settle(Settle),
    /// take_over.
    TakeOver(TakeOver),
    /// promote.
    Promote,
    /// truncate, which has looked and has not yet locked the leaf.
    Truncate(u8),
    /// advance.
    Advance,
}

/// A request to settle, as its session sends it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Settle {
    /// The lease's id.
    pub lease: Id,
    /// Who asks.
    pub session: Session,
    /// The lease's token.
    pub token: u16,
    /// The handler that has run the messages. Not in the real request.
    pub handler: Handler,
    /// From 0 for each lease.
    pub seq: u8,
    /// What is settled.
    pub done: Vec<Done>,
}

/// A message that its handler has run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Done {
    /// Its position in the lease.
    pub position: u8,
    /// The message that was run. Not in the real request.
    pub payload: u16,
    /// In which attempt. Not in the real request.
    pub attempt: u8,
    /// What came of it.
    pub outcome: Outcome,
}

/// A request to take a lease over.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TakeOver {
    /// Which.
    pub lease: Id,
    /// Who asks.
    pub session: Session,
    /// For the new lease.
    pub token: u16,
    /// At most so many messages.
    pub n: u8,
    /// The number of the settlement that ends the old one, once it has been looked up.
    pub seq: u8,
}

/// A transaction that is not over.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Transaction {
    /// What it is about.
    pub doing: Doing,
    /// Its place in the order of txids, if it has one.
    pub tx: Option<Tx>,
    /// When it began.
    pub began: i32,
    /// What it will have added.
    pub rows: Rows,
}

/// Why a function refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// HQ001: the session has ended.
    Ended,
    /// HQ002: the lease is not, or no longer, the session's.
    Lost,
    /// 23505: another has just written the same settlement number.
    Conflict,
    /// Another has the lock: this one waits, or does nothing.
    Busy,
    /// There is nothing to do, or something is in the way.
    Nothing,
}

/// A rule left out on purpose, to see that the checker notices.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Broken {
    /// A lease's number and session are proof enough.
    NoToken,
    /// A settlement's number need not be unique.
    NoCompareAndSet,
    /// A leaf may go although leases on it are open.
    NoLowWaterMark,
    /// No second look for late messages once the leaf is locked.
    NoSecondLook,
    /// take_over takes no lock against rotation.
    TakeOverWithoutLock,
    /// The cursor is an id, not a snapshot.
    CursorOverIds,
    /// A lease may be in a transaction that goes on to insert.
    LeaseWhereOneInserts,
    /// Another handler's retry, in a lease that hosts died with, becomes a dead letter too.
    NotOursDies,
    /// Promotion looks only at what has become due, not behind its cursor.
    NoLatePromotion,
}

/// The database, with the transactions that are not over.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    /// What is committed.
    pub db: Db,
    /// What is not, by connection.
    pub open: BTreeMap<Connection, Transaction>,
    /// The time of the model.
    pub now: i32,
    /// Lost sessions after which a message is a dead letter.
    pub deaths_max: u8,
    /// The rule that is left out.
    pub broken: Option<Broken>,
}

impl World {
    /// A queue with so many live sessions, and no handler.
    #[must_use]
    pub fn new(sessions: u8, deaths_max: u8) -> Self {
        let id = Id { generation: 0, number: 1 };
        let late_to = (0, 0);
        let promotion =
            Promotion { id, to: (i32::MIN, 0), hi: Set::EMPTY, late: Set::EMPTY, late_to };
        let db = Db {
            next_tx: 0,
            over: Set::EMPTY,
            generation: 0,
            next: [1, 1, 2],
            next_scheduled: 1,
            used: Set::only(0),
            rows: Rows { promotions: vec![promotion], ..Rows::default() },
            handlers: Vec::new(),
            committed: Set::EMPTY,
            gone: Set::EMPTY,
            sessions: vec![Life::Live; sessions.into()],
            settled_unseen: false,
            truncated_unsettled: false,
        };
        Self { db, open: BTreeMap::new(), now: 0, deaths_max, broken: None }
    }

    /// Whether this rule is left out.
    #[must_use]
    pub fn lacks(&self, rule: Broken) -> bool {
        self.broken == Some(rule)
    }

    /// The next id of a sequence.
    pub(crate) fn draw(&mut self, sequence: Sequence) -> Id {
        let number = &mut self.db.next[sequence as usize];
        *number += 1;
        Id { generation: self.db.generation, number: *number - 1 }
    }

    /// A place in the order of txids.
    pub(crate) fn begin_tx(&mut self) -> Tx {
        self.db.next_tx += 1;
        self.db.next_tx - 1
    }

    /// Begins a transaction on a connection that has none.
    pub(crate) fn begin(&mut self, who: Connection, doing: Doing) -> &mut Transaction {
        let began = Transaction { doing, tx: None, began: self.now, rows: Rows::default() };
        assert!(!self.open.contains_key(&who), "connection {who} has a transaction");
        self.open.entry(who).or_insert(began)
    }

    /// Commits a transaction.
    pub fn commit(&mut self, who: Connection) {
        let rows = self.end(who);
        let first = rows.messages.iter().filter(|m| m.id == m.origin);
        self.db.committed = first.fold(self.db.committed, |all, m| all.with(m.payload as u8));
        self.db.rows.add(rows);
    }

    /// Rolls a transaction back, or loses its connection.
    pub fn abort(&mut self, who: Connection) {
        self.end(who);
    }

    fn end(&mut self, who: Connection) -> Rows {
        let transaction = self.open.remove(&who).expect("a transaction");
        self.db.over = transaction.tx.map_or(self.db.over, |tx| self.db.over.with(tx));
        transaction.rows
    }

    /// Whether a transaction for which this holds is open.
    pub(crate) fn any(&self, holds: impl Fn(&Doing) -> bool) -> bool {
        self.open.values().any(|t| holds(&t.doing))
    }
}

/// The sequences that carry the generation.
#[derive(Clone, Copy)]
pub(crate) enum Sequence {
    Message,
    Lease,
    Promotion,
}
