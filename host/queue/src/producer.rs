//! Enqueuing for people at a shell: what any producer does, over COPY. Never looks at a message
//! that is on the queue.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{IsNull, Json, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Transaction};

use super::admin::unique::taken_by;
use super::catalog::Queue;
use super::error::QueueError;
use host_core::id::MessageId;
use host_core::limits::DELAY;
use host_core::message::PayloadType;
use host_core::message::lane::Priority;
use host_core::name::QueueName;

/// What goes with every message of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The `headers` column; left NULL when empty.
    pub headers: BTreeMap<String, String>,
    /// When to deliver them.
    pub when: When,
    /// From when on not to deliver them any more.
    pub expires: Option<When>,
    /// The `priority` column.
    pub priority: Option<Priority>,
    /// The `key` column.
    pub key: Option<String>,
}

/// A time, as its user gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// The present.
    #[default]
    Now,
    /// This long from now, by the server's clock; no longer than [`DELAY`] allows.
    After(Duration),
    /// Then.
    At(SystemTime),
}

/// A transaction that enqueues. Nothing is enqueued until [`Batch::commit`].
pub struct Batch<'a> {
    transaction: Transaction<'a>,
    writer: Pin<Box<BinaryCopyInWriter>>,
    headers: Option<Json<BTreeMap<String, String>>>,
    run_at: Option<SystemTime>,
    expires_at: Option<SystemTime>,
    priority: Option<i16>,
    key: Option<String>,
}

/// What came of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// It is on the queue.
    As(MessageId),
    /// Its unique key is taken, and the queue drops duplicates: by which message, if the key is not
    /// free again already.
    DuplicateOf(Option<MessageId>),
}

/// Enqueues one message, in one round trip; a duplicate takes another.
pub async fn enqueue(
    client: &Client,
    queue: &Queue,
    envelope: Envelope,
    unique_key: Option<&str>,
    payload: &[u8],
) -> Result<Enqueued, QueueError> {
    let (name, priority) = (&queue.name, envelope.priority.map(Priority::number));
    let (key, headers) = (envelope.key, headers(envelope.headers));
    let (run_at, delay_us) = envelope.when.parts();
    let (expires_at, expires_us) = envelope.expires.unwrap_or_default().parts();
    let insert = include_str!("producer/enqueue.sql").replace("{q}", name.as_str());
    let row = client
        .query_typed_opt(
            &insert,
            &[
                (&Payload(payload), sql_type(queue.settings.payload_type)),
                (&headers, Type::JSONB),
                (&run_at, Type::TIMESTAMPTZ),
                (&delay_us, Type::INT8),
                (&expires_at, Type::TIMESTAMPTZ),
                (&expires_us, Type::INT8),
                (&priority, Type::INT2),
                (&key, Type::TEXT),
                (&unique_key, Type::TEXT),
            ],
        )
        .await?;
    match (row, unique_key) {
        (Some(row), _) => Ok(Enqueued::As(MessageId::new(row.try_get(0)?))),
        (None, Some(key)) => Ok(Enqueued::DuplicateOf(taken_by(client, name, key).await?)),
        (None, None) => Err(QueueError::Unexpected(format!(
            "queue {name} did not take a message; a trigger on its table may have skipped it"
        ))),
    }
}

impl When {
    /// A time, or microseconds from now.
    fn parts(&self) -> (Option<SystemTime>, Option<i64>) {
        match self {
            Self::Now => (None, None),
            Self::At(time) => (Some(*time), None),
            Self::After(delay) => (None, Some((*delay).min(*DELAY.end()).as_micros() as i64)),
        }
    }
}

impl<'a> Batch<'a> {
    /// Begins to enqueue many.
    pub async fn begin(
        client: &'a mut Client,
        queue: &QueueName,
        payload_type: PayloadType,
        envelope: Envelope,
    ) -> Result<Self, QueueError> {
        let transaction = client.transaction().await?;
        let (run_at, expires_at) = times(&transaction, &envelope).await?;
        let copy = include_str!("producer/copy.sql").replace("{q}", queue.as_str());
        let sink = transaction.copy_in(&copy).await?;
        let (payload, time) = (sql_type(payload_type), Type::TIMESTAMPTZ);
        let types = [payload, Type::JSONB, time.clone(), time, Type::INT2, Type::TEXT];
        let writer = Box::pin(BinaryCopyInWriter::new(sink, &types));
        let priority = envelope.priority.map(Priority::number);
        let (key, headers) = (envelope.key, headers(envelope.headers));
        Ok(Self { transaction, writer, headers, run_at, expires_at, priority, key })
    }

    /// Adds one message.
    pub async fn add(&mut self, payload: &[u8]) -> Result<(), QueueError> {
        let row: [&(dyn ToSql + Sync); 6] = [
            &Payload(payload),
            &self.headers,
            &self.run_at,
            &self.expires_at,
            &self.priority,
            &self.key,
        ];
        self.writer.as_mut().write(&row).await.map_err(located)
    }

    /// Enqueues them all; says how many.
    pub async fn commit(mut self) -> Result<u64, QueueError> {
        let count = self.writer.as_mut().finish().await.map_err(located)?;
        self.transaction.commit().await?;
        Ok(count)
    }
}

/// COPY says which line was wrong, beside its message.
fn located(error: tokio_postgres::Error) -> QueueError {
    let place = error.as_db_error().and_then(|db| db.where_()).unwrap_or_default();
    let place = place.lines().next().unwrap_or_default().to_owned();
    match QueueError::from(error) {
        QueueError::Refused { sqlstate, message, hint } if !place.is_empty() => {
            QueueError::Refused { sqlstate, message: format!("{message}, at {place}"), hint }
        }
        other => other,
    }
}

fn headers(headers: BTreeMap<String, String>) -> Option<Json<BTreeMap<String, String>>> {
    (!headers.is_empty()).then_some(Json(headers))
}

/// The columns `run_at` and `expires_at`.
async fn times(
    transaction: &Transaction<'_>,
    envelope: &Envelope,
) -> Result<(Option<SystemTime>, Option<SystemTime>), QueueError> {
    let now: SystemTime = transaction.query_typed_one("SELECT now()", &[]).await?.try_get(0)?;
    let at = |when: &When| match when {
        When::Now => None,
        When::At(time) => Some(*time),
        When::After(delay) => Some(now + (*delay).min(*DELAY.end())),
    };
    Ok((at(&envelope.when), envelope.expires.as_ref().and_then(at)))
}

const fn sql_type(payload_type: PayloadType) -> Type {
    match payload_type {
        PayloadType::Jsonb => Type::JSONB,
        PayloadType::Json => Type::JSON,
        PayloadType::Text => Type::TEXT,
        PayloadType::Bytea => Type::BYTEA,
    }
}

/// Bytes that go over the wire as they are, whatever the column's type.
#[derive(Debug)]
pub(super) struct Payload<'a>(pub(super) &'a [u8]);

impl ToSql for Payload<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        if *kind == Type::JSONB {
            // The version of the binary form.
            out.put_u8(1);
        }
        out.put_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        [Type::JSONB, Type::JSON, Type::TEXT, Type::BYTEA].contains(kind)
    }

    to_sql_checked!();
}
