//! Lanes: the strands of a queue, each with a cursor of its own, and whose turn it is. Pure.

/// Which lanes a queue has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lanes {
    /// One, as most queues.
    #[default]
    One,
    /// One for each [`Priority`], numbered from 0.
    Priorities,
}

impl Lanes {
    /// How many there are.
    #[must_use]
    pub const fn count(self) -> u16 {
        match self {
            Self::One => 1,
            Self::Priorities => Priority::ALL.len() as u16,
        }
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

/// Whose turn it is among the priorities, lease by lease. A lease takes from the first lane that has messages: of ten
/// in a row seven begin with high, two with normal and one with low. So high is first, and the others always have
/// their share.
const TURNS: [&[i16]; 10] = {
    const HIGH: &[i16] = &[0, 1, 2];
    const NORMAL: &[i16] = &[1, 0, 2];
    const LOW: &[i16] = &[2, 0, 1];
    [HIGH, HIGH, NORMAL, HIGH, HIGH, LOW, HIGH, NORMAL, HIGH, HIGH]
};

/// The turns of one handler's leases.
#[derive(Debug)]
pub struct Turns {
    lanes: Lanes,
    taken: usize,
}

impl Turns {
    /// Begins with the first.
    #[must_use]
    pub const fn of(lanes: Lanes) -> Self {
        Self { lanes, taken: 0 }
    }

    /// The lanes that the next lease looks at, in this order; empty where there is only one.
    pub const fn next(&mut self) -> &'static [i16] {
        match self.lanes {
            Lanes::One => &[],
            Lanes::Priorities => {
                let lanes = TURNS[self.taken % TURNS.len()];
                self.taken += 1;
                lanes
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_has_its_share_of_any_ten_leases_in_a_row() {
        let mut turns = Turns::of(Lanes::Priorities);
        let first: Vec<i16> = std::iter::repeat_with(|| turns.next()[0]).take(100).collect();
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
    fn a_queue_without_priorities_names_no_lane() {
        assert!(Turns::of(Lanes::One).next().is_empty());
    }
}
