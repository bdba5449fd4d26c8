//! promote and the truncation of the schedule: `promote.sql`, the end of `rotate.sql`.

use crate::rows::{Message, Promotion, Rows, Scheduled};
use crate::set::Set;
use crate::world::{Broken, Connection, Doing, Refused, Sequence, World};

impl World {
    /// The cursor of the schedule.
    #[must_use]
    pub fn promotion(&self) -> &Promotion {
        self.db.rows.promotions.last().expect("it is carried forward")
    }

    /// Whether a committed row of the schedule has not been promoted.
    #[must_use]
    pub fn is_scheduled(&self, row: &Scheduled) -> bool {
        let c = self.promotion();
        let late = c.late.has(row.tx) && (row.tx, row.due.1) > c.late_to;
        row.due > c.to || !c.hi.has(row.tx) || late
    }

    /// promote: so many at most. Busy: another promotes. `keep`: as for lease.
    pub fn promote(&mut self, who: Connection, n: u8, keep: bool) -> Result<u8, Refused> {
        if self.any(|d| matches!(d, Doing::Promote | Doing::Advance)) {
            return Err(Refused::Busy);
        }
        self.begin(who, Doing::Promote);
        let c = self.promotion().clone();
        let n = usize::from(n);
        let (mut hi, mut late, mut late_to, mut to) = (c.hi, c.late, c.late_to, c.to);
        if late.is_empty() {
            (hi, late_to) = (self.db.over, (0, 0));
            late = if self.lacks(Broken::NoLatePromotion) { Set::EMPTY } else { hi.minus(c.hi) };
        }
        let all = || self.db.rows.scheduled.iter();

        // What came late, behind the cursor.
        let place = |s: &Scheduled| (s.tx, s.due.1);
        let mut promoted: Vec<_> =
            all().filter(|s| late.has(s.tx) && place(s) > late_to && s.due <= c.to).collect();
        promoted.sort_unstable_by_key(|s| place(s));
        promoted.truncate(n);
        if promoted.len() == n {
            late_to = place(promoted[n - 1]);
        } else {
            // What has become due.
            (late, late_to) = (Set::EMPTY, (0, 0));
            let due = |s: &&Scheduled| s.due > c.to && s.due.0 <= self.now && hi.has(s.tx);
            let mut more: Vec<_> = all().filter(due).collect();
            more.sort_unstable_by_key(|s| s.due);
            more.truncate(n - promoted.len());
            to = more.last().map_or(to, |s| s.due);
            promoted.extend(more);
        }
        let promoted: Vec<_> = promoted.into_iter().cloned().collect();
        if promoted.is_empty() && c.late.is_empty() && !keep {
            return Ok(0);
        }
        let tx = self.begin_tx();
        let mut rows = Rows::default();
        for Scheduled { payload, origin, handler, attempt, .. } in &promoted {
            let id = self.draw_message();
            let (payload, origin, handler) = (*payload, *origin, Some(*handler));
            rows.messages.push(Message { id, tx, payload, origin, handler, attempt: *attempt });
        }
        let id = self.draw(Sequence::Promotion);
        rows.promotions.push(Promotion { id, to, hi, late, late_to });
        self.db.used = self.db.used.with(id.leaf());
        let transaction = self.open.get_mut(&who).expect("just begun");
        (transaction.tx, transaction.rows) = (Some(tx), rows);
        Ok(promoted.len() as u8)
    }

    /// Truncates a leaf of the schedule: one that has these rows. As harsh as can be: the time of
    /// any leaf may be over, if only all in it are promoted.
    pub fn truncate_schedule(&mut self, of_due: i32) -> Result<(), Refused> {
        let in_leaf = |s: &Scheduled| s.due.0 == of_due;
        let c = self.promotion();
        if self.any(|d| matches!(d, Doing::Promote | Doing::Advance)) || !c.late.is_empty() {
            return Err(Refused::Busy);
        }
        let locked = self.open.values().any(|t| t.rows.scheduled.iter().any(in_leaf));
        let waits = |s: &Scheduled| in_leaf(s) && (s.due > c.to || !c.hi.has(s.tx));
        if locked || self.db.rows.scheduled.iter().any(waits) {
            return Err(Refused::Nothing);
        }
        let unsettled = self.db.rows.scheduled.iter().any(|s| in_leaf(s) && self.is_scheduled(s));
        self.db.truncated_unsettled |= unsettled;
        self.db.rows.scheduled.retain(|s| !in_leaf(s));
        Ok(())
    }
}
