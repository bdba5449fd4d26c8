//! What fails lately: hosts report it, commands show it. Never decides what is too much.

use serde_json::json;
use tokio_postgres::Client;
use tokio_postgres::types::Json;

use crate::error::QueueError;
use host_core::diagnosis::facts::{Failing, FreshDead};
use host_core::format::time;
use host_core::health::failures::Report;
use host_core::id::{HandlerId, SessionId};

/// Notes what fails on a session's host, of each handler instead of what it said before.
pub async fn report(
    client: &Client,
    session: SessionId,
    reports: &[(HandlerId, Report)],
) -> Result<(), QueueError> {
    let row = |(handler, report): &(HandlerId, Report)| {
        let Report { version, calls, failed, dead, error } = report;
        json!({
            "handler_id": handler.get(), "version": version, "calls": calls, "failed": failed,
            "dead": dead, "error": error,
        })
    };
    let rows: Vec<_> = reports.iter().map(row).collect();
    client.execute("SELECT host.report_failing($1, $2)", &[&session.get(), &Json(rows)]).await?;
    Ok(())
}

/// Handlers some of whose messages failed in the last minutes, over all hosts.
pub async fn handlers(client: &Client) -> Result<Vec<Failing>, QueueError> {
    let rows = client.query_typed("SELECT to_jsonb(f) FROM host.failing_handlers() f", &[]).await?;
    rows.iter().map(|row| Ok(row.try_get::<_, Json<_>>(0)?.0)).collect()
}

/// Queues with dead letters of the last hour.
pub async fn fresh_dead(client: &Client) -> Result<Vec<FreshDead>, QueueError> {
    let rows = client.query_typed("SELECT * FROM host.fresh_dead_letters()", &[]).await?;
    let dead = |row: &tokio_postgres::Row| {
        Ok(FreshDead {
            queue: row.try_get("queue")?,
            letters: row.try_get("letters")?,
            since: time(row.try_get("since")?),
            error: row.try_get("error")?,
        })
    };
    rows.iter().map(dead).collect()
}
