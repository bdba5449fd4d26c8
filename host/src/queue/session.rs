//! Sessions: one run of a host as the database knows it. Says what can be seen; who is dead is decided
//! in `liveness`.

use tokio::sync::mpsc;
use tokio_postgres::{Client, Statement};

use super::connect::{Alone, Database};
use super::error::QueueError;
use super::statements::Statements;
use crate::id::SessionId;
use crate::liveness::Seen;

/// The channel on which sleeping hosts are told of new messages.
const WAKE_CHANNEL: &str = "LISTEN host_wake";

/// A session, with the connection that holds its lock.
pub struct Session {
    id: SessionId,
    client: Client,
    beat: Statement,
}

/// What one beat has shown.
#[derive(Debug)]
pub struct Look {
    /// All sessions that have not ended.
    pub live: Vec<Seen>,
    /// Changes whenever a queue or a deployment has changed, or a session has ended.
    pub catalog_version: i64,
    /// Identifies this run of the server.
    pub server: String,
}

impl Session {
    /// Begins a session on a connection of its own. Also returns the names of queues, as they are
    /// told to a sleeping host; a hint, no more.
    pub async fn begin(
        database: &Database,
        host_name: &str,
    ) -> Result<(Self, mpsc::Receiver<String>), QueueError> {
        let Alone { client, mut notifications } = database.connect_alone().await?;
        let pid = std::process::id().cast_signed();
        let row = client
            .query_one(
                "SELECT host.begin_session($1, $2, $3)",
                &[&host_name, &pid, &env!("CARGO_PKG_VERSION")],
            )
            .await?;
        let id = SessionId::new(row.try_get(0)?);
        client.batch_execute(WAKE_CHANNEL).await?;
        let beat = client.prepare("SELECT * FROM host.beat($1, $2)").await?;
        let (sender, woken) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Some(notification) = notifications.recv().await {
                // Full: the receiver has enough to do, and it polls.
                let _ = sender.try_send(notification.payload().to_owned());
            }
        });
        Ok((Self { id, client, beat }, woken))
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// What its other connections call themselves, so that they can be terminated with it.
    #[must_use]
    pub fn application_name(&self) -> String {
        format!("host session {}", self.id)
    }

    /// Beats, and looks around.
    pub async fn beat(&self, beat: i64) -> Result<Look, QueueError> {
        let rows = self.client.query(&self.beat, &[&self.id.get(), &beat]).await?;
        let mut look = Look { live: Vec::new(), catalog_version: 0, server: String::new() };
        for row in rows {
            look.live.push(Seen {
                session: SessionId::new(row.try_get(0)?),
                beat: row.try_get(1)?,
                locked: row.try_get(2)?,
            });
            look.catalog_version = row.try_get(3)?;
            look.server = format!("{:?}", row.try_get::<_, std::time::SystemTime>(4)?);
        }
        Ok(look)
    }

    /// Ends a session: this one, or another that is dead.
    pub async fn end(&self, session: SessionId, lost: bool) -> Result<bool, QueueError> {
        let row = self
            .client
            .query_one("SELECT host.end_session($1, $2)", &[&session.get(), &lost])
            .await?;
        Ok(row.try_get(0)?)
    }

    /// Frees the beats of the hour before last.
    pub async fn truncate_heartbeat(&self) -> Result<(), QueueError> {
        self.client.execute("SELECT host.truncate_heartbeat()", &[]).await?;
        Ok(())
    }
}

/// Tells producers whether a host sleeps and wants to be woken. Seen at once, by open transactions as well.
pub async fn set_asleep(
    database: &Database,
    statements: &Statements,
    asleep: bool,
) -> Result<(), QueueError> {
    let client = database.get().await?;
    let statement = client.prepare_cached(&statements.set_asleep).await?;
    client.query_one(&statement, &[&i64::from(asleep)]).await?;
    Ok(())
}
