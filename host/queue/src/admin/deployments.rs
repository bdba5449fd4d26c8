//! Storing components, putting versions of handlers in force, and hearing what hosts make of them.
//! Never looks into a component.

use std::time::SystemTime;

use futures_util::future;
use tokio_postgres::types::{Json, ToSql, Type};
use tokio_postgres::{Client, Row};

use crate::catalog::{Settings, Unreadable, rows};
use crate::error::QueueError;
use crate::json::Text;
use host_core::clock::millis;
use host_core::deployment::digest::Digest;
use host_core::deployment::secret::SecretName;
use host_core::id::{HandlerId, SessionId};
use host_core::name::{HandlerName, QueueName};

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

/// A version of a handler, in force or kept for a rollback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The handler, and the number of the version.
    pub deployed: Deployed,
    /// Whether this is the one that hosts are to run.
    pub in_force: bool,
    /// The component.
    pub sha256: Digest,
    /// The component's size.
    pub bytes: u64,
    /// How it is run.
    pub settings: Result<Settings, Unreadable>,
    /// By the server's clock.
    pub deployed_at: SystemTime,
    /// The role that deployed it.
    pub deployed_by: String,
}

/// A version to be.
#[derive(Clone, Copy, Debug)]
pub struct NewVersion<'a> {
    /// The queue.
    pub queue: &'a QueueName,
    /// The handler, which is made if there is none.
    pub handler: &'a HandlerName,
    /// What to run.
    pub component: Component<'a>,
    /// How to run it.
    pub settings: &'a Settings,
    /// The newest version and the one in force that the settings were made from, 0 for none.
    /// `None`: from neither.
    pub made_from: Option<(i32, i32)>,
    /// Whether a handler that is made begins after what is committed by now, and not with the
    /// oldest message that is kept. For such a one only.
    pub from_now: bool,
}

/// A component, as the database is to get it.
#[derive(Clone, Copy, Debug)]
pub enum Component<'a> {
    /// Its bytes, which were checked.
    Uploaded(&'a [u8]),
    /// One that is stored.
    Stored(&'a Digest),
}

impl Component<'_> {
    /// Its digest.
    #[must_use]
    pub fn sha256(&self) -> Digest {
        match self {
            Self::Uploaded(wasm) => Digest::of(wasm),
            Self::Stored(sha256) => (*sha256).clone(),
        }
    }
}

/// Stores a component, unless it is stored already. Puts it in force as the next version of a
/// handler. All in one transaction.
///
/// # Errors
/// [`QueueError::Refused`] with `HQ007` if the handler has other versions by now than the settings
/// were made from.
pub async fn deploy(client: &Client, new: &NewVersion<'_>) -> Result<Deployed, QueueError> {
    // All in one round trip. After an error, the rest does nothing, and COMMIT rolls back.
    let (begun, deployed, committed) = future::join3(
        client.batch_execute("BEGIN"),
        deploy_within(client, new),
        client.batch_execute("COMMIT"),
    )
    .await;
    begun?;
    let deployed = deployed?;
    committed?;
    Ok(deployed)
}

/// The same, in the transaction that the client is in, or that begins and ends in the same round
/// trip.
pub(crate) async fn deploy_within(
    client: &Client,
    new: &NewVersion<'_>,
) -> Result<Deployed, QueueError> {
    let NewVersion { queue, handler, component, settings, made_from, from_now } = *new;
    let sha256 = component.sha256();
    let limits = &settings.limits;
    let http: Vec<String> = settings.http.iter().map(ToString::to_string).collect();
    let secrets: Vec<&str> = settings.secrets.iter().map(SecretName::as_str).collect();
    let names: [(&(dyn ToSql + Sync), Type); 2] =
        [(&queue.as_str(), Type::TEXT), (&handler.as_str(), Type::TEXT)];
    let expect = async {
        let Some((newest, in_force)) = made_from else { return Ok(Vec::new()) };
        let [queue, handler] = names.clone();
        let params = [queue, handler, (&newest as _, Type::INT4), (&in_force as _, Type::INT4)];
        client.query_typed("SELECT host.expect_versions($1, $2, $3, $4)", &params).await
    };
    let upload = async {
        let Component::Uploaded(wasm) = component else { return Ok(Vec::new()) };
        let params: [(&(dyn ToSql + Sync), Type); 2] =
            [(&sha256.as_str(), Type::TEXT), (&wasm, Type::BYTEA)];
        client.query_typed("SELECT host.upload($1, $2)", &params).await
    };
    let begin_from_now = async {
        let call = include_str!("begin_from_now.sql");
        if from_now { client.query_typed(call, &names).await } else { Ok(Vec::new()) }
    };
    let params: [(&(dyn ToSql + Sync), Type); 17] = [
        (&queue.as_str(), Type::TEXT),
        (&handler.as_str(), Type::TEXT),
        (&sha256.as_str(), Type::TEXT),
        (&Json(&settings.config), Type::JSONB),
        (&settings.isolation.name(), Type::TEXT),
        (&(settings.concurrency as i32), Type::INT4),
        (&(limits.memory_bytes as i64), Type::INT8),
        (&millis(limits.timeout), Type::INT8),
        (&millis(limits.cpu), Type::INT8),
        (&(limits.log_bytes as i64), Type::INT8),
        (&(limits.follow_ups as i32), Type::INT4),
        (&(limits.follow_up_bytes as i64), Type::INT8),
        (&http, Type::TEXT_ARRAY),
        (&secrets, Type::TEXT_ARRAY),
        (&(limits.http_requests as i32), Type::INT4),
        (&(limits.http_bytes as i64), Type::INT8),
        (&settings.batch_size.map(u32::cast_signed), Type::INT4),
    ];
    let call = "SELECT * FROM host.deploy($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";
    let deploy = client.query_typed_one(call, &params);
    let (expected, uploaded, deployed, moved) =
        future::join4(expect, upload, deploy, begin_from_now).await;
    expected?;
    uploaded?;
    let row = deployed?;
    moved?;
    let handler = HandlerId::new(row.try_get("handler_id")?);
    Ok(Deployed { handler, version: row.try_get("version")? })
}

/// The versions of a handler, the newest first; none if there is no such handler.
pub async fn versions(
    client: &Client,
    queue: &str,
    handler: &str,
) -> Result<Vec<Version>, QueueError> {
    let call = "SELECT * FROM host.handler_versions($1, $2)";
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&queue, Type::TEXT), (&handler, Type::TEXT)];
    client.query_typed(call, &params).await?.iter().map(version).collect()
}

fn version(row: &Row) -> Result<Version, QueueError> {
    let sha256: String = row.try_get("sha256")?;
    let Text(settings) = row.try_get("settings")?;
    Ok(Version {
        deployed: Deployed {
            handler: HandlerId::new(row.try_get("handler_id")?),
            version: row.try_get("version")?,
        },
        in_force: row.try_get("in_force")?,
        sha256: sha256.parse().map_err(|e| QueueError::Unexpected(format!("{e}")))?,
        bytes: row.try_get::<_, i64>("size_bytes")?.cast_unsigned(),
        settings: rows::settings(settings),
        deployed_at: row.try_get("deployed_at")?,
        deployed_by: row.try_get("deployed_by")?,
    })
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
    let params: [(&(dyn ToSql + Sync), Type); 2] =
        [(&of.handler.get(), Type::INT4), (&of.version, Type::INT4)];
    let rows = client.query_typed(call, &params).await?;
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
