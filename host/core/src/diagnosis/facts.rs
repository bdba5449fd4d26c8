//! What was seen of a database and its hosts, at one moment. Never says whether that is good.

use serde::Deserialize;
use serde::Serialize;

/// Everything that a diagnosis is made from.
#[derive(Clone, Debug, Deserialize)]
pub struct Facts {
    /// Queues that could not be looked at, since somebody has locked their tables.
    #[serde(default)]
    pub locked: Vec<String>,
    /// It came from another cluster, and was not rebased.
    pub restored: bool,
    /// The role is shown what other roles' connections do.
    pub sees_others: bool,
    /// Group roles that there are none of.
    pub missing_roles: Vec<String>,
    /// What the group roles lack, as the statements that would grant it.
    pub missing_privileges: Vec<String>,
    /// What everybody may do, as the statements that would take it back.
    pub open_privileges: Vec<String>,
    /// What default privileges open of what is made next, as the statements that would end it.
    pub open_defaults: Vec<String>,
    /// Roles that may change more of what is host's than they were to.
    pub excess_privileges: Vec<Excess>,
    /// Connections to the server, all databases together.
    pub connections: i64,
    /// As many as the server takes.
    pub connections_max: i64,
    /// Its room for locks.
    pub locks: LockTable,
    /// Settings that could hurt, as this session or any role has them.
    pub settings: Vec<Setting>,
    /// Since a cron entry fired last, in milliseconds; negative: the clock was set back.
    pub cron_clock_ms: Option<i64>,
    /// Rows of `pg_class` that vacuum has not removed.
    pub dead_catalog_rows: i64,
    /// The transaction that sees the oldest state.
    pub oldest_snapshot: Option<Holder>,
    /// Hosts that have not ended.
    pub sessions: Vec<SessionFacts>,
    /// Cron entries that are due and cannot fire.
    pub failing_cron: Vec<FailingCron>,
    /// What would attach the partitions of the heartbeat that are detached.
    pub detached: Vec<String>,
    /// Who holds locks of sessions to come.
    pub held_sessions: Vec<HeldSessions>,
    /// What is in force.
    pub handlers: Vec<Deployed>,
    /// All queues; none if the database was restored.
    pub queues: Vec<Queue>,
    /// Handlers some of whose messages fail.
    pub failing: Vec<Failing>,
    /// Queues with dead letters of the last hour.
    pub fresh_dead: Vec<FreshDead>,
}

/// A handler some of whose messages failed in the last 5 minutes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Failing {
    /// The queue.
    pub queue: String,
    /// The handler.
    pub handler: String,
    /// The version in force.
    pub version: i32,
    /// Messages that ran.
    pub calls: i64,
    /// Of these: failed.
    pub failed: i64,
    /// Of these: dead letters.
    pub dead: i64,
    /// The commonest error.
    pub error: String,
}

/// A queue with dead letters of the last hour.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FreshDead {
    /// The queue.
    pub queue: String,
    /// How many; at most a thousand are counted.
    pub letters: i64,
    /// When the first of them died.
    pub since: String,
    /// The commonest error.
    pub error: String,
}

/// What a role may do beyond what it was to.
#[derive(Clone, Debug, Deserialize)]
pub struct Excess {
    /// The role.
    pub role: String,
    /// What it may do, as phrases: one for each kind of object.
    pub rights: Vec<String>,
    /// The statements that would take it back.
    pub statements: Vec<String>,
}

/// A setting of the server.
#[derive(Clone, Debug, Deserialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The role that it is set for; `None`: it holds for this session.
    pub role: Option<String>,
}

/// A transaction that is in the way.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Holder {
    /// The server's process; `None` for a prepared transaction.
    pub pid: Option<i32>,
    /// The name of a prepared transaction.
    pub prepared: Option<String>,
    /// What the connection calls itself.
    pub application: Option<String>,
    /// Whose it is.
    pub role: Option<String>,
    /// What it did last.
    pub query: Option<String>,
    /// Since it began, in milliseconds; `None` when that is not shown to this role.
    pub age_ms: Option<i64>,
}

/// A lock that something of a queue waits for, or will.
#[derive(Clone, Debug, Deserialize)]
pub struct HeldLock {
    /// `leaf`, `rotation`, `schedule`, `dump`, or a handler as `handler "name"`: see
    /// `host.held_locks`.
    pub lock: String,
    /// Who holds it.
    #[serde(flatten)]
    pub by: Holder,
}

