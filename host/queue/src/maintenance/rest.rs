//! Whether anything may have come to queues that nobody looks at. Asked for many queues at once: a
//! queue costs a look at its sequence.

use std::collections::{HashMap, HashSet};

use crate::connect::Database;
use crate::error::QueueError;
use host_core::id::QueueId;

/// Queues of one statement. It holds three locks for each. Postgres has room for some thousands.
const QUEUES_MAX: usize = 100;

/// How far the ids of a queue have come. It changes with each INSERT, whether or not that commits,
/// and with each rotation. It only says whether something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The last id of a message in this generation.
    pub message: Option<i64>,
    /// The last id of a promotion; a rotation gives one out.
    pub promotion: Option<i64>,
    /// The last id of a row on the schedule.
    pub scheduled: Option<i64>,
}

/// The marks of queues. A queue that was dropped, or whose mark cannot be read, is left out. The
/// others wait for it no longer than for a lock.
///
/// # Errors
/// If the database does not answer.
pub async fn marks(
    database: &Database,
    queues: &[QueueId],
) -> Result<HashMap<QueueId, Mark>, QueueError> {
    let mut marks = HashMap::with_capacity(queues.len());
    for some in numbers(queues).chunks(QUEUES_MAX) {
        match marks_of(database, some).await {
            Ok(found) => marks.extend(found),
            Err(error) if error.is_of_server() => return Err(error),
            // One of them is in the way of the others.
            Err(_) => {
                for one in some {
                    match marks_of(database, &[*one]).await {
                        Ok(found) => marks.extend(found),
                        Err(error) if error.is_of_server() => return Err(error),
                        Err(error) => tracing::debug!(queue = one, %error, "cannot read a mark"),
                    }
                }
            }
        }
    }
    Ok(marks)
}

async fn marks_of(database: &Database, queues: &[i32]) -> Result<Vec<(QueueId, Mark)>, QueueError> {
    let row = database.call(include_str!("rest_marks.sql"), &[&queues]).await?;
    let ids: Vec<i32> = row.try_get(0)?;
    let [messages, promotions, scheduled]: [Vec<Option<i64>>; 3] =
        [row.try_get(1)?, row.try_get(2)?, row.try_get(3)?];
    let rows = ids.into_iter().zip(messages).zip(promotions).zip(scheduled);
    let mark = |(((id, message), promotion), scheduled)| {
        (QueueId::new(id), Mark { message, promotion, scheduled })
    };
    Ok(rows.map(mark).collect())
}

/// The queues among these that an open transaction may have written to. What had been written to
/// the others before the call can be seen by whatever looks after it.
///
/// # Errors
/// If the database does not answer.
pub async fn written_to(
    database: &Database,
    queues: &[QueueId],
) -> Result<HashSet<QueueId>, QueueError> {
    let row = database.call(include_str!("rest_writers.sql"), &[&numbers(queues)]).await?;
    Ok(row.try_get::<_, Vec<i32>>(0)?.into_iter().map(QueueId::new).collect())
}

fn numbers(queues: &[QueueId]) -> Vec<i32> {
    queues.iter().map(|id| id.get()).collect()
}
