//! The model's state, in the lines that `facts.sql` gives of the database. Never looks at the
//! database.

use std::fmt::Write as _;

use model::{Handler, Id, Outcome, Set, World};

/// An id in words: generation and number.
pub fn id(id: Id) -> String {
    format!("{}.{}", id.generation, id.number)
}

/// A set as Postgres writes a multirange.
pub fn multirange(set: Set) -> String {
    let mut text = String::from("{");
    for n in set.iter() {
        if n == 0 || !set.has(n - 1) {
            let end = (n..=127).find(|end| !set.has(*end)).expect("an end");
            let comma = if text.len() > 1 { "," } else { "" };
            write!(text, "{comma}[{n},{end})").expect("writing to a String cannot fail");
        }
    }
    text + "}"
}

/// All that the model has, sorted.
pub fn facts(world: &World) -> Vec<String> {
    let db = &world.db;
    let handlers = 0..db.handlers.len() as Handler;
    let mut facts = Vec::new();
    for m in &db.rows.messages {
        let handler = m.handler.map_or("all".to_owned(), |h| h.to_string());
        facts.push(format!(
            "message {} payload {} of {} for {handler} attempt {}",
            id(m.id),
            m.payload,
            id(m.origin),
            m.attempt
        ));
        for handler in handlers.clone().filter(|h| world.is_beyond(world.cursor(*h), m)) {
            facts.push(format!("message {} is to come for {handler}", id(m.id)));
        }
    }
    for lease in db.rows.leases.iter().filter(|l| l.count > 0) {
        let rest = world.rest(lease);
        let leaves: u8 = lease.leaves.iter().map(|leaf| 1 << leaf).sum();
        facts.push(format!(
            "lease {} of session {} for {} leaves {leaves} deaths {} cursor {} leftover {} rest {}",
            id(lease.id),
            lease.session,
            lease.handler,
            lease.deaths,
            lease.is_cursor,
            lease.leftover,
            multirange(rest)
        ));
        let messages = world.read(lease);
        for position in lease.all().iter().filter(|_| !rest.is_empty()) {
            let m = messages[usize::from(position)];
            let (lease, payload, attempt) = (id(lease.id), m.payload, m.attempt);
            facts.push(format!("lease {lease} has {position} payload {payload} attempt {attempt}"));
        }
    }
    facts.extend(db.rows.settlements.iter().map(|s| {
        let settled = multirange(s.settled);
        format!("settlement {} of {} settled {settled} revoked {}", s.seq, id(s.lease), s.revoked)
    }));
    facts.extend(db.rows.scheduled.iter().map(|s| {
        let (payload, handler, attempt) = (s.payload, s.handler, s.attempt);
        let waits = world.is_scheduled(s);
        let number = s.due.1;
        format!(
            "scheduled {number} payload {payload} for {handler} attempt {attempt} waits {waits}"
        )
    }));
    let promotion = world.promotion();
    facts.push(format!("promoted up to {} by {}", promotion.to.1, id(promotion.id)));
    for effect in &db.rows.effects {
        let what = match effect.outcome {
            Outcome::Ack => "acked",
            Outcome::Dead => "dead",
            Outcome::Retry(_) | Outcome::NotOurs => continue,
        };
        let (payload, handler, attempt) = (effect.payload, effect.handler, effect.attempt);
        facts.push(format!("{what} payload {payload} for {handler} attempt {attempt}"));
    }
    facts.extend(db.used.iter().map(|leaf| format!("leaf {leaf} is used")));
    for (kind, number) in ["message", "lease", "promotion"].into_iter().zip(db.next) {
        facts.push(format!("next {kind} {}", id(Id { generation: db.generation, number })));
    }
    facts.sort_unstable();
    facts
}

/// What is in one and not in the other, line by line; empty if they are the same. Both are sorted.
pub fn difference(model: &[String], database: &[String]) -> String {
    let mut text = String::new();
    let count = |of: &[String], line: &String| of.iter().filter(|l| *l == line).count();
    for (mark, one, other) in [("model only", model, database), ("database only", database, model)]
    {
        for line in one.iter().filter(|line| count(one, line) > count(other, line)) {
            writeln!(text, "{mark}: {line}").expect("writing to a String cannot fail");
        }
    }
    text
}