/// Locks of sessions that have not begun, which somebody holds.
#[derive(Clone, Debug, Deserialize)]
pub struct HeldSessions {
    /// The lowest of their numbers.
    pub first: i64,
    /// How many.
    pub sessions: i64,
    /// Who holds them.
    #[serde(flatten)]
    pub by: Holder,
}

/// The server's room for locks, which all transactions share.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct LockTable {
    /// As many as there is room for.
    pub room: i64,
    /// As many as a dump of this database takes at once.
    pub dump: i64,
    /// The setting `max_locks_per_transaction`.
    pub per_transaction: i64,
}

/// A host that has not ended.
#[derive(Clone, Debug, Deserialize)]
pub struct SessionFacts {
    /// Its number.
    pub id: i32,
    /// What it is called.
    pub host_name: String,
    /// Its process on its machine.
    pub pid: i32,
    /// Its release.
    pub host_version: String,
    /// It holds its lock.
    pub connected: bool,
    /// Since its newest heartbeat, in milliseconds.
    pub beat_age_ms: Option<i64>,
    /// Which of its loops is overdue, as it says itself.
    pub late: Option<String>,
}

/// A version of a handler that is in force.
#[derive(Clone, Debug, Deserialize)]
pub struct Deployed {
    /// The queue.
    pub queue: String,
    /// The handler.
    pub handler: String,
    /// The version.
    pub version: i32,
    /// The hosts that cannot run it, each with its error.
    pub failed_on: Vec<String>,
}

/// One queue.
#[derive(Clone, Debug, Deserialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Nothing is leased from it.
    pub paused: bool,
    /// Since what the schedule has promoted was due, in milliseconds; negative: the clock was set
    /// back.
    pub clock_ms: Option<i64>,
    /// Messages that some handler has never leased, found when their leaf was to be truncated.
    pub missed: Option<i64>,
    /// Tables with row-level security.
    pub row_security: Vec<String>,
    /// Messages, if it has no handler.
    pub unhandled: i64,
    /// How far each handler is behind.
    pub handlers: Vec<Lag>,
    /// The oldest open lease that keeps a leaf from being truncated.
    pub open_lease: Option<OpenLease>,
    /// Locks that something of it waits for, or will.
    pub locks: Vec<HeldLock>,
    /// Triggers that somebody has put on it, whose functions have no search path of their own.
    pub triggers: Vec<Trigger>,
    /// Tables that autovacuum is not off for.
    pub autovacuum: Vec<String>,
}

/// A trigger of somebody's.
#[derive(Clone, Debug, Deserialize)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// What it calls, with the types of its arguments.
    pub function: String,
}

/// How far a handler is behind.
#[derive(Clone, Debug, Deserialize)]
pub struct Lag {
    /// The handler.
    pub name: String,
    /// Nothing is leased for it.
    #[serde(default)]
    pub paused: bool,
    /// Messages that it has not leased.
    pub waiting: i64,
    /// Since the first of these was enqueued, in milliseconds.
    pub oldest_age_ms: Option<i64>,
    /// Messages that the database did not take when they were due, or that could not be read.
    pub refused: Option<Refused>,
}

/// Messages whose tries fail before they reach the handler.
#[derive(Clone, Debug, Deserialize)]
pub struct Refused {
    /// How many.
    pub messages: i64,
    /// Why, of one of them.
    pub why: String,
}

/// A cron entry that is due and cannot fire.
#[derive(Clone, Debug, Deserialize)]
pub struct FailingCron {
    /// Its name.
    pub name: String,
    /// Where it enqueues.
    pub queue: String,
    /// Why it cannot.
    pub error: String,
}

/// Whole tables that somebody has locked, so that nobody else reads or writes them.
#[derive(Clone, Debug, Deserialize)]
pub struct HeldTables {
    /// Their names, with the schema.
    pub tables: Vec<String>,
    /// Who holds them.
    #[serde(flatten)]
    pub by: Holder,
}

/// An open lease.
#[derive(Clone, Debug, Deserialize)]
pub struct OpenLease {
    /// Its number.
    pub lease: i64,
    /// Who holds it.
    pub session: i32,
    /// Since it was leased, in milliseconds.
    pub age_ms: i64,
}
