//! Storing components, putting versions of handlers in force, and hearing what hosts make of them.
//! Never looks into a component.

use tokio_postgres::Client;
use tokio_postgres::types::Json;

use super::catalog::Settings;
use super::error::QueueError;
use host_core::clock::millis;
use host_core::digest::Digest;
use host_core::id::{HandlerId, SessionId};
use host_core::name::{HandlerName, QueueName};
use host_core::secret::SecretName;

/// A version that was put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// The handler.
    pub handler: HandlerId,
    /// The version.
    pub version: i32,
}

/// What a session has made of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionReport {
    /// The session.
    pub session: SessionId,
    /// The host, as `name/pid`.
    pub host: String,
    /// Whether it is connected, so that a report can be expected.
    pub connected: bool,
    /// Whether it runs the version, or why it cannot; `None` until it has said.
    pub result: Option<Result<(), String>>,
}

/// Stores a component, unless it is stored already, and puts it in force as the next version of a
/// handler, which is made if there is none; all in one transaction. A handler that is made begins
/// with the oldest message that is kept; with `from_now`, which is for such a one only, after what
/// is committed by now.
pub async fn deploy(
    client: &mut Client,
    queue: &QueueName,
    handler: &HandlerName,
    wasm: &[u8],
    settings: &Settings,
    from_now: bool,
) -> Result<Deployed, QueueError> {
    let sha256 = Digest::of(wasm);
    let limits = &settings.limits;
    let http: Vec<String> = settings.http.iter().map(ToString::to_string).collect();
    let secrets: Vec<&str> = settings.secrets.iter().map(SecretName::as_str).collect();
    let transaction = client.transaction().await?;
    let upload = "SELECT host.upload($1, $2)";
    transaction.execute(upload, &[&sha256.as_str(), &wasm]).await?;
    let row = transaction
        .query_one(
            "SELECT * FROM host.deploy($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
            &[
                &queue.as_str(),
                &handler.as_str(),
                &sha256.as_str(),
                &Json(&settings.config),
                &settings.isolation.name(),
                &(settings.concurrency as i32),
                &(limits.memory_bytes as i64),
                &millis(limits.timeout),
                &millis(limits.cpu),
                &(limits.log_bytes as i64),
                &(limits.follow_ups as i32),
                &(limits.follow_up_bytes as i64),
                &http,
                &secrets,
                &(limits.http_requests as i32),
                &(limits.http_bytes as i64),
                &settings.batch_size.map(u32::cast_signed),
            ],
        )
        .await?;
    let handler: i32 = row.try_get("handler_id")?;
    if from_now {
        transaction.execute("SELECT host.begin_from_now($1)", &[&handler]).await?;
    }
    transaction.commit().await?;
    Ok(Deployed { handler: HandlerId::new(handler), version: row.try_get("version")? })
}

/// Puts another version of a handler in force; it keeps its number.
pub async fn roll_back(client: &Client, to: Deployed) -> Result<(), QueueError> {
    let call = "SELECT host.roll_back($1, $2)";
    client.execute(call, &[&to.handler.get(), &to.version]).await?;
    Ok(())
}

/// Keeps hosts from leasing for a handler, or lets them go on. False: it was so before.
pub async fn set_paused(
    client: &Client,
    handler: HandlerId,
    paused: bool,
) -> Result<bool, QueueError> {
    let call = "SELECT host.pause_handler($1, $2)";
    Ok(client.query_one(call, &[&handler.get(), &paused]).await?.try_get(0)?)
}

/// Removes a handler with its versions. Its dead letters stay; whatever else it had is dropped for
/// it.
pub async fn remove(client: &Client, handler: HandlerId) -> Result<(), QueueError> {
    client.execute("SELECT host.remove_handler($1)", &[&handler.get()]).await?;
    Ok(())
}

/// What each live session has made of a version so far, in order of their start.
pub async fn reports(client: &Client, of: Deployed) -> Result<Vec<SessionReport>, QueueError> {
    let call = "SELECT * FROM host.reports($1, $2)";
    let rows = client.query(call, &[&of.handler.get(), &of.version]).await?;
    let mut reports = Vec::with_capacity(rows.len());
    for row in &rows {
        let (host, pid): (String, i32) = (row.try_get("host_name")?, row.try_get("pid")?);
        let error: Option<String> = row.try_get("error")?;
        let reported: bool = row.try_get("reported")?;
        reports.push(SessionReport {
            session: SessionId::new(row.try_get("session_id")?),
            host: format!("{host}/{pid}"),
            connected: row.try_get("connected")?,
            result: reported.then(|| error.map_or(Ok(()), Err)),
        });
    }
    Ok(reports)
}
