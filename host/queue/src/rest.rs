//! Whether anything may have come to queues that nobody looks at. Asked for many queues at once: a
//! queue costs a look at its sequence.

use std::collections::{HashMap, HashSet};

use super::connect::Database;
use super::error::QueueError;
use host_core::id::QueueId;

/// Queues of one statement. It holds a lock for each, and Postgres has room for some thousands.
const QUEUES_MAX: usize = 200;

/// How far the ids of a queue have come. It changes with each INSERT, whether or not that commits,
/// and with each rotation. It only says whether something happened.
pub type Mark = Option<i64>;

/// The marks of queues. One that was dropped has none.
pub async fn marks(
    database: &Database,
    queues: &[QueueId],
) -> Result<HashMap<QueueId, Mark>, QueueError> {
    let mut marks = HashMap::with_capacity(queues.len());
    for some in numbers(queues).chunks(QUEUES_MAX) {
        let row = database.call(include_str!("sql/rest_marks.sql"), &[&some]).await?;
        let (ids, found): (Vec<i32>, Vec<Mark>) = (row.try_get(0)?, row.try_get(1)?);
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
