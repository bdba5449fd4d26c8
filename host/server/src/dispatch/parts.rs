//! What a handler's loop is given: what it shares with others, and what it is told. Only types.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::health::SlowLane;
use super::loaded::Loaded;
use super::threads::LongCallThreads;
use host_core::budget::Budget;
use host_core::id::{HandlerId, MessageId, SessionId};
use host_core::lane::Lanes;
use host_core::name::{HandlerName, QueueName};
use host_core::outcome::RetryPolicy;
use host_core::progress::Progress;
use host_queue::connect::Database;
use host_queue::statements::Statements;

/// What all handlers of a host share.
#[derive(Clone)]
pub struct Shared {
    /// The pool.
    pub database: Database,
    /// Under which leases are taken.
    pub session: SessionId,
    /// Numbers its leases.
    pub next_seq: Arc<AtomicI64>,
    /// Payload that the host holds in memory, in KiB.
    pub payload_kib: Arc<Semaphore>,
    /// The follow-ups of all handlers that are not settled yet.
    pub follow_ups: Budget,
    /// How much memory these may take, in bytes.
    pub follow_up_bytes_max: u64,
    /// For queues that are in trouble.
    pub slow_lane: SlowLane,
    /// Whether its loops go round.
    pub progress: Progress,
    /// For calls that compute for long.
    pub long_calls: LongCallThreads,
    /// For the history.
    pub host_name: Arc<str>,
    /// The longest that a sleeping handler goes without a look.
    pub poll_max: Duration,
    /// Processors.
    pub cores: u32,
    /// The tasks in which messages run.
    pub tasks: TaskTracker,
    /// Cancelled when the host must stop at once, or a queue is gone: handlers are interrupted, nothing more is settled.
    pub stop_now: CancellationToken,
}

/// What is said to a handler's loop from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Whether to take leases: not when paused or draining. Open ones are finished either way.
    pub leasing: bool,
    /// Whether to end once nothing is open.
    pub draining: bool,
    /// Whether an INSERT may wake a sleeping host.
    pub wake_up: bool,
    /// How the queue retries.
    pub policy: RetryPolicy,
    /// Messages that an operator has removed, and that may be in hand.
    pub removed: Arc<HashSet<MessageId>>,
    /// Raised when a session may have left leases behind.
    pub sweep: i64,
}

/// What a dispatcher is made of.
pub struct Parts {
    /// What all handlers of a host share.
    pub shared: Shared,
    /// The queue's name.
    pub queue: QueueName,
    /// The handler's name.
    pub name: HandlerName,
    /// The handler.
    pub handler: HandlerId,
    /// The queue's lanes.
    pub lanes: Lanes,
    /// The queue's statements.
    pub statements: Arc<Statements>,
    /// The version in force; swapped by a deploy.
    pub loaded: Arc<ArcSwap<Loaded>>,
    /// What is said from outside.
    pub control: watch::Receiver<Control>,
    /// Told when a message may have come.
    pub woken: Arc<Notify>,
    /// To be told when the schedule has got new messages.
    pub schedule_changed: Arc<Notify>,
}
