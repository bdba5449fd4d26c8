//! Lanes: the strands of a queue, each with a cursor of its own, and whose turn it is. Pure.

use std::fmt;
use std::str::FromStr;

use crate::format::plural;

/// Which lanes a queue has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lanes {
    /// One, as most queues.
    #[default]
    One,
    /// One for each [`Priority`], numbered from 0.
    Priorities,
    /// So many, by hash of the key. In each the messages run one at a time and in order.
    Ordered(u16),
    /// So many, by hash of the key. Each has the queue's limits for itself, and they are leased
    /// from in turn.
    Keyed(u16),
}

impl Lanes {
    /// How many there are.
    #[must_use]
    pub const fn count(self) -> u16 {
        match self {
            Self::One => 1,
            Self::Priorities => Priority::ALL.len() as u16,
            Self::Ordered(lanes) | Self::Keyed(lanes) => lanes,
        }
    }

    /// Those of a queue, as its row in the catalog has them: at most one of these is given.
    #[must_use]
    pub const fn of(priorities: bool, ordered: Option<u16>, keyed: Option<u16>) -> Self {
        match (ordered, keyed) {
            (Some(lanes), _) => Self::Ordered(lanes),
            (None, Some(lanes)) => Self::Keyed(lanes),
            (None, None) if priorities => Self::Priorities,
            (None, None) => Self::One,
        }
    }

    /// How many, if the messages of each keep their order.
    #[must_use]
    pub const fn ordered(self) -> Option<u16> {
        if let Self::Ordered(lanes) = self { Some(lanes) } else { None }
    }

    /// How many, if each has limits of its own.
    #[must_use]
    pub const fn keyed(self) -> Option<u16> {
        if let Self::Keyed(lanes) = self { Some(lanes) } else { None }
    }

    /// Whether messages may have a key.
    #[must_use]
    pub const fn by_key(self) -> bool {
        matches!(self, Self::Ordered(_) | Self::Keyed(_))
    }

    /// Whether there is one for each priority.
    #[must_use]
    pub const fn by_priority(self) -> bool {
        matches!(self, Self::Priorities)
    }

    /// Whether the messages of a lane keep their order.
    #[must_use]
    pub const fn in_order(self) -> bool {
        self.ordered().is_some()
    }

    /// Why a message with or without a key and a priority does not suit them, said of the queue;
    /// `None`: it does.
    #[must_use]
    pub const fn lack(self, has_key: bool, has_priority: bool) -> Option<&'static str> {
        if has_priority && !self.by_priority() {
            Some("has no priorities: create a queue with `host queue create --priorities`")
        } else if has_key && !self.by_key() {
            Some("takes no key: create a queue with `host queue create --ordered` or `--per-key`")
        } else {
            None
        }
    }
}

/// The order of its messages, in words.
impl fmt::Display for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => f.write_str("roughly that of commit"),
            Self::Priorities => f.write_str("by priority, then roughly that of commit"),
            Self::Ordered(lanes) => {
                write!(f, "that of commit for each key, in {}", plural(u64::from(*lanes), "lane"))
            }
            Self::Keyed(lanes) => {
                write!(f, "the keys in turn, in {}", plural(u64::from(*lanes), "lane"))
            }
        }
    }
}

/// A number of lanes for keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneCount(pub u16);

impl FromStr for LaneCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lanes = text.parse().ok().filter(|n: &u16| n.is_power_of_two());
        let lanes = lanes.filter(|n| (2..=1024).contains(n));
        lanes.map(Self).ok_or_else(|| "use a power of two from 2 to 1024".to_owned())
    }
}

/// How soon a message is taken, beside the others of its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Before all others.
    High,
    /// What a message has that says nothing.
    Normal,
    /// When there is time, but not never.
    Low,
}

impl Priority {
    /// From the first to the last.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.name() == name)
    }

    /// The `priority` column.
    #[must_use]
    pub const fn number(self) -> i16 {
        match self {
            Self::High => 1,
            Self::Normal => 2,
            Self::Low => 3,
        }
    }
}

