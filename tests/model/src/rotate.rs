//! truncate and advance: `rotate.sql`.
//!
//! truncate is two steps. First it looks at what holds the leaf, and ends with the handlers'
//! cursors locked. Then it locks the leaf and empties it. advance is two steps as well: its setval
//! shows at once, and stays even if its transaction is rolled back.

use crate::rows::{Lease, Message, Promotion, Rows};
use crate::set::Set;
use crate::world::{Broken, Connection, Doing, Refused, Sequence, Transaction, World};

impl World {
    /// What new rows go to.
    #[must_use]
    pub fn present_leaf(&self) -> u8 {
        (self.db.generation % 3) as u8
    }

    fn messages_in(&self, leaf: u8) -> impl Iterator<Item = &Message> {
        self.db.rows.messages.iter().filter(move |m| m.id.leaf() == leaf)
    }

    fn has_beyond_cursor(&self, leaf: u8) -> bool {
        let handlers = 0..self.db.handlers.len() as u8;
        handlers.into_iter().any(|h| {
            let cursor = self.cursor(h);
            self.messages_in(leaf).any(|m| self.is_beyond(cursor, m))
        })
    }

    /// Whether anything keeps a leaf from being truncated.
    #[must_use]
    pub fn is_held(&self, leaf: u8) -> bool {
        let handlers = 0..self.db.handlers.len() as u8;
        let pins = |l: &Lease| l.leaves.has(leaf) || l.id.leaf() == leaf;
        handlers.is_empty()
            || handlers.into_iter().any(|h| self.cursor(h).id.leaf() == leaf)
            || self.has_beyond_cursor(leaf)
            || self.promotion().id.leaf() == leaf
            || self.open_leases().any(pins) && !self.lacks(Broken::NoLowWaterMark)
            || self.tells_of_an_older(leaf)
    }

    /// Whether leases of a leaf are of messages in the leaf of the generation before it, which goes
    /// first.
    fn tells_of_an_older(&self, leaf: u8) -> bool {
        let oldest = ((self.db.generation + 1) % 3) as u8;
        let of_it = |l: &Lease| l.id.leaf() == leaf && l.count > 0 && l.leaves.has(oldest);
        leaf != oldest && self.db.used.has(oldest) && self.db.rows.leases.iter().any(of_it)
    }

    /// truncate, as far as it looks.
    pub fn truncate_look(&mut self, who: Connection, leaf: u8) -> Result<(), Refused> {
        let rotation = |d: &Doing| matches!(d, Doing::Truncate(_) | Doing::Advance);
        let shared = |d: &Doing| matches!(d, Doing::TakeOver(_));
        let leasing = |d: &Doing| matches!(d, Doing::Lease(_));
        let takes_over = self.any(shared) && !self.lacks(Broken::TakeOverWithoutLock);
        if leaf == self.present_leaf()
            || self.is_held(leaf)
            || self.any(rotation)
            || self.any(leasing)
            || takes_over
        {
            return Err(Refused::Nothing);
        }
        self.begin(who, Doing::Truncate(leaf));
        Ok(())
    }

    /// Whether nobody has a lock on the tables of a leaf. Every function reads all leaves of a log;
    /// a producer has only those that it has inserted in.
    fn is_free(&self, leaf: u8) -> bool {
        let in_way = |t: &Transaction| match t.doing {
            Doing::Produce => t.rows.messages.iter().any(|m| m.id.leaf() == leaf),
            Doing::Truncate(_) => false,
            _ => true,
        };
        !self.open.values().any(in_way)
    }

    /// truncate, once it has waited for the leaf's lock: does it, or gives up.
    pub fn truncate_finish(&mut self, who: Connection) -> Result<(), Refused> {
        let Doing::Truncate(leaf) = self.open[&who].doing else {
            panic!("{who} truncates nothing")
        };
        let late = self.has_beyond_cursor(leaf) && !self.lacks(Broken::NoSecondLook);
        self.abort(who);
        if late || !self.is_free(leaf) {
            return Err(Refused::Nothing);
        }
        let unsettled = self.messages_in(leaf).any(|m| self.is_unsettled(m));
        let open = self.open_leases().any(|l| l.id.leaf() == leaf);
        self.db.truncated_unsettled |= unsettled || open;
        let first = |m: &&Message| m.id == m.origin;
        self.db.gone = self
            .messages_in(leaf)
            .filter(first)
            .fold(self.db.gone, |gone, m| gone.with(m.payload as u8));
        let rows = &mut self.db.rows;
        rows.messages.retain(|m| m.id.leaf() != leaf);
        rows.leases.retain(|l| l.id.leaf() != leaf);
        rows.settlements.retain(|s| s.lease.leaf() != leaf);
        rows.promotions.retain(|p| p.id.leaf() != leaf);
        self.db.used = self.db.used.without(leaf);
        Ok(())
    }

    /// advance, as far as everybody sees it at once: the sequences.
    pub fn advance_begin(&mut self, who: Connection) -> Result<(), Refused> {
        let locked = self.any(|d| match d {
            Doing::Produce | Doing::Settle(_) => false,
            Doing::TakeOver(_) => !self.lacks(Broken::TakeOverWithoutLock),
            _ => true,
        });
        let next = ((self.db.generation + 1) % 3) as u8;
        if locked || !self.db.used.has(self.present_leaf()) || self.db.used.has(next) {
            return Err(Refused::Nothing);
        }
        self.db.generation += 1;
        self.db.next = [1; 3];
        self.begin(who, Doing::Advance);
        Ok(())
    }

    /// advance, to where it can commit: the cursors are carried forward.
    pub fn advance_carry(&mut self, who: Connection) {
        let mut rows = Rows::default();
        let id = self.draw(Sequence::Promotion);
        rows.promotions.push(Promotion { id, ..self.promotion().clone() });
        for handler in 0..self.db.handlers.len() as u8 {
            let id = self.draw_lease();
            let (session, leaves) = (u8::MAX, Set::EMPTY);
            let cursor = self.cursor(handler).clone();
            rows.leases.push(Lease { id, session, leaves, count: 0, ..cursor });
        }
        self.db.used = self.db.used.with(self.present_leaf());
        self.open.get_mut(&who).expect("advance has begun").rows = rows;
    }
}
