//! What a lease or a take-over answers, by the names of its columns. Never asks.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::FromSqlOwned;

use crate::error::QueueError;
use host_core::id::LeaseId;

/// One row of an answer. What a kind of queue has no column for is not to be asked.
#[derive(Clone, Copy)]
pub(super) struct Granted<'a>(pub(super) &'a Row);

impl Granted<'_> {
    fn column<T: FromSqlOwned>(self, name: &str) -> Result<T, QueueError> {
        Ok(self.0.try_get(name)?)
    }

    /// The lease and its messages; `None`: there is none.
    pub(super) fn lease(self) -> Result<Option<(LeaseId, usize)>, QueueError> {
        let Some(id) = self.column("lease_id")? else { return Ok(None) };
        let count: i32 = self.column("row_count")?;
        Ok(Some((LeaseId::new(id), count.cast_unsigned() as usize)))
    }

    /// Whether there are more messages: on the queue or, of a lease that keeps an order, in it.
    pub(super) fn more(self) -> Result<bool, QueueError> {
        self.column("more")
    }

    /// When to ask again, as far as that is known.
    pub(super) fn wait(self) -> Result<Option<Duration>, QueueError> {
        let ms: Option<i64> = self.column("wait_ms")?;
        Ok(ms.map(|ms| Duration::from_millis(ms.max(0).cast_unsigned())))
    }

    /// Whether to ask again when messages are settled, too.
    pub(super) fn until_settled(self) -> Result<bool, QueueError> {
        self.column("full_up")
    }

    /// The lane that the lease is of.
    pub(super) fn lane(self) -> Result<u16, QueueError> {
        let lane: i32 = self.column("lane")?;
        Ok(lane.cast_unsigned() as u16)
    }

    /// What the session calls the lease.
    pub(super) fn seq(self) -> Result<i64, QueueError> {
        self.column("seq")
    }

    /// How many messages of a lease that was to be taken over were deleted by hand.
    pub(super) fn gone(self) -> Result<Option<i32>, QueueError> {
        self.column("gone")
    }
}
