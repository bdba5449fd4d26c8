//! Whether everything was delivered as often as it should be: by count, sum and sum of squares of
//! the numbers that the messages carry. Pure.
//!
//! Producers add what they committed, the account in the database what was delivered. Equal
//! checksum mean equal messages but for a conspiracy: at least three lost and three others doubled
//! whose numbers have the same sum and the same sum of squares.

use std::ops::Range;

/// How many numbers there were, their sum, and the sum of their squares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checksum {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: u128,
    /// The sum of their squares.
    pub squares: u128,
}

/// What is wrong with a run; nothing, if it was good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    /// Messages that were committed and not delivered; at least.
    pub lost: u64,
    /// Deliveries too many; at least.
    pub duplicated: u64,
}

impl Checksum {
    /// Adds numbers.
    pub(crate) fn add(&mut self, numbers: Range<u64>) {
        for n in numbers {
            self.count += 1;
            self.sum += u128::from(n);
            self.squares += u128::from(n).pow(2);
        }
    }

    /// Adds what somebody else has added up.
    pub(crate) const fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// Compares what was `delivered` with these, which should have been.
    #[must_use]
    pub(crate) fn balance(self, delivered: Self) -> Balance {
        let lost = self.count.saturating_sub(delivered.count);
        let duplicated = delivered.count.saturating_sub(self.count);
        // As many came as should have, and they are others: one is missing, and another came twice.
        let swapped = u64::from(self.count == delivered.count && self != delivered);
        Balance { lost: lost + swapped, duplicated: duplicated + swapped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(numbers: &[u64]) -> Checksum {
        let mut checksum = Checksum::default();
        for &n in numbers {
            checksum.add(n..n + 1);
        }
        checksum
    }

    #[test]
    fn each_once_in_any_order_is_even() {
        let mut committed = Checksum::default();
        committed.add(0..3);
        committed.merge(checksum(&[3, 4]));
        assert_eq!(committed.balance(checksum(&[4, 0, 3, 1, 2])), Balance::default());
    }

    #[test]
    fn a_lost_a_doubled_and_a_swapped_message_show() {
        let committed = checksum(&[0, 1, 2, 3]);
        let balance = |delivered: &[u64]| {
            let Balance { lost, duplicated } = committed.balance(checksum(delivered));
            (lost, duplicated)
        };
        assert_eq!(balance(&[0, 1, 3]), (1, 0));
        assert_eq!(balance(&[0, 1, 2, 3, 3]), (0, 1));
        assert_eq!(balance(&[0, 1, 1, 3]), (1, 1), "2 is missing");
        assert_eq!(balance(&[1, 1, 1, 3]), (1, 1), "the sum is the same, the squares are not");
        assert_eq!(balance(&[]), (4, 0));
    }
}
