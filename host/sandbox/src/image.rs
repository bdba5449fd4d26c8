//! The initial memory of a component, which decides which engine runs it.

/// The initial memory of a component: it decides which engine suits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Image {
    /// Copied for each instance; page-table work, which two threads would fight over, is avoided.
    Small,
    /// Mapped copy-on-write: what a message does not touch is not copied for it.
    Big,
}

/// The most bytes of data segments that are worth copying. Measured for a fresh sandbox a message
/// on one thread, copied against mapped: 2 KiB 18 against 26 µs, 22 KiB 51 against 42, 89 KiB 134
/// against 80; on two threads 22 KiB takes the same either way.
const COPIED_BYTES_MAX: u64 = 32 << 10;

impl Image {
    /// The kind for that many bytes of data segments.
    pub(super) const fn of(bytes: u64) -> Self {
        if bytes > COPIED_BYTES_MAX { Self::Big } else { Self::Small }
    }
}
