//! Whose the schemas `host` and `queue` are. Looked at before anything in them is called: who may
//! create a schema could have been there first, and what he put there would run with the caller's
//! rights.

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use crate::error::{QueueError, SQLSTATE_NOT_OURS};

/// The SQLSTATE of a database with an encoding that will not do.
const SQLSTATE_ENCODING: &str = "22021";

/// What a database has of the two schemas, once it is known that they can be trusted.
#[derive(Debug)]
pub(crate) struct Schemas {
    /// The tables of a schema `host` that is not ours; `None`: ours, or none, or empty.
    strange_host: Option<String>,
    /// Whether migrations are recorded in `host`.
    has_migrations: bool,
    /// Whether `host` has the table of queues.
    has_queues: bool,
    /// The tables of the schema `queue`; `None`: there is no such schema.
    queue: Option<String>,
}

impl Schemas {
    /// Looks. Refuses a schema, or a function in it, that belongs to a role which the caller has no
    /// reason to trust.
    pub(crate) async fn look(client: &Client) -> Result<Self, QueueError> {
        let mut schemas =
            Self { strange_host: None, has_migrations: false, has_queues: false, queue: None };
        let messages = match client.simple_query(include_str!("schemas.sql")).await {
            Ok(messages) => messages,
            Err(error) => {
                client.batch_execute("ROLLBACK").await?;
                return Err(error.into());
            }
        };
        for message in &messages {
            let SimpleQueryMessage::Row(row) = message else { continue };
            if let Ok(path) = row.try_get("path") {
                refuse_encoding(row.try_get("encoding")?.unwrap_or_default())?;
                pin(client, path.unwrap_or_default()).await?;
                continue;
            }
            let tables = || row.try_get("tables").map(|t| t.unwrap_or_default().to_owned());
            refuse_strangers(row)?;
            match row.try_get("nspname")? {
                Some("host") => {
                    schemas.has_migrations = row.try_get("has_migrations")? == Some("t");
                    schemas.has_queues = row.try_get("has_queues")? == Some("t");
                    let tables = tables()?;
                    schemas.strange_host =
                        (!schemas.has_migrations && !tables.is_empty()).then_some(tables);
                }
                _ => schemas.queue = Some(tables()?),
            }
        }
        Ok(schemas)
    }

    /// Whether there is something to ask which migrations were applied.
    pub(crate) const fn has_migrations(&self) -> bool {
        self.has_migrations
    }

    /// Refuses to migrate, for the first time, a database in which the names are taken.
    pub(crate) fn refuse_taken(&self) -> Result<(), QueueError> {
        if let Some(tables) = &self.strange_host {
            return Err(taken("host", tables));
        }
        match &self.queue {
            Some(_) if self.has_migrations && self.has_queues => Err(not_ours(
                "the schemas \"host\" and \"queue\" are here without their rows, as a dump of the schema alone (pg_dump -s) leaves them".into(),
                "restore the data as well; or, if no queue has any, `drop schema host, queue cascade` and run `host migrate` again",
            )),
            Some(tables) => Err(taken("queue", tables)),
            None => Ok(()),
        }
    }
}

/// A search path that looks elsewhere before it looks into the catalog would have another's
/// functions and operators called in the place of Postgres's, by whatever this connection asks.
/// Others are left alone: triggers of users may need them.
async fn pin(client: &Client, path: &str) -> Result<(), QueueError> {
    let mut names = path.trim_matches(['{', '}']).split(',');
    // Only tables and types are ever looked for there.
    if names.find(|name| !name.starts_with("pg_temp")) != Some("pg_catalog") {
        client.batch_execute("SET search_path = pg_catalog, pg_temp").await?;
    }
    Ok(())
}

/// Refuses a database that cannot hold all text: a handler's reason may have any character, and a
/// payload that is no UTF-8 can be given to none.
fn refuse_encoding(encoding: &str) -> Result<(), QueueError> {
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(QueueError::Refused {
        sqlstate: SQLSTATE_ENCODING.to_owned(),
        message: format!("the database's encoding is {encoding}, and host needs UTF8"),
        hint: Some("make another: createdb --template=template0 --encoding=UTF8 NAME".to_owned()),
    })
}

fn refuse_strangers(row: &SimpleQueryRow) -> Result<(), QueueError> {
    let text = |column: &str| row.try_get(column).map(|t| t.unwrap_or_default().to_owned());
    let (schema, owner) = (text("nspname")?, text("owner")?);
    let why = if row.try_get("is_trusted")? != Some("t") {
        format!("schema {schema:?} belongs to role {owner:?}")
    } else if let Some(function) = row.try_get("foreign_function")? {
        format!("schema {schema:?} has the function {function}")
    } else {
        return Ok(());
    };
    Err(if row.try_get("as_superuser")? == Some("t") {
        not_ours(
            format!(
                "{why}; its owner is not a superuser, and its functions would run with a superuser's rights"
            ),
            "connect as a role that is no superuser, as the schema's owner for instance; if it is none of yours, drop it",
        )
    } else {
        not_ours(
            format!(
                "{why}; its owner is not known to be trusted, so host does not call its functions"
            ),
            "if that role has installed host, make it the database's owner or GRANT host_operator to it; else have it dropped",
        )
    })
}

fn taken(schema: &str, tables: &str) -> QueueError {
    let holds = if tables.is_empty() { String::new() } else { format!(", with {tables}") };
    not_ours(
        format!(
            "there is a schema {schema:?} already that is not host's{holds}, and host needs the name"
        ),
        "use a database of its own for host; or, if nothing depends on the name, ALTER SCHEMA … RENAME",
    )
}

fn not_ours(message: String, hint: &str) -> QueueError {
    QueueError::Refused {
        sqlstate: SQLSTATE_NOT_OURS.to_owned(),
        message,
        hint: Some(hint.to_owned()),
    }
}
