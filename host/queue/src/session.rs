//! Sessions: one run of a host as the database knows it. Says what can be seen; who is dead is
//! decided in `liveness`.

use tokio::sync::mpsc;
use tokio_postgres::{Client, Statement};

use super::connect::{Alone, Database};
use super::error::QueueError;
use super::statements::Statements;
use host_core::health::liveness::Seen;
use host_core::id::SessionId;

/// For what the trigger of a queue's table tells sleeping hosts.
const LISTEN: &str = "LISTEN host_wake";

/// A session, with the connection that holds its lock.
pub struct Session {
    id: SessionId,
    client: Client,
    beat: Statement,
    woken: mpsc::Sender<String>,
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
    /// Begins a session on a connection of its own. `woken` is told the name of a queue when a
    /// message may have come to it; a hint, no more.
    pub async fn begin(
        database: &Database,
        host_name: &str,
        woken: mpsc::Sender<String>,
    ) -> Result<Self, QueueError> {
        let alone = database.connect_alone().await?;
        let pid = std::process::id().cast_signed();
        let call = "SELECT host.begin_session($1, $2, $3)";
        let version = env!("CARGO_PKG_VERSION");
        let row = alone.client.query_one(call, &[&host_name, &pid, &version]).await?;
        let id = SessionId::new(row.try_get(0)?);
        let (client, beat) = listen(alone, woken.clone()).await?;
        Ok(Self { id, client, beat, woken })
    }

    /// Goes on with the session on a new connection, the old one being lost.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`] if it has been ended meanwhile, and with it all its leases.
    pub async fn rejoin(&mut self, database: &Database) -> Result<(), QueueError> {
        let alone = database.connect_alone().await?;
        alone.client.execute("SELECT host.rejoin_session($1)", &[&self.id.get()]).await?;
        (self.client, self.beat) = listen(alone, self.woken.clone()).await?;
        Ok(())
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

    /// Beats, says what of this host is late, and looks around.
    pub async fn beat(&self, beat: i64, late: Option<&str>) -> Result<Look, QueueError> {
        let rows = self.client.query(&self.beat, &[&self.id.get(), &beat, &late]).await?;
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

    /// Ends another session that was found dead, on this one's own connection: the pool may be
    /// busy. Returns its host, as `name/pid`; `None`: it had ended before.
    pub async fn bury(&self, dead: SessionId) -> Result<Option<String>, QueueError> {
        let row = self.client.query_opt(include_str!("session/bury.sql"), &[&dead.get()]).await?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }

    /// Frees the beats of the hour before last, and adds up the changes of the catalog.
    pub async fn tidy(&self) -> Result<(), QueueError> {
        self.client.execute("SELECT host.count_catalog_changes()", &[]).await?;
        self.client.execute("SELECT host.truncate_heartbeat()", &[]).await?;
        Ok(())
    }
}

async fn listen(
    alone: Alone,
    woken: mpsc::Sender<String>,
) -> Result<(Client, Statement), QueueError> {
    let Alone { client, mut notifications } = alone;
    client.batch_execute(LISTEN).await?;
    let beat = client.prepare("SELECT * FROM host.beat($1, $2, $3)").await?;
    tokio::spawn(async move {
        while let Some(notification) = notifications.recv().await {
            // Full: the receiver has enough to do, and it polls.
            let _ = woken.try_send(notification.payload().to_owned());
        }
    });
    Ok((client, beat))
}

/// Ends one's own session. Whether it had not ended before.
pub async fn end(database: &Database, session: SessionId) -> Result<bool, QueueError> {
    let call = "SELECT host.end_session($1, false)";
    Ok(database.call(call, &[&session.get()]).await?.try_get(0)?)
}

/// If no host lives any more, has producers notify nobody.
pub async fn nobody_sleeps(database: &Database) -> Result<(), QueueError> {
    let mut last = Some(0);
    while let Some(queue) = last {
        let call = "SELECT host.nobody_sleeps($1)";
        last = database.call(call, &[&queue]).await?.try_get::<_, Option<i32>>(0)?;
    }
    Ok(())
}

/// Tells producers whether a host sleeps and wants to be woken. Seen at once, by open transactions
/// as well.
pub async fn set_asleep(
    database: &Database,
    statements: &Statements,
    asleep: bool,
) -> Result<(), QueueError> {
    database.call(&statements.set_asleep, &[&i64::from(asleep)]).await?;
    Ok(())
}
