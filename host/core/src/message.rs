//! A message as a host sees it on one attempt. Never does I/O.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use self::lane::{Lanes, Priority};
use crate::deployment::secret::Secret;
use crate::id::MessageId;
use crate::limits::DELAY;

mod json;
pub mod lane;

/// The most that headers may have as JSON text, in bytes.
pub const HEADERS_BYTES_MAX: usize = 65_536;
/// The longest delay of a follow-up. Postgres takes 30 years.
pub const FOLLOW_UP_DELAY_MAX: Duration = *DELAY.end();
/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;
/// The longest unique key, in bytes.
const UNIQUE_KEY_BYTES_MAX: usize = 512;

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
    pub headers: Headers,
    /// The `payload` column, without any encoding of the wire's.
    pub payload: Bytes,
    /// Why its row cannot be read: then it is not run, and fails. Its headers and payload may be
    /// missing.
    pub unreadable: Option<String>,
}

impl Message {
    /// What is held of it while it waits and runs, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.headers.bytes()
    }
}

/// The headers of a message: names and values one after the other in one text. A producer can send
/// thousands of short ones, and a `String` for each would take many times their size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    text: String,
    /// Where each name and each value ends.
    ends: Vec<usize>,
}

impl Headers {
    /// Adds one.
    pub fn push(&mut self, name: &str, value: &str) {
        for part in [name, value] {
            self.text.push_str(part);
            self.ends.push(self.text.len());
        }
    }

    /// Each name with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut from = 0;
        self.ends.chunks_exact(2).map(move |pair| {
            let (name, value) = (&self.text[from..pair[0]], &self.text[pair[0]..pair[1]]);
            from = pair[1];
            (name, value)
        })
    }

    /// What is held of them, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<usize>()
    }
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

    /// The bytes that `payload` has in a column of this type, as its limit counts them.
    ///
    /// # Errors
    /// Why it cannot be stored there, in words for the handler's author.
    pub fn check(self, payload: &[u8]) -> Result<u64, String> {
        let bytes = payload.len() as u64;
        if self == Self::Bytea {
            return Ok(bytes);
        }
        let text = std::str::from_utf8(payload).map_err(|e| format!("not UTF-8: {e}"))?;
        if text.contains('\0') {
            return Err("Postgres cannot store a NUL character in text".into());
        }
        match self {
            Self::Jsonb => json::jsonb_bytes(text),
            Self::Json => json::check_json(text).map(|()| bytes),
            Self::Text | Self::Bytea => Ok(bytes),
        }
    }
}

/// What a queue takes: all that is needed to check a follow-up before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueShape {
    /// What its `payload` column holds.
    pub payload_type: PayloadType,
    /// Its largest payload, in bytes.
    pub payload_bytes_max: u64,
    /// Its strands: whether it takes keys or priorities.
    pub lanes: Lanes,
    /// Whether it takes unique keys.
    pub is_unique: bool,
}

impl QueueShape {
    /// Says why a message with these columns cannot be stored, if it cannot.
    ///
    /// # Errors
    /// What is wrong, said of the queue, in words for the handler's author.
    pub fn check(
        &self,
        key: Option<&str>,
        priority: Option<Priority>,
        unique_key: Option<&str>,
    ) -> Result<(), String> {
        if let Some(lack) = self.lanes.lack(key.is_some(), priority.is_some()) {
            return Err(lack.into());
        }
        if unique_key.is_some() && !self.is_unique {
            return Err(
                "takes no unique keys: turn them on with `host queue set --unique 1h`".into()
            );
        }
        key.map_or(Ok(()), |key| check_key("key", key, KEY_BYTES_MAX))?;
        unique_key.map_or(Ok(()), |key| check_key("unique key", key, UNIQUE_KEY_BYTES_MAX))
    }
}

/// Says why follow-up headers cannot be stored, if they cannot.
///
/// # Errors
/// What is wrong, in words for the handler's author.
pub fn check_headers(headers: &[(String, String)]) -> Result<(), String> {
    if headers.iter().any(|(name, value)| name.contains('\0') || value.contains('\0')) {
        return Err("a header holds a NUL character, which Postgres cannot store".into());
    }
    // Of one name the last counts.
    let stored: BTreeMap<&str, &str> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let bytes = json::object_bytes(stored.into_iter());
    if bytes > HEADERS_BYTES_MAX {
        return Err(format!(
            "the headers have {bytes} bytes as JSON: a message has at most {HEADERS_BYTES_MAX}"
        ));
    }
    Ok(())
}

fn check_key(what: &str, key: &str, bytes_max: usize) -> Result<(), String> {
    if !(1..=bytes_max).contains(&key.len()) {
        return Err(format!("takes no {what} of {} bytes: use 1 to {bytes_max}", key.len()));
    }
    if key.contains('\0') {
        return Err(format!("takes no {what} with a NUL character: Postgres cannot store it"));
    }
    Ok(())
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
    pub delay: Duration,
    /// The `key` column.
    pub key: Option<String>,
    /// The `priority` column.
    pub priority: Option<Priority>,
    /// The `unique_key` column.
    pub unique_key: Option<String>,
    /// Secrets that its handler was given before: to be kept out of what Postgres says of it.
    pub hidden: Arc<[Secret]>,
}

impl FollowUp {
    /// What it takes of a host's memory, in bytes, nearly.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let header = |(key, value): &(String, String)| key.len() + value.len() + 64;
        let headers: usize = self.headers.iter().map(header).sum();
        let keys = [&self.key, &self.unique_key].into_iter().flatten().map(String::len);
        let texts = self.queue.len() + keys.sum::<usize>();
        (size_of::<Self>() + texts + self.payload.len() + headers) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_takes_what_it_was_made_for() {
        let shape = |lanes, is_unique| QueueShape {
            payload_type: PayloadType::Text,
            payload_bytes_max: 10,
            lanes,
            is_unique,
        };
        let plain = shape(Lanes::One, false);
        assert_eq!(plain.check(None, None, None), Ok(()));
        assert!(plain.check(Some("k"), None, None).unwrap_err().starts_with("takes no key"));
        let normal = Some(Priority::Normal);
        assert!(plain.check(None, normal, None).unwrap_err().starts_with("has no priorities"));
        assert!(plain.check(None, None, Some("k")).unwrap_err().starts_with("takes no unique"));
        assert_eq!(shape(Lanes::Priorities, false).check(None, normal, None), Ok(()));
        let all = shape(Lanes::Ordered(2), true);
        let (longest, longest_unique) = ("k".repeat(255), "u".repeat(512));
        assert_eq!(all.check(Some(&longest), None, Some(&longest_unique)), Ok(()));
        for wrong in ["", "a\0b", &"k".repeat(256)] {
            all.check(Some(wrong), None, None).unwrap_err();
        }
        for wrong in ["", "a\0b", &"u".repeat(513)] {
            all.check(None, None, Some(wrong)).unwrap_err();
        }
    }
}
