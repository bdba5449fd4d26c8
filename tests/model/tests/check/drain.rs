//! That nothing is ever stuck: from any state, one new host works everything off, and then
//! everything is truncated.

use model::{Connection, Done, Handler, Lease, Life, Outcome, Session, Settle, TakeOver, World};

const WHO: Connection = 100;

/// Whether it is so.
pub(crate) fn can_be_worked_off(world: &World) -> bool {
    let mut world = world.clone();
    for session in 0..world.db.sessions.len() as Session {
        world.end_session(session, false);
    }
    let session = world.db.sessions.len() as Session;
    world.db.sessions.push(Life::Live);
    world.now = i32::MAX / 2;
    let handlers = world.db.handlers.len() as Handler;
    loop {
        let before = world.db.rows.effects.len();
        let open: Vec<_> = world.open_leases().map(|l| l.id).collect();
        for lease in open {
            let request = TakeOver { lease, session, token: 0, n: 8, seq: 0 };
            world.take_over_read(WHO, request).expect("its session has ended");
            let taken = world.take_over_write(WHO).expect("nobody else does");
            world.commit(WHO);
            if !settle(&mut world, taken) {
                return false;
            }
        }
        for handler in 0..handlers {
            let lease = world.lease(WHO, handler, session, 0, (8, false)).expect("nobody leases");
            world.commit(WHO);
            if !settle(&mut world, lease) {
                return false;
            }
        }
        let promoted = world.promote(WHO, 8, false).expect("nobody else does");
        world.commit(WHO);
        if promoted == 0 && world.db.rows.effects.len() == before {
            break;
        }
    }
    let ended = (0..handlers).all(|handler| {
        let owed = world.db.committed.minus(world.db.handlers[usize::from(handler)]);
        owed.iter().all(|payload| world.ends(handler, payload.into()) == 1)
    });
    ended && (handlers == 0 || can_be_truncated(&mut world))
}

/// Acks whatever a lease has. False: its messages are gone.
fn settle(world: &mut World, lease: Option<Lease>) -> bool {
    let Some(lease) = lease else { return true };
    let messages = world.read(&lease);
    if messages.len() < usize::from(lease.count) {
        return false;
    }
    let done = lease.all().iter().map(|position| {
        let message = messages[usize::from(position)];
        let ours = message.is_for(lease.handler);
        let outcome = if ours { Outcome::Ack } else { Outcome::NotOurs };
        Done { position, payload: message.payload, attempt: message.attempt, outcome }
    });
    let done = done.collect();
    let Lease { id, session, token, handler, .. } = lease;
    let request = Settle { lease: id, session, token, handler, seq: 0, done };
    world.settle_read(WHO, &request).expect("it is its own");
    world.settle_write(WHO).expect("nobody else does");
    world.commit(WHO);
    true
}

/// Whether all that is not in the present leaf goes, in the course of some generations. An advance
/// that was cut off has left cursors behind, which the next look or the next advance carries
/// forward.
fn can_be_truncated(world: &mut World) -> bool {
    let session = world.db.sessions.len() as Session - 1;
    for _ in 0..3 {
        for handler in 0..world.db.handlers.len() as Handler {
            world.lease(WHO, handler, session, 0, (8, true)).expect("nobody leases");
            world.commit(WHO);
        }
        world.promote(WHO, 8, true).expect("nobody else does");
        world.commit(WHO);
        for leaf in others(world) {
            if world.truncate_look(WHO, leaf).is_ok() {
                world.truncate_finish(WHO).expect("there is nobody else");
            }
        }
        if others(world).into_iter().any(|leaf| world.db.used.has(leaf)) {
            return false;
        }
        world.advance_begin(WHO).expect("the next leaf is empty");
        world.advance_carry(WHO);
        world.commit(WHO);
    }
    true
}

fn others(world: &World) -> [u8; 2] {
    [1, 2].map(|n| (world.present_leaf() + n) % 3)
}
