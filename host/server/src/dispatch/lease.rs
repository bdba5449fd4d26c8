//! The step "lease": when to lease, how much, from which lane, and from which stray. Pure, but for
//! slots.

use std::time::{Duration, Instant};

use self::idle::Idle;
use self::pace::{CallShape, Pace};
use self::slots::{Slot, Slots};
use self::strays::Strays;
use host_core::message::lane::{LaneTurns, Lanes};

pub(crate) mod idle;
pub mod pace;
pub mod slots;
pub(crate) mod strays;

/// What decides on the leases of one handler.
#[derive(Debug)]
pub(super) struct LeasePlanner {
    /// When to look.
    pub(super) idle: Idle,
    /// How much to lease.
    pub(super) pace: Pace,
    /// Which lane's turn it is.
    pub(super) turns: LaneTurns,
    /// What other hosts have left.
    pub(super) strays: Strays,
    leased_at: Instant,
    cores: u32,
}

/// What a handler has under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Round trips that lease.
    pub(super) leasing: usize,
    /// Messages that these ask for.
    pub(super) requested: u32,
    /// Messages leased and not finished.
    pub(super) in_hand: usize,
    /// How the handler is called.
    pub(super) shape: CallShape,
}

/// How much to lease.
#[derive(Debug)]
pub(super) struct LeaseSize {
    /// The sandboxes that run it. None: it is leased ahead of them.
    pub(super) slots: Vec<Slot>,
    /// Leases at most, of a queue with lanes.
    pub(super) leases_max: u32,
    /// Messages at most.
    pub(super) messages_max: u32,
}

impl LeasePlanner {
    pub(super) fn new(lanes: Lanes, poll_max: Duration, cores: u32, now: Instant) -> Self {
        Self {
            idle: Idle::new(poll_max, now),
            pace: Pace::default(),
            turns: LaneTurns::of(lanes),
            strays: Strays::new(now),
            leased_at: now,
            cores,
        }
    }

    /// When to lease next. `None`: there is no room, or a lease under way must answer first.
    pub(super) fn next_at(&self, load: Load, now: Instant) -> Option<Instant> {
        let room = self.room(load);
        if room == 0 {
            return None;
        }
        if !self.strays.is_empty() {
            return (load.leasing == 0).then_some(now);
        }
        let look = self.idle.next_look(load.leasing)?;
        Some(look.max(self.leased_at + self.pace.pause(room, load.shape, self.cores)))
    }

    /// Notes that a lease is requested.
    pub(super) const fn leased(&mut self, now: Instant) {
        self.leased_at = now;
    }

    /// How many more messages to have in hand.
    fn room(&self, load: Load) -> u32 {
        // Where the database is near, an answer is here before the next request.
        let coming = if self.pace.leases_ahead() { load.requested } else { 0 };
        self.pace.in_hand(load.shape, self.cores).saturating_sub(load.in_hand as u32 + coming)
    }

    /// How much to lease, with one slot in hand, or with none if it is leased ahead: takes the free
    /// slots that are worth using as well, up to `slots_max`.
    pub(super) fn size(
        &self,
        first: Option<Slot>,
        free: &Slots,
        load: Load,
        slots_max: usize,
    ) -> LeaseSize {
        let per_call = load.shape.per_call;
        let wanted = self.room(load).clamp(1, self.pace.lease_max(load.shape, self.cores));
        let worth = self.pace.sandboxes(wanted).min(wanted.div_ceil(per_call)) as usize;
        let count = worth.clamp(1, slots_max);
        let Some(first) = first else {
            return LeaseSize { slots: vec![], leases_max: count as u32, messages_max: wanted };
        };
        let more = std::iter::from_fn(|| free.try_acquire());
        let slots: Vec<Slot> = std::iter::once(first).chain(more).take(count).collect();
        let leases_max = slots.len() as u32;
        let messages_max = wanted.min(self.pace.messages(leases_max, per_call)).max(1);
        LeaseSize { slots, leases_max, messages_max }
    }
}
