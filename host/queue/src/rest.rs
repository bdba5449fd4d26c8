//! Whether anything may have come to queues that nobody looks at. Asked for many queues at once: a
//! queue costs a look at its sequence.

use std::collections::{HashMap, HashSet};

use super::connect::Database;
use super::error::QueueError;
use host_core::id::QueueId;

/// Queues of one statement. It holds two locks for each, and Postgres has room for some thousands.
const QUEUES_MAX: usize = 100;

/// How far the ids of a queue have come. It changes with each INSERT, whether or not that commits,
/// and with each rotation. It only says whether something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The last id of a message in this generation.
    pub message: Option<i64>,
    /// The last id of a promotion; a rotation gives one out.
    pub promotion: Option<i64>,
}

/// The marks of queues. One that was dropped is left out.
pub async fn marks(
    database: &Database,
    queues: &[QueueId],
) -> Result<HashMap<QueueId, Mark>, QueueError> {
    let mut marks = HashMap::with_capacity(queues.len());
    for some in numbers(queues).chunks(QUEUES_MAX) {
        let row = database.call(include_str!("sql/rest_marks.sql"), &[&some]).await?;
        let ids: Vec<i32> = row.try_get(0)?;
        let messages: Vec<Option<i64>> = row.try_get(1)?;
        let promotions: Vec<Option<i64>> = row.try_get(2)?;
        let found = messages.into_iter().zip(promotions);
        let found = found.map(|(message, promotion)| Mark { message, promotion });
        marks.extend(ids.into_iter().map(QueueId::new).zip(found));
    }
    Ok(marks)
}

/// Of these queues, those that a transaction which is open may have written to. What had been
/// written to the others before the call can be seen by whoever looks after it.
pub async fn written_to(
    database: &Database,
    queues: &[QueueId],
) -> Result<HashSet<QueueId>, QueueError> {
    let row = database.call(include_str!("sql/rest_writers.sql"), &[&numbers(queues)]).await?;
    Ok(row.try_get::<_, Vec<i32>>(0)?.into_iter().map(QueueId::new).collect())
}

fn numbers(queues: &[QueueId]) -> Vec<i32> {
    queues.iter().map(|id| id.get()).collect()
}
