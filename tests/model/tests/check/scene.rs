//! What a scene has, what may happen in it, and what has.

use std::sync::atomic::{AtomicU64, Ordering};

use model::{Broken, Connection, Handler, Id, Outcome, Session};

/// What a scene has, and how often what may happen.
#[derive(Debug)]
pub(crate) struct Scene {
    /// Transactions that insert a message each.
    pub producers: u8,
    /// Whether a producer's id may be drawn long before its row is inserted.
    pub draws_early: bool,
    /// Transactions that are rolled back.
    pub aborts: u8,
    /// Sessions.
    pub sessions: u8,
    /// Handlers there are from the beginning.
    pub handlers: u8,
    /// Handlers that are deployed later.
    pub deploys: u8,
    /// How many messages a lease may ask for.
    pub batches: &'static [u8],
    /// Leases and take-overs.
    pub leases: u16,
    /// Attempts of a message.
    pub attempts: u8,
    /// Sessions that may be ended, whether they live or not: the first ones.
    pub ends: u8,
    /// Crashes of the database.
    pub crashes: u8,
    /// Generations that are begun.
    pub generations: u16,
    /// Deaths that make a dead letter.
    pub deaths_max: u8,
    /// The rule that is left out.
    pub broken: Option<Broken>,
    /// What happened.
    pub tally: Tally,
}

/// What may happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// A producer begins, draws an id and inserts.
    Insert,
    /// A producer begins and draws an id.
    Draw,
    /// It inserts with the id that it has drawn.
    InsertDrawn(Connection),
    Commit(Connection),
    Abort(Connection),
    Lease(Session, Handler, u8),
    /// A lease in a producer's transaction, which goes on to insert.
    LeaseInside(Connection, u8),
    /// A session settles so many more messages of a lease.
    Settle(usize, u8, Outcome),
    /// A request arrives again.
    Again(usize, usize),
    /// settle and take_over, from their reading to their writing.
    Write(Connection),
    TakeOver(Session, Id, u8),
    End(Session, bool),
    Promote(u8),
    TruncateLook(u8),
    TruncateFinish,
    TruncateSchedule(i32),
    AdvanceBegin,
    AdvanceCarry,
    Deploy,
    Tick,
    /// Postgres crashes, and comes back as it was at this of the states that it may come back to.
    Crash(usize),
}

/// How often it came to what must be possible, or the model shows nothing.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// A leaf with messages was truncated.
    pub truncated: AtomicU64,
    /// A leaf that was to be truncated had got a late message meanwhile.
    pub late: AtomicU64,
    /// A settlement was refused because its lease was lost.
    pub fenced: AtomicU64,
    /// Of two that wrote the same settlement number, one was refused.
    pub conflict: AtomicU64,
    /// A settlement came again after it was made.
    pub repeated: AtomicU64,
    /// A lease that its session believes in was lost in a crash.
    pub lost: AtomicU64,
    /// A retry came back into the queue.
    pub promoted: AtomicU64,
    /// What a dead host left became dead letters.
    pub poisoned: AtomicU64,
}

/// Once more.
pub(crate) fn count(what: &AtomicU64) {
    what.fetch_add(1, Ordering::Relaxed);
}