/// Where the next lease looks for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneTurn {
    /// In the queue's only lane.
    Only,
    /// In these lanes, one after the other, until one has some.
    First(&'static [i16]),
    /// In all lanes that are free, from this one on and round: a lease for each that has some of
    /// which one may start.
    Free(u16),
}

/// Whose turn it is among the priorities, lease by lease. A lease takes from the first lane that
/// has messages: of ten in a row seven begin with high, two with normal and one with low. So high
/// is first, and the others always have their share.
const TURNS: [&[i16]; 10] = {
    const HIGH: &[i16] = &[0, 1, 2];
    const NORMAL: &[i16] = &[1, 0, 2];
    const LOW: &[i16] = &[2, 0, 1];
    [HIGH, HIGH, NORMAL, HIGH, HIGH, LOW, HIGH, NORMAL, HIGH, HIGH]
};

/// From one lease to the next, among the lanes of a queue that keeps an order.
const STEP: usize = 97;

/// The turns of one handler's leases.
#[derive(Debug)]
pub struct LaneTurns {
    lanes: Lanes,
    taken: usize,
    /// The lane after the last that was leased from.
    after: u16,
}

impl LaneTurns {
    /// Begins with the first.
    #[must_use]
    pub const fn of(lanes: Lanes) -> Self {
        Self { lanes, taken: 0, after: 0 }
    }

    /// Whether the messages of a lane keep their order.
    #[must_use]
    pub const fn in_order(&self) -> bool {
        self.lanes.in_order()
    }

    /// Where the next lease looks.
    pub const fn next(&mut self) -> LaneTurn {
        let taken = self.taken;
        self.taken = taken.wrapping_add(1);
        match self.lanes {
            Lanes::One => LaneTurn::Only,
            Lanes::Priorities => LaneTurn::First(TURNS[taken % TURNS.len()]),
            // Each begins elsewhere; a step that is odd comes by all of a power of two.
            Lanes::Ordered(lanes) => {
                LaneTurn::Free((taken.wrapping_mul(STEP) % lanes as usize) as u16)
            }
            Lanes::Keyed(_) => LaneTurn::Free(self.after),
        }
    }

    /// Notes the last lane that was leased from, if there was one: where lanes have their turns,
    /// the next is the first.
    pub const fn go_on_after(&mut self, lane: Option<u16>) {
        if let Some(lane) = lane {
            self.after = (lane + 1) % self.lanes.count();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_has_its_share_of_any_ten_leases_in_a_row() {
        let mut turns = LaneTurns::of(Lanes::Priorities);
        let next = || match turns.next() {
            LaneTurn::First(lanes) => lanes[0],
            other => panic!("{other:?}"),
        };
        let first: Vec<i16> = std::iter::repeat_with(next).take(100).collect();
        for ten in first.windows(10) {
            let share = |lane| ten.iter().filter(|first| **first == lane).count();
            assert_eq!([share(0), share(1), share(2)], [7, 2, 1]);
        }
        for turn in TURNS {
            let mut lanes = turn.to_vec();
            lanes.sort_unstable();
            assert_eq!(lanes, [0, 1, 2], "each looks at all of them");
        }
    }

    #[test]
    fn every_lane_is_the_first_now_and_then() {
        let mut turns = LaneTurns::of(Lanes::Ordered(256));
        let first = std::iter::repeat_with(|| turns.next()).take(256);
        let lanes: std::collections::HashSet<_> = first.map(|turn| format!("{turn:?}")).collect();
        assert_eq!(lanes.len(), 256);
    }

    #[test]
    fn lanes_of_keys_have_their_turns_one_after_the_other() {
        let mut turns = LaneTurns::of(Lanes::Keyed(4));
        assert_eq!(turns.next(), LaneTurn::Free(0));
        turns.go_on_after(Some(2));
        assert_eq!(turns.next(), LaneTurn::Free(3));
        turns.go_on_after(None);
        assert_eq!(turns.next(), LaneTurn::Free(3), "nobody had a turn");
        turns.go_on_after(Some(3));
        assert_eq!(turns.next(), LaneTurn::Free(0));
    }
}
