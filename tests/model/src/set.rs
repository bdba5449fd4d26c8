//! Small sets of numbers below 128: transactions, positions.

use std::fmt;

/// A set of numbers below 128.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set(u128);

impl Set {
    /// Nothing.
    pub const EMPTY: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self(u128::MAX);

    /// The numbers from 0 to before `n`.
    #[must_use]
    pub fn below(n: u8) -> Self {
        Self((1_u128.checked_shl(n.into()).unwrap_or(0)).wrapping_sub(1))
    }

    /// Only `n`.
    #[must_use]
    pub fn only(n: u8) -> Self {
        Self(1_u128 << n)
    }

    /// Whether `n` is in it.
    #[must_use]
    pub fn has(self, n: u8) -> bool {
        self.0 >> n & 1 == 1
    }

    /// With `n`.
    #[must_use]
    pub fn with(self, n: u8) -> Self {
        self.or(Self::only(n))
    }

    /// Without `n`.
    #[must_use]
    pub fn without(self, n: u8) -> Self {
        self.minus(Self::only(n))
    }

    /// What is in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is not in the other.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many are in it.
    #[must_use]
    pub fn len(self) -> u8 {
        self.0.count_ones() as u8
    }

    /// What is in it, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..128).filter(move |n| self.has(*n))
    }

    /// The first `n` of it.
    #[must_use]
    pub fn first(self, n: u8) -> Self {
        self.iter().take(n.into()).collect()
    }
}

impl FromIterator<u8> for Set {
    fn from_iter<I: IntoIterator<Item = u8>>(numbers: I) -> Self {
        numbers.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            f.write_str("all")
        } else {
            f.debug_set().entries(self.iter()).finish()
        }
    }
}
