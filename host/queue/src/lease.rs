//! Leases: what is asked for, what came of it, and how a lease is made of its rows.

use std::time::Duration;

use self::fetch::Fetched;
use super::error::QueueError;
use host_core::id::{HandlerId, LeaseId};
use host_core::message::lane::LaneTurn;
use host_core::message::{Expired, Message};
use host_core::settlement::Ledger;

pub mod exchange;
pub(crate) mod fetch;
mod granted;
mod lanes;
pub mod take_over;

/// A message that was in flight when so many hosts died is a dead letter. From the second on it is
/// leased alone, so that it takes no other with it.
pub const DEATHS_MAX: i32 = 5;

/// What to lease.
#[derive(Clone, Copy, Debug)]
pub struct LeaseRequest {
    /// For this handler.
    pub handler: HandlerId,
    /// A number that this session has used for no other lease of the queue.
    pub seq: i64,
    /// At most so many messages.
    pub messages_max: u32,
    /// At most so many bytes of payload, as they are stored; but one message always.
    pub bytes_max: u64,
    /// From which lanes.
    pub turn: LaneTurn,
    /// At most so many leases, numbered from `seq` on; only [`LaneTurn::Free`] gives more than one.
    pub leases_max: u32,
}

/// The right to process a batch of messages. Whatever happens to it, its ledger has to be settled,
/// or the session to end: there is no other way to be rid of one.
#[must_use]
#[derive(Debug)]
pub struct Lease {
    /// Its row in the log.
    pub id: LeaseId,
    /// What has to be done, and what is done.
    pub ledger: Ledger,
    /// To be run.
    pub messages: Vec<Message>,
    /// To be given up on.
    pub expired: Vec<Expired>,
}

/// What was leased.
#[derive(Debug, Default)]
pub struct Taken {
    /// None: there was nothing, or nothing was asked for.
    pub leases: Vec<Lease>,
    /// Whether the queue has more, as far as is known.
    pub more: bool,
    /// How long until there will be more, of what is known to wait for its time.
    pub wait: Option<Duration>,
    /// The queue's limits let nothing start.
    pub limit: Option<Wait>,
    /// The lane of the last of the leases, where lanes have their turns.
    pub last_lane: Option<u16>,
}

/// How long a limit lets no message start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Ask again after this time …
    pub time: Duration,
    /// … or when messages of the handler are settled: so many are in flight as may.
    pub until_settled: bool,
    /// The limits are of some lanes, and others may have messages at any time.
    pub others_may_start: bool,
}

/// A lease from its rows.
fn open(mut ledger: Ledger, fetched: Fetched) -> Result<Lease, QueueError> {
    let Fetched { messages, not_due, expired, removed, not_ours } = fetched;
    let have = messages.len() + not_due.len() + expired.len() + removed.len() + not_ours.len();
    let id = ledger.lease();
    let count = ledger.rest();
    if have != count {
        return Err(QueueError::Unexpected(format!(
            "lease {id} is of {count} messages, but {have} came"
        )));
    }
    for position in not_due {
        ledger.park(position);
    }
    for position in removed {
        ledger.removed(position);
    }
    for position in not_ours {
        ledger.not_ours(position);
    }
    Ok(Lease { id, ledger, messages, expired })
}
