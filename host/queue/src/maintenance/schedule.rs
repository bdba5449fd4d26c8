//! The schedule: moves what is due into the queue.

use std::time::Duration;

use crate::connect::Database;
use crate::error::QueueError;
use crate::statements::Statements;

/// What one promotion did.
#[derive(Clone, Debug)]
pub struct Promoted {
    /// More are due: promote again at once.
    pub again: bool,
    /// When the next is due, as far as is known.
    pub next_in: Option<Duration>,
    /// Messages that are due and cannot be put on the queue. Each has used up an attempt.
    pub refused: u32,
    /// Why, of one of them.
    pub why: Option<String>,
}

/// Moves up to `messages_max` due messages into the queue.
pub async fn promote(
    database: &Database,
    statements: &Statements,
    messages_max: i32,
) -> Result<Promoted, QueueError> {
    let row = statements.call(database, &statements.promote, &[&messages_max]).await?;
    let next_ms: Option<i64> = row.try_get(1)?;
    Ok(Promoted {
        again: row.try_get(0)?,
        next_in: next_ms.map(|ms| Duration::from_millis(ms.cast_unsigned())),
        refused: row.try_get::<_, i32>(2)?.cast_unsigned(),
        why: row.try_get(3)?,
    })
}
