//! The statements of one queue: calls of the functions that its template made. Never sends them.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::connect::Database;
use super::error::QueueError;
use host_core::id::{HandlerId, QueueId};
use host_core::message::lane::Lanes;
use host_core::name::QueueName;

/// The text of each call, made once for a queue and prepared once on each connection.
#[derive(Debug)]
pub struct Statements {
    queue: QueueId,
    /// Whether the messages of a lease keep their order.
    pub(super) in_order: bool,
    pub(super) lease: String,
    pub(super) lease_of: String,
    pub(super) lease_lanes: String,
    pub(super) fetch: String,
    pub(super) fetch_lanes: String,
    pub(super) settle: String,
    pub(super) hand_on: String,
    pub(super) take_over: String,
    pub(super) strays: String,
    pub(super) promote: String,
    pub(super) set_asleep: String,
    pub(super) rotation: String,
    pub(super) truncate: String,
    pub(super) advance: String,
    pub(super) truncate_schedule: String,
    pub(super) truncate_history: String,
    pub(super) forget_keys: String,
}

impl Statements {
    /// Those of the queue of that number and name. The name is checked, so it cannot be anything
    /// but a name.
    #[must_use]
    pub fn new(id: QueueId, queue: &QueueName, lanes: Lanes) -> Self {
        let call = |text: &str| text.replace("{q}", queue.as_str());
        let fetch_of = |kind| chosen(&call(include_str!("lease/fetch.sql")), kind);
        Self {
            queue: id,
            in_order: lanes.in_order(),
            lease: call(include_str!("lease/lease.sql")),
            lease_of: call(include_str!("lease/lease_of.sql")),
            lease_lanes: call(include_str!("lease/lease_lanes.sql")),
            fetch: fetch_of("plain"),
            fetch_lanes: fetch_of("lanes"),
            settle: call(include_str!("settle.sql")),
            hand_on: call(include_str!("hand_on.sql")),
            take_over: call(include_str!("lease/take_over.sql")),
            strays: call("SELECT host.{q}__strays($1, $2, $3)"),
            promote: call("SELECT again, next_ms, refused, why FROM host.{q}__promote($1)"),
            set_asleep: call("SELECT setval('host.{q}__asleep', $1)"),
            rotation: call("SELECT used, full_one FROM host.{q}__rotation()"),
            truncate: call("SELECT why, again FROM host.{q}__try_truncate($1)"),
            advance: call("SELECT host.{q}__advance()"),
            truncate_schedule: call("SELECT host.{q}__truncate_schedule()"),
            truncate_history: call("SELECT host.{q}__truncate_history()"),
            forget_keys: call("SELECT host.{q}__forget_keys($1)"),
        }
    }

    /// Makes one of these calls on a connection of the pool.
    ///
    /// # Errors
    /// Those of the call, and [`QueueError::Gone`] if the queue was dropped.
    pub(super) async fn call(
        &self,
        database: &Database,
        text: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, QueueError> {
        match database.call(text, params).await {
            Err(error) if error.may_be_gone() => {
                let client = database.get().await?;
                Err(client.ask(async { Ok(self.explain(&client, None, error).await) }).await?)
            }
            answer => answer,
        }
    }

    /// Explains an error of one of these calls: the catalog says whether the queue or the handler
    /// is gone.
    pub(super) async fn explain(
        &self,
        client: &ClientWrapper,
        handler: Option<HandlerId>,
        error: QueueError,
    ) -> QueueError {
        if !error.may_be_gone() {
            return error;
        }
        let handler = handler.map(HandlerId::get);
        let params: [&(dyn ToSql + Sync); 2] = [&self.queue.get(), &handler];
        let answer = client.query_one(include_str!("statements/is_gone.sql"), &params).await;
        match answer.and_then(|row| row.try_get(0)) {
            Ok(true) => QueueError::Gone,
            Ok(false) => error,
            Err(unknown) => unknown.into(),
        }
    }
}

/// The text of a statement for one kind of lease. `{kind?…}` stays without the braces, and the text
/// for another kind goes.
fn chosen(sql: &str, kind: &str) -> String {
    let mut pieces = sql.split('{');
    let mut made = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (condition, after) = piece.split_once('}').unwrap_or((piece, ""));
        if let Some((name, text)) = condition.split_once('?')
            && name == kind
        {
            made.push_str(text);
        }
        made.push_str(after);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_for_one_kind() {
        let sql = "SELECT a{lanes?, b} FROM {plain?x}{lanes?y} z";
        assert_eq!(chosen(sql, "plain"), "SELECT a FROM x z");
        assert_eq!(chosen(sql, "lanes"), "SELECT a, b FROM y z");
    }
}
