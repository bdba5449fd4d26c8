//! What a benchmark has found out: one object for machines. Pure.

use serde::Serialize;

/// The figures of a run. `None`: the workload has no such figure, or the machine does not tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// What was run.
    pub workload: &'static str,
    /// Messages of the measured time.
    pub messages: Option<u64>,
    /// The measured time.
    pub seconds: Option<f64>,
    /// Messages a second in it.
    pub messages_per_second: Option<f64>,

    /// Messages of the whole run that producers committed.
    pub committed: u64,
    /// Committed messages that were delivered.
    pub delivered: u64,
    /// Messages that were committed and not delivered.
    pub lost: u64,
    /// Deliveries too many.
    pub duplicated: u64,

    /// Of the tables whose rows are never touched.
    pub updates: Option<i64>,
    /// Of the tables whose rows are never touched.
    pub deletes: Option<i64>,
    /// The most dead rows that these tables had at once.
    pub dead_tuples: Option<i64>,
    /// Updates and deletes of the product's other tables: queues, handlers, sessions.
    pub control_changes: Option<i64>,
    /// The most dead rows that those had at once, beside those that they had before.
    pub control_dead_tuples: Option<i64>,
    /// The most dead rows that `pg_class` had at once, beside those that it had before.
    pub catalog_dead_tuples: Option<i64>,

    /// Write-ahead log of the whole cluster, from the INSERT to the settlement, in bytes.
    pub wal_bytes_per_message: Option<f64>,
    /// Of that, what enqueuing took, where it can be told apart.
    pub wal_bytes_per_message_enqueued: Option<f64>,
    /// Transactions that committed, whoever's they were, producers' included.
    pub commits_per_message: Option<f64>,
    /// Messages in a lease, on average.
    pub messages_per_lease: Option<f64>,
    /// Generations begun.
    pub rotations: Option<i64>,
    /// The most that the queue took on disk, in bytes.
    pub disk_bytes_max: Option<u64>,

    /// From when the producer knew of the commit until the handler began, in milliseconds.
    pub p50_ms: Option<f64>,
    /// Of 100 messages, all but one took at most so long.
    pub p99_ms: Option<f64>,
    /// Of 1,000 messages, all but one took at most so long.
    pub p999_ms: Option<f64>,
    /// The longest.
    pub max_ms: Option<f64>,
    /// From when a message was due to be sent until the handler began: with what its INSERT took,
    /// and what kept its producer from it.
    pub due_to_start_p50_ms: Option<f64>,
    /// From when a message was due to be sent until the handler began.
    pub due_to_start_p99_ms: Option<f64>,
    /// From when a message was due to be sent until the producer knew of the commit.
    pub enqueue_p50_ms: Option<f64>,
    /// From when a message was due to be sent until the producer knew of the commit.
    pub enqueue_p99_ms: Option<f64>,

    /// The most memory that a host had at once.
    pub host_peak_rss_bytes: Option<u64>,
    /// Processor time of all hosts in the measured time.
    pub host_cpu_seconds: Option<f64>,
    /// The same, for a million messages.
    pub host_cpu_seconds_per_million: Option<f64>,
    /// Processor time of the server in the measured time; `None` if it is on another machine.
    pub postgres_cpu_seconds: Option<f64>,
    /// The same, for a million messages.
    pub postgres_cpu_seconds_per_million: Option<f64>,
    /// Processor time of the producers in the measured time.
    pub producer_cpu_seconds: Option<f64>,

    /// The length of the intervals that `rates` are of, in seconds.
    pub interval_seconds: Option<u32>,
    /// Messages a second in each interval.
    pub rates: Option<Vec<f64>>,
    /// Messages a second in the first minute, or half of a shorter run.
    pub first_rate: Option<f64>,
    /// Messages a second in the last minute, or half of a shorter run.
    pub last_rate: Option<f64>,
    /// `last_rate` / `first_rate`.
    pub last_to_first: Option<f64>,
    /// Messages that waited when producers stopped.
    pub backlog: Option<u64>,

    /// Rows a second that the same server takes by COPY without a queue.
    pub copy_in_per_second: Option<f64>,
    /// Rows a second that it gives out, payloads and all.
    pub read_out_per_second: Option<f64>,
    /// `messages_per_second` / `copy_in_per_second`.
    pub share_of_copy_in: Option<f64>,
    /// `messages_per_second` / `read_out_per_second`.
    pub share_of_read_out: Option<f64>,
    /// Write-ahead log of a row that is copied in without a queue, in bytes.
    pub bare_wal_bytes_per_message: Option<f64>,
    /// What an INSERT costs, beside a bare table.
    pub enqueue: Option<Vec<EnqueueRates>>,
    /// What two things that vary make of the rate.
    pub sweep: Option<SweepRates>,

    /// What the run was asked for.
    pub producers: u32,
    /// Hosts.
    pub hosts: u32,
    /// `message` or `batch`.
    pub isolation: &'static str,
    /// Of each message, as its producer writes it.
    pub payload_bytes: usize,
    /// Messages in one INSERT.
    pub batch: u32,
    /// Messages a second that were asked for.
    pub rate: Option<f64>,
    /// Messages that waited at the start.
    pub waiting_before: u64,
    /// Messages that another session kept in hand.
    pub leased_before: u64,
    /// Messages that were settled before the start, beside those that warmed up.
    pub settled_before: u64,
    /// Messages that were scheduled at the start.
    pub scheduled_before: u64,
    /// Whether producers' commits waited for the disk.
    pub synchronous_commit: bool,
    /// Whether an INSERT could wake a host.
    pub wake_up: bool,
    /// What was in the way.
    pub interference: Vec<&'static str>,
    /// What the hosts complained of.
    pub complaints: Vec<String>,
    /// The server's version.
    pub postgres: String,
    /// Processors of this machine.
    pub cores: usize,
}

/// What an INSERT costs, in one situation: rows a second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EnqueueRates {
    /// What goes on beside: `nothing`, `host` (it works off what comes) or `busy host`.
    pub beside: &'static str,
    /// How rows are inserted.
    pub method: &'static str,
    /// Rows of one statement.
    pub rows: u32,
    /// Of a bare table with the queue's columns and its index.
    pub bare_per_second: f64,
    /// Of the queue.
    pub queue_per_second: f64,
    /// Of the queue when its INSERTs wake nobody.
    pub queue_without_wake_up_per_second: f64,
    /// `queue_per_second` / `bare_per_second`.
    pub share_of_bare: f64,
    /// `queue_per_second` / `queue_without_wake_up_per_second`.
    pub share_of_without_wake_up: f64,
}

/// Messages a second for each pair of two things that vary.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SweepRates {
    /// What varies from column to column.
    pub across: &'static str,
    /// Its values.
    pub columns: Vec<u32>,
    /// What varies from row to row.
    pub down: &'static str,
    /// Its values.
    pub rows: Vec<u32>,
    /// By row, then by column.
    pub messages_per_second: Vec<Vec<f64>>,
}

impl Report {
    /// Sets the measured time and what was done in it.
    pub fn rate_over(&mut self, messages: u64, seconds: f64) {
        self.messages = Some(messages);
        self.seconds = Some(rounded(seconds));
        self.messages_per_second = (seconds > 0.0).then(|| rounded(messages as f64 / seconds));
    }
}

/// To three digits after the point: nobody can tell more.
#[must_use]
pub fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// A share of messages; `None` of none.
#[must_use]
pub fn per(value: f64, messages: u64) -> Option<f64> {
    (messages > 0).then(|| rounded(value / messages as f64))
}
