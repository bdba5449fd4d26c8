//! Rotation: truncates leaves whose messages are all settled, and moves on to the next. Each call
//! is one try that waits for nobody; what is in the way is said in words.

use crate::connect::Database;
use crate::error::QueueError;
use crate::statements::Statements;

/// What there is to rotate.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Leaves, other than the present one, that hold something.
    pub used: Vec<i32>,
    /// The present leaf is as big as the queue allows.
    pub full: bool,
}

/// A look; costs little.
pub async fn rotation(
    database: &Database,
    statements: &Statements,
) -> Result<Rotation, QueueError> {
    let row = statements.call(database, &statements.rotation, &[]).await?;
    Ok(Rotation { used: row.try_get(0)?, full: row.try_get(1)? })
}

/// What a try to truncate a leaf came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truncated {
    /// It is empty.
    Done,
    /// Its messages are being counted: try again at once.
    Counting,
    /// It has to stay for now, in words.
    Held(String),
}

/// Tries to truncate a leaf.
pub async fn truncate(
    database: &Database,
    statements: &Statements,
    leaf: i32,
) -> Result<Truncated, QueueError> {
    let row = statements.call(database, &statements.truncate, &[&leaf]).await?;
    let why: Option<String> = row.try_get("why")?;
    Ok(match why {
        None => Truncated::Done,
        Some(_) if row.try_get("again")? => Truncated::Counting,
        Some(why) => Truncated::Held(why),
    })
}

/// Moves on to the next generation. `Some`: why not.
pub async fn advance(
    database: &Database,
    statements: &Statements,
) -> Result<Option<String>, QueueError> {
    Ok(statements.call(database, &statements.advance, &[]).await?.try_get(0)?)
}

/// Truncates what the schedule has done with. Returns how many leaves.
pub async fn truncate_schedule(
    database: &Database,
    statements: &Statements,
) -> Result<i32, QueueError> {
    Ok(statements.call(database, &statements.truncate_schedule, &[]).await?.try_get(0)?)
}

/// Truncates what the history has kept for long enough. Returns how many leaves.
pub async fn truncate_history(
    database: &Database,
    statements: &Statements,
) -> Result<i32, QueueError> {
    Ok(statements.call(database, &statements.truncate_history, &[]).await?.try_get(0)?)
}
