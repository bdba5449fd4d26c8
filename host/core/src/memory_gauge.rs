//! How much of something is held at the moment, over all who hold some of it. Counts; never says
//! no.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count of bytes. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct MemoryGauge(Arc<AtomicU64>);

/// Some bytes of several gauges; given back when dropped.
#[derive(Debug)]
pub struct MemoryHold {
    of: [MemoryGauge; 2],
    bytes: u64,
}

impl MemoryGauge {
    /// How many bytes are held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Holds some bytes, of this one and of another.
    #[must_use]
    pub fn hold(&self, other: &Self, bytes: u64) -> MemoryHold {
        let of = [self.clone(), other.clone()];
        for gauge in &of {
            gauge.0.fetch_add(bytes, Ordering::Relaxed);
        }
        MemoryHold { of, bytes }
    }
}

impl Drop for MemoryHold {
    fn drop(&mut self) {
        for gauge in &self.of {
            gauge.0.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_given_back() {
        let (own, all) = (MemoryGauge::default(), MemoryGauge::default());
        let held = own.hold(&all, 7);
        let other = MemoryGauge::default().hold(&all, 3);
        assert_eq!((own.bytes(), all.bytes()), (7, 10));
        drop(held);
        assert_eq!((own.bytes(), all.bytes()), (0, 3));
        drop(other);
        assert_eq!(all.bytes(), 0);
    }
}
