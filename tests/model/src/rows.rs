//! The rows of the tables: what the functions read and write. Nothing here decides anything.

use crate::set::Set;

/// A transaction's place in the order of txids. Only those that write what windows are cut of have
/// one.
pub type Tx = u8;
/// A session.
pub type Session = u8;
/// A handler.
pub type Handler = u8;
/// Where a row stands in a window.
pub type Place = (Tx, Id);

/// The place before all others.
pub const START: Place = (0, Id { generation: 0, number: 0 });

/// What an identity gives: the id in the database is `generation * 10^11 + number`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Id {
    /// The generation.
    pub generation: u16,
    /// From 1 in each generation.
    pub number: u16,
}

impl Id {
    /// The leaf that it is kept in.
    #[must_use]
    pub const fn leaf(self) -> u8 {
        (self.generation % 3) as u8
    }
}

/// A row of the queue's table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Message {
    /// Its id.
    pub id: Id,
    /// Who inserted it.
    pub tx: Tx,
    /// What the producer gave; no two messages have the same.
    pub payload: u16,
    /// The id that it had first.
    pub origin: Id,
    /// Meant for this handler only.
    pub handler: Option<Handler>,
    /// From 1.
    pub attempt: u8,
}

impl Message {
    /// Whether a handler is to run it: a retry is for one alone.
    #[must_use]
    pub fn is_for(&self, handler: Handler) -> bool {
        self.handler.is_none_or(|only| only == handler)
    }
}

/// A row of the lease log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Lease {
    /// Its id.
    pub id: Id,
    /// Never given twice, whatever happens.
    pub token: u16,
    /// Who holds it.
    pub session: Session,
    /// For which handler.
    pub handler: Handler,
    /// The window's transactions.
    pub txids: Set,
    /// Its messages come after this.
    pub from: Place,
    /// The last of them.
    pub to: Place,
    /// How many they are.
    pub count: u8,
    /// Those still to do, of a lease that was taken over.
    pub positions: Option<Set>,
    /// The leaves that they are in.
    pub leaves: Set,
    /// The transactions that were over when the window was cut.
    pub hi: Set,
    /// Whether the window may have more.
    pub more: bool,
    /// Whether it is the handler's cursor.
    pub is_cursor: bool,
    /// Sessions that died with it.
    pub deaths: u8,
    /// What take_over left of one: its death is counted already.
    pub leftover: bool,
}

impl Lease {
    /// The positions that it had to do when it began.
    #[must_use]
    pub fn all(&self) -> Set {
        self.positions.unwrap_or(Set::below(self.count))
    }
}

/// A row of the settlement log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Settlement {
    /// Of this lease.
    pub lease: Id,
    /// From 0.
    pub seq: u8,
    /// What it settled.
    pub settled: Set,
    /// By take_over.
    pub revoked: bool,
}

/// When a message on the schedule is due, then its number there.
pub type Due = (i32, u16);

/// A row of the schedule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Scheduled {
    /// When, and its number.
    pub due: Due,
    /// Who put it there.
    pub tx: Tx,
    /// As in [`Message`].
    pub payload: u16,
    /// As in [`Message`].
    pub origin: Id,
    /// Whose retry it is.
    pub handler: Handler,
    /// The attempt that it is for.
    pub attempt: u8,
}

/// A row of the promotion log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Promotion {
    /// Its id.
    pub id: Id,
    /// Promoted up to here, of what was over in `hi`.
    pub to: Due,
    /// The transactions that were over.
    pub hi: Set,
    /// Late transactions, which may have put something before `to`.
    pub late: Set,
    /// Of these, promoted up to here.
    pub late_to: (Tx, u16),
}

/// What a handler said of a message, as the host understands it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Outcome {
    /// Done, with one follow-up message.
    Ack,
    /// Again, so long after the settlement began.
    Retry(i32),
    /// To the dead letters.
    Dead,
    /// Another handler's retry: nothing to do.
    NotOurs,
}

/// What a settlement did for one message.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Effect {
    /// Which.
    pub payload: u16,
    /// For whom.
    pub handler: Handler,
    /// In which attempt.
    pub attempt: u8,
    /// What.
    pub outcome: Outcome,
}

/// The rows of all tables, or those that a transaction is about to add.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Rows {
    /// The queue's own table.
    pub messages: Vec<Message>,
    /// The lease log.
    pub leases: Vec<Lease>,
    /// The settlement log.
    pub settlements: Vec<Settlement>,
    /// The schedule.
    pub scheduled: Vec<Scheduled>,
    /// The promotion log.
    pub promotions: Vec<Promotion>,
    /// Acks (of which the database has the follow-ups), retries and dead letters.
    pub effects: Vec<Effect>,
}

impl Rows {
    /// Adds rows, and keeps every table sorted.
    pub(crate) fn add(&mut self, more: Self) {
        fn add<T: Ord>(to: &mut Vec<T>, more: Vec<T>) {
            if !more.is_empty() {
                to.extend(more);
                to.sort_unstable();
            }
        }
        add(&mut self.messages, more.messages);
        add(&mut self.leases, more.leases);
        add(&mut self.settlements, more.settlements);
        add(&mut self.scheduled, more.scheduled);
        add(&mut self.promotions, more.promotions);
        add(&mut self.effects, more.effects);
    }
}
