//! A message as a host sees it on one attempt. Never does I/O.

use std::time::SystemTime;

use bytes::Bytes;

use crate::id::MessageId;

/// One message of a lease.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its place in the lease, from 0; what settlements speak of.
    pub position: u32,
    /// The same over all attempts.
    pub id: MessageId,
    /// 1 on the first attempt.
    pub attempt: u32,
    /// When the producer's transaction began.
    pub enqueued_at: SystemTime,
    /// The `headers` column, in no particular order.
    pub headers: Vec<(String, String)>,
    /// The `payload` column, without any encoding of the wire's.
    pub payload: Bytes,
}

/// A message of a lease whose deadline has passed: it is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Which.
    pub position: u32,
    /// The attempt that it would have been, from 1.
    pub attempt: u32,
}

/// What a queue's `payload` column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadType {
    /// Parsed JSON; the default.
    Jsonb,
    /// JSON kept as it was written.
    Json,
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Bytea,
}

impl PayloadType {
    /// All of them, in the order in which `--help` shows them.
    pub const ALL: [Self; 4] = [Self::Jsonb, Self::Json, Self::Text, Self::Bytea];

    /// The name of the type in SQL.
    #[must_use]
    pub const fn sql_name(self) -> &'static str {
        match self {
            Self::Jsonb => "jsonb",
            Self::Json => "json",
            Self::Text => "text",
            Self::Bytea => "bytea",
        }
    }

    /// What a handler is told that the payload is.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Jsonb | Self::Json => "application/json",
            Self::Text => "text/plain",
            Self::Bytea => "application/octet-stream",
        }
    }

    /// The type of that SQL name.
    #[must_use]
    pub fn from_sql_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.sql_name() == name)
    }

    /// Says why `payload` cannot be stored in a column of this type, if it cannot.
    ///
    /// # Errors
    /// What is wrong, in words for the handler's author.
    pub fn check(self, payload: &[u8]) -> Result<(), String> {
        if self == Self::Bytea {
            return Ok(());
        }
        let text = std::str::from_utf8(payload).map_err(|e| format!("not UTF-8: {e}"))?;
        if text.contains('\0') {
            return Err("Postgres cannot store a NUL character in text".into());
        }
        if self == Self::Text {
            return Ok(());
        }
        serde_json::from_str::<&serde_json::value::RawValue>(text)
            .map(|_| ())
            .map_err(|e| format!("not JSON: {e}"))
    }
}

/// What a queue takes: all that is needed to check a follow-up before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueShape {
    /// What its `payload` column holds.
    pub payload_type: PayloadType,
    /// Its largest payload, in bytes.
    pub payload_bytes_max: u64,
}

/// A message that a handler enqueued; committed with its ack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowUp {
    /// The queue to put it on.
    pub queue: String,
    /// Suits that queue's payload type.
    pub payload: Vec<u8>,
    /// The `headers` column.
    pub headers: Vec<(String, String)>,
    /// Deliver it no sooner than after this long.
    pub delay: std::time::Duration,
}

impl FollowUp {
    /// What it takes of a host's memory, in bytes, nearly.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let header = |(key, value): &(String, String)| key.len() + value.len() + 64;
        let headers: usize = self.headers.iter().map(header).sum();
        (size_of::<Self>() + self.queue.len() + self.payload.len() + headers) as u64
    }
}
