//! Fetch: the messages of a lease. Reads only.

use std::error::Error;
use std::pin::pin;
use std::time::SystemTime;

use bytes::Bytes;
use deadpool_postgres::ClientWrapper;
use futures_util::TryStreamExt as _;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Row, Statement};

use crate::error::QueueError;
use crate::json::{self, HeadersColumn};
use host_core::id::{HandlerId, MessageId, SessionId};
use host_core::message::{Expired, Headers, Message};

/// What a lease holds.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    pub(super) messages: Vec<Message>,
    /// Positions of messages that are not due yet.
    pub(super) not_due: Vec<u32>,
    /// Messages whose deadline has passed.
    pub(super) expired: Vec<Expired>,
    /// Positions of messages that an operator has removed.
    pub(super) removed: Vec<u32>,
    /// Positions of messages that are for another handler only.
    pub(super) not_ours: Vec<u32>,
}

/// Asks for the messages of the lease that the session gave the number `seq`.
pub(super) async fn fetch(
    client: &ClientWrapper,
    statement: &Statement,
    session: SessionId,
    seq: i64,
    handler: HandlerId,
) -> Result<Fetched, QueueError> {
    let params: [&(dyn ToSql + Sync); 3] = [&session.get(), &seq, &handler.get()];
    let mut rows = pin!(client.query_raw(statement, params).await?);
    let mut fetched = Fetched::default();
    while let Some(row) = rows.try_next().await? {
        fetched.add(&row)?;
    }
    Ok(fetched)
}

/// The same for the `count` leases that the session numbered from `seq` on; what there is of each.
pub(super) async fn fetch_lanes(
    client: &ClientWrapper,
    statement: &Statement,
    session: SessionId,
    seq: i64,
    handler: HandlerId,
    count: i32,
) -> Result<Vec<Fetched>, QueueError> {
    let rows = client.query(statement, &[&session.get(), &seq, &handler.get(), &count]).await?;
    let mut leases: Vec<_> = (0..count).map(|_| Fetched::default()).collect();
    for row in &rows {
        let lease = leases.get_mut((row.try_get::<_, i64>(7)? - seq) as usize);
        lease.ok_or_else(|| QueueError::Unexpected("no such lease".into()))?.add(row)?;
    }
    Ok(leases)
}

impl Fetched {
    fn add(&mut self, row: &Row) -> Result<(), QueueError> {
        let position = row.try_get::<_, i32>(0)?.cast_unsigned();
        match row.try_get::<_, Option<&str>>(4)? {
            None => self.messages.push(message(row, position)?),
            Some("not ours") => self.not_ours.push(position),
            Some("not due") => self.not_due.push(position),
            Some("removed") => self.removed.push(position),
            Some("expired") => self.expired.push(Expired { position, attempt: attempt(row)? }),
            Some(state) => return Err(QueueError::Unexpected(format!("no state {state:?}"))),
        }
        Ok(())
    }
}

/// A row that cannot be read is one failed message. Its neighbours run.
fn message(row: &Row, position: u32) -> Result<Message, QueueError> {
    let mut message = Message {
        position,
        id: MessageId::new(row.try_get(1)?),
        enqueued_at: SystemTime::UNIX_EPOCH,
        attempt: attempt(row).unwrap_or(1),
        headers: Headers::default(),
        payload: Bytes::new(),
        unreadable: None,
    };
    if let Err(error) = read(row, &mut message) {
        message.unreadable = Some(error.to_string());
    }
    Ok(message)
}

fn read(row: &Row, message: &mut Message) -> Result<(), QueueError> {
    message.enqueued_at = row.try_get(2)?;
    message.attempt = attempt(row)?;
    if let Some(HeadersColumn(headers)) = row.try_get(5)? {
        message.headers = headers;
    }
    let payload: Payload<'_> = row.try_get(6)?;
    message.payload = Bytes::copy_from_slice(payload.0);
    Ok(())
}

fn attempt(row: &Row) -> Result<u32, QueueError> {
    Ok(row.try_get::<_, i16>(3)?.cast_unsigned().into())
}

/// A payload as it travels, of whatever type: JSON is not parsed here.
pub(crate) struct Payload<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Payload<'a> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(json::bytes(ty, raw)?))
    }

    fn accepts(ty: &Type) -> bool {
        [Type::JSONB, Type::JSON, Type::TEXT, Type::BYTEA].contains(ty)
    }
}
