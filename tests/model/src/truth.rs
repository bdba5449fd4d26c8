//! What must hold: where each message is, for each handler.

use crate::rows::{Handler, Message, Outcome};
use crate::world::World;

impl World {
    /// How many times a message waits in the queue for a handler, or is open in a lease of it.
    fn in_queue(&self, handler: Handler, counts: impl Fn(&Message) -> bool) -> usize {
        let counts = |m: &Message| m.is_for(handler) && counts(m);
        let cursor = self.cursor(handler);
        let messages = self.db.rows.messages.iter();
        let to_come = messages.filter(|m| counts(m) && self.is_beyond(cursor, m));
        let leases = self.open_leases().filter(|l| l.handler == handler);
        let in_leases = leases.map(|lease| {
            let messages = self.read(lease);
            let rest = self.rest(lease).iter().filter_map(|p| messages.get(usize::from(p)));
            rest.filter(|m| counts(m)).count()
        });
        to_come.count() + in_leases.sum::<usize>()
    }

    /// Whether a message is still to be handled by anyone. Without a handler it waits for one.
    #[must_use]
    pub fn is_unsettled(&self, message: &Message) -> bool {
        let handlers = self.db.handlers.len() as Handler;
        handlers == 0 || (0..handlers).any(|h| self.in_queue(h, |m| m.id == message.id) > 0)
    }

    /// How many places a message is in for a handler: in the queue, in a lease, on the schedule,
    /// settled for good.
    #[must_use]
    pub fn places(&self, handler: Handler, payload: u16) -> usize {
        let scheduled = self
            .db
            .rows
            .scheduled
            .iter()
            .filter(|s| s.payload == payload && s.handler == handler && self.is_scheduled(s));
        self.in_queue(handler, |m| m.payload == payload)
            + scheduled.count()
            + self.ends(handler, payload)
    }

    /// How often a message has ended for a handler: was acked or became a dead letter.
    #[must_use]
    pub fn ends(&self, handler: Handler, payload: u16) -> usize {
        let effects = self.db.rows.effects.iter();
        let ended = |o: Outcome| matches!(o, Outcome::Ack | Outcome::Dead);
        effects.filter(|e| e.payload == payload && e.handler == handler && ended(e.outcome)).count()
    }

    /// I1 and half of I2: each committed message is in exactly one place for each handler.
    #[must_use]
    pub fn each_in_one_place(&self) -> bool {
        (0..self.db.handlers.len() as Handler).all(|handler| {
            let excused = self.db.handlers[usize::from(handler)];
            let owed = self.db.committed.minus(excused);
            owed.iter().all(|payload| self.places(handler, payload.into()) == 1)
        })
    }

    /// The other half of I2: no attempt of a message has two effects for a handler.
    #[must_use]
    pub fn each_effect_once(&self) -> bool {
        let of = |i: usize| {
            let effect = &self.db.rows.effects[i];
            (effect.payload, effect.handler, effect.attempt)
        };
        (0..self.db.rows.effects.len()).all(|i| (0..i).all(|j| of(i) != of(j)))
    }
}
