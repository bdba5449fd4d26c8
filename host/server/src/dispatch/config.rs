//! What a handler's loop is given. Some of it all handlers of a host share. Only types.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::health::SharedConnections;
use super::run::handler_version::HandlerVersion;
use super::run::threads::LongCallThreads;
use crate::rest::RestObserver;
use host_core::health::failures::Report;
use host_core::health::progress::Progress;
use host_core::id::{HandlerId, MessageId, SessionId};
use host_core::memory_gauge::MemoryGauge;
use host_core::message::lane::Lanes;
use host_core::name::{HandlerName, QueueName};
use host_core::policy::retry::RetryPolicy;
use host_queue::connect::Database;
use host_queue::statements::Statements;

/// What all handlers of a host share.
#[derive(Clone)]
pub struct HostResources {
    /// The pool of connections.
    pub database: Database,
    /// The session that takes the leases.
    pub session: SessionId,
    /// Numbers the leases of the session.
    pub next_seq: Arc<AtomicI64>,
    /// Payload that the host holds in memory, in KiB.
    pub payload_kib: Arc<Semaphore>,
    /// Follow-ups and results of all handlers that are not settled yet.
    pub follow_ups: MemoryGauge,
    /// How much memory these may take, in bytes.
    pub follow_up_bytes_max: u64,
    /// The connections of queues that have an incident.
    pub shared_connections: SharedConnections,
    /// Whether the host's loops go round.
    pub progress: Progress,
    /// The threads for calls that compute for long.
    pub long_calls: LongCallThreads,
    /// Takes how much of a handler fails, for the database.
    pub failing: mpsc::UnboundedSender<(HandlerId, Report)>,
    /// This host's name, for the history.
    pub host_name: Arc<str>,
    /// How often to ask whether anything came to idle queues.
    pub poll_max: Duration,
    /// Processors.
    pub cores: u32,
    /// The tasks in which messages run.
    pub tasks: TaskTracker,
    /// Cancelled when the host must stop at once, or the queue is gone. Calls are interrupted, and
    /// nothing more is settled.
    pub stop_now: CancellationToken,
}

/// What the handler manager tells a handler's loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Whether the loop takes leases.
    pub mode: Mode,
    /// Whether an INSERT may wake a sleeping host.
    pub wake_up: bool,
    /// How the queue retries.
    pub policy: RetryPolicy,
    /// Messages that an operator has removed. This host may have leased some of them.
    pub removed: Arc<HashSet<MessageId>>,
}

/// Whether a handler's loop takes leases. It finishes open leases in each mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It leases what comes.
    Leasing,
    /// It leases nothing until an operator resumes the queue or the handler.
    Paused,
    /// It leases nothing, and ends once no lease is open.
    Draining,
}

/// One handler, and the statements of its queue.
#[derive(Clone, Debug)]
pub struct HandlerRef {
    /// The queue's name.
    pub queue: QueueName,
    /// The handler's name.
    pub name: HandlerName,
    /// The handler's id.
    pub id: HandlerId,
    /// The queue's statements.
    pub statements: Arc<Statements>,
}

/// What a dispatcher is made of.
pub struct DispatcherConfig {
    /// What all handlers of the host share.
    pub host: HostResources,
    /// Which handler.
    pub handler: HandlerRef,
    /// The queue's lanes.
    pub lanes: Lanes,
    /// The version in force; swapped by a deploy.
    pub version: Arc<ArcSwap<HandlerVersion>>,
    /// What the handler manager says.
    pub control: watch::Receiver<Control>,
    /// Notified when a message may have come.
    pub woken: Arc<Notify>,
    /// Whether the queue is at rest.
    pub rest: RestObserver,
    /// To be notified when the schedule has new messages.
    pub schedule_changed: Arc<Notify>,
}
