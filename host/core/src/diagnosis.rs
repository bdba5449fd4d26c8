//! What is wrong, or will be, with a database and its hosts: a pure function of what was seen.
//! Never looks for itself, and never mends anything.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

pub use self::facts::Facts;
use self::facts::{
    Failing, FreshDead, HeldLock, HeldTables, Holder, LockTable, Queue, Refused, SessionFacts,
};
use crate::clock::millis;
use crate::health::liveness::TTL;

pub mod facts;
mod remedy;
pub mod shape;

/// A clock that is further from the server's than this is worth a word.
const SKEW_MAX: Duration = Duration::from_secs(2);
/// Of the server's connections, as many in a hundred may be taken before that is worth a word.
const CONNECTIONS_PERCENT_MAX: i64 = 80;
/// What others than a dump hold at the same time, of a dump's locks in a hundred.
const LOCKS_SPARE_PERCENT: i64 = 10;
/// So many dead rows in `pg_class` double the age at which a generation ends.
const DEAD_CATALOG_ROWS_MAX: i64 = 1_000;

/// Fewer messages than these are no pattern.
const FAILED_MIN: i64 = 3;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Meant so, perhaps.
    Note,
    /// It works, but worse than it could, or not for long.
    Warning,
    /// Something stands still, or may be lost.
    Error,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the fields have the meaning of their names and of the finding's text"
)]
pub enum Finding {
    /// The schema is not this release's, or is missing.
    Schema { state: String },
    /// The database came from another cluster.
    Restored,
    /// There is a pooler in between that gives a connection to a transaction, not to a session.
    Pooled,
    /// This machine's clock and the server's differ; positive: the server is ahead.
    ClockSkew { ahead_ms: i64 },
    /// The database's clock was set back, and what goes by it is not there again.
    ClockSetBack { by_ms: i64 },
    /// Messages that no lease has covered: something hid them.
    Missed { queue: String, messages: i64 },
    /// Row-level security is on for tables of a queue.
    RowSecurity { queue: String, tables: Vec<String> },
    /// Group roles are missing.
    MissingRoles { roles: Vec<String> },
    /// The group roles lack something.
    MissingPrivileges { statements: Vec<String> },
    /// Everybody may do what nobody was to, or will be able to with what is made next.
    OpenPrivileges { statements: Vec<String>, defaults: Vec<String> },
    /// A role may change more of what is host's than it was to.
    ExcessPrivileges { role: String, rights: Vec<String>, statements: Vec<String> },
    /// This role is not shown what others do.
    CannotSee,
    /// A setting hurts.
    Setting { name: String, value: String, role: Option<String> },
    /// The server is nearly full.
    Connections { used: i64, max: i64 },
    /// Hosts of another release than this one.
    HostVersion { host: String, version: String },
    /// Nobody works, and there is work.
    NoHost { queues: Vec<String> },
    /// A host that shows no sign of life, and has not been found dead by another.
    SilentHost { session: i32, host: String, connected: bool, beat_age_ms: Option<i64> },
    /// A host that beats, and of which a loop is overdue.
    StandingHost { host: String, late: String },
    /// Somebody holds the locks of sessions to come, so that hosts cannot begin.
    HeldSessions { first: i64, sessions: i64, by: Holder },
    /// A handler that a host cannot run.
    HandlerFailed { queue: String, handler: String, version: i32, error: String },
    /// Messages without a handler.
    NoHandler { queue: String, waiting: i64 },
    /// A queue is paused.
    Paused { queue: String },
    /// A handler is paused.
    PausedHandler { queue: String, handler: String },
    /// A cron entry is due and cannot fire.
    CronFails { cron: String, queue: String, error: String },
    /// Messages whose tries fail before they reach the handler.
    Refused { queue: String, handler: String, messages: i64, why: String },
    /// Partitions of the heartbeat are detached: no host can say that it lives.
    NoHeartbeat { attach: Vec<String> },
    /// Whole tables are locked.
    HeldTables { tables: Vec<String>, by: Holder },
    /// A handler is behind.
    Lagging { queue: String, handler: String, waiting: i64, oldest_age_ms: i64 },
    /// A lease that keeps a leaf from being truncated.
    OpenLease { queue: String, lease: String, session: i32, age_ms: i64 },
    /// A transaction that keeps leaves from being truncated, messages from being leased or
    /// promoted.
    Locked { queue: String, lock: String, by: Holder },
    /// The server has no room for the locks of a dump.
    FewLocks { room: i64, dump: i64, per_transaction: i64, wanted: i64 },
    /// `pg_class` fills up, and generations become longer for it.
    SlowRotation { dead_catalog_rows: i64, oldest_snapshot: Option<Holder> },
    /// A trigger whose function may not find what it names, where hosts insert.
    Trigger { queue: String, trigger: String, function: String },
    /// Autovacuum works where there is nothing to vacuum, and is in the way of TRUNCATE.
    Autovacuum { queue: String, tables: Vec<String> },
    /// Most messages of a handler fail.
    MostlyFails(Failing),
    /// Messages became dead letters in the last hour.
    FreshDead(FreshDead),
    /// A queue lacks what a new one has.
    Damaged { queue: String, missing: Vec<String> },
    /// A queue has what no new one has.
    Extended { queue: String, added: Vec<String> },
}

/// All findings, the worst first. `patience`: what has lasted as long is not passing. `release`:
/// this program's version.
#[must_use]
pub fn diagnose(facts: &Facts, patience: Duration, release: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.restored {
        findings.push(Finding::Restored);
    }
    about_the_server(facts, &mut findings);
    about_hosts(facts, patience, release, &mut findings);
    for queue in &facts.queues {
        about_queue(queue, millis(patience), &mut findings);
    }
    let mostly = |f: &&Failing| f.failed >= FAILED_MIN && f.failed * 2 > f.calls;
    findings.extend(facts.failing.iter().filter(mostly).cloned().map(Finding::MostlyFails));
    findings.extend(facts.fresh_dead.iter().cloned().map(Finding::FreshDead));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
    findings
}

/// The finding about a clock that is `ahead_ms` ahead of this machine's, if it is one. `within`:
/// how exact that is.
#[must_use]
pub fn clock_skew(ahead_ms: i64, within: Duration) -> Option<Finding> {
    let off = u128::from(ahead_ms.unsigned_abs()) > (SKEW_MAX + within).as_millis();
    off.then_some(Finding::ClockSkew { ahead_ms })
}

/// The findings about tables that somebody has locked whole. `patience` is as in [`diagnose`].
#[must_use]
pub fn held_tables(held: &[HeldTables], patience: Duration) -> Vec<Finding> {
    let lasts = |held: &&HeldTables| held.by.age_ms.is_none_or(|ms| ms >= millis(patience));
    let finding = |held: &HeldTables| {
        let (tables, by) = (held.tables.clone(), held.by.clone());
        Finding::HeldTables { tables, by }
    };
    held.iter().filter(lasts).map(finding).collect()
}

fn about_the_server(facts: &Facts, findings: &mut Vec<Finding>) {
    if !facts.missing_roles.is_empty() {
        findings.push(Finding::MissingRoles { roles: facts.missing_roles.clone() });
    }
    if !facts.missing_privileges.is_empty() {
        let statements = facts.missing_privileges.clone();
        findings.push(Finding::MissingPrivileges { statements });
    }
    if !facts.open_privileges.is_empty() || !facts.open_defaults.is_empty() {
        let (statements, defaults) = (facts.open_privileges.clone(), facts.open_defaults.clone());
        findings.push(Finding::OpenPrivileges { statements, defaults });
    }
    for excess in &facts.excess_privileges {
        let (role, rights) = (excess.role.clone(), excess.rights.clone());
        let statements = excess.statements.clone();
        findings.push(Finding::ExcessPrivileges { role, rights, statements });
    }
    if !facts.sees_others {
        findings.push(Finding::CannotSee);
    }
    for setting in &facts.settings {
        let good = match setting.name.as_str() {
            "default_transaction_read_only" => setting.value == "off",
            // fsync, full_page_writes, synchronous_commit and its degrees.
            _ => setting.value != "off",
        };
        if !good {
            let (name, value) = (setting.name.clone(), setting.value.clone());
            findings.push(Finding::Setting { name, value, role: setting.role.clone() });
        }
    }
    let clocks = facts.queues.iter().filter_map(|q| q.clock_ms).chain(facts.cron_clock_ms);
    if let Some(ms) = clocks.min().filter(|ms| *ms < -millis(SKEW_MAX)) {
        findings.push(Finding::ClockSetBack { by_ms: -ms });
    }
    let (used, max) = (facts.connections, facts.connections_max);
    if used * 100 > max * CONNECTIONS_PERCENT_MAX {
        findings.push(Finding::Connections { used, max });
    }
    let LockTable { room, dump, per_transaction } = facts.locks;
    if dump * (100 + LOCKS_SPARE_PERCENT) > room * 100 {
        let wanted = per_transaction * dump * (100 + 2 * LOCKS_SPARE_PERCENT) / (room.max(1) * 100);
        let wanted = (wanted / 64 + 1) * 64;
        findings.push(Finding::FewLocks { room, dump, per_transaction, wanted });
    }
    if facts.dead_catalog_rows > DEAD_CATALOG_ROWS_MAX {
        findings.push(Finding::SlowRotation {
            dead_catalog_rows: facts.dead_catalog_rows,
            oldest_snapshot: facts.oldest_snapshot.clone(),
        });
    }
}

fn about_hosts(facts: &Facts, patience: Duration, release: &str, findings: &mut Vec<Finding>) {
    let named = |s: &SessionFacts| format!("{}/{}", s.host_name, s.pid);
    let silent = |s: &&SessionFacts| s.beat_age_ms.is_none_or(|ms| ms > millis(TTL));
    for s in facts.sessions.iter().filter(silent) {
        findings.push(Finding::SilentHost {
            session: s.id,
            host: named(s),
            connected: s.connected,
            beat_age_ms: s.beat_age_ms,
        });
    }
    let live: Vec<_> = facts.sessions.iter().filter(|s| !silent(s)).collect();
    for s in &live {
        if let Some(late) = s.late.clone() {
            findings.push(Finding::StandingHost { host: named(s), late });
        }
    }
    for s in live.iter().filter(|s| s.host_version != release) {
        let version = s.host_version.clone();
        findings.push(Finding::HostVersion { host: named(s), version });
    }
    for held in &facts.held_sessions {
        // One that begins has it for a moment before it shows.
        if held.by.age_ms.is_none_or(|ms| ms >= millis(patience)) {
            let (first, sessions, by) = (held.first, held.sessions, held.by.clone());
            findings.push(Finding::HeldSessions { first, sessions, by });
        }
    }
    for failing in &facts.failing_cron {
        let (cron, queue) = (failing.name.clone(), failing.queue.clone());
        findings.push(Finding::CronFails { cron, queue, error: failing.error.clone() });
    }
    if !facts.detached.is_empty() {
        findings.push(Finding::NoHeartbeat { attach: facts.detached.clone() });
    }
    let works = |q: &&Queue| !q.paused && q.handlers.iter().any(|h| h.waiting > 0 && !h.paused);
    let queues: Vec<_> = facts.queues.iter().filter(works).map(|q| q.name.clone()).collect();
    if live.is_empty() && !queues.is_empty() {
        findings.push(Finding::NoHost { queues });
    }
    for deployed in &facts.handlers {
        for error in &deployed.failed_on {
            findings.push(Finding::HandlerFailed {
                queue: deployed.queue.clone(),
                handler: deployed.handler.clone(),
                version: deployed.version,
                error: error.clone(),
            });
        }
    }
}

fn about_queue(q: &Queue, patience_ms: i64, findings: &mut Vec<Finding>) {
    let queue = || q.name.clone();
    if q.unhandled > 0 {
        findings.push(Finding::NoHandler { queue: queue(), waiting: q.unhandled });
    }
    if let Some(messages) = q.missed {
        findings.push(Finding::Missed { queue: queue(), messages });
    }
    if !q.row_security.is_empty() {
        findings.push(Finding::RowSecurity { queue: queue(), tables: q.row_security.clone() });
    }
    if q.paused {
        findings.push(Finding::Paused { queue: queue() });
    }
    for lag in &q.handlers {
        if let Some(Refused { messages, why }) = lag.refused.clone() {
            let handler = lag.name.clone();
            findings.push(Finding::Refused { queue: queue(), handler, messages, why });
        }
        if lag.paused {
            findings.push(Finding::PausedHandler { queue: queue(), handler: lag.name.clone() });
        }
    }
    for lag in q.handlers.iter().filter(|lag| !q.paused && !lag.paused) {
        let Some(oldest_age_ms) = lag.oldest_age_ms.filter(|ms| *ms >= patience_ms) else {
            continue;
        };
        let (handler, waiting) = (lag.name.clone(), lag.waiting);
        findings.push(Finding::Lagging { queue: queue(), handler, waiting, oldest_age_ms });
    }
    if let Some(open) = q.open_lease.as_ref().filter(|open| open.age_ms >= patience_ms) {
        // As text: it is greater than the numbers that JSON's readers keep exactly.
        let (lease, session, age_ms) = (open.lease.to_string(), open.session, open.age_ms);
        findings.push(Finding::OpenLease { queue: queue(), lease, session, age_ms });
    }
    for HeldLock { lock, by } in &q.locks {
        if by.age_ms.is_some_and(|ms| ms >= patience_ms) {
            findings.push(Finding::Locked { queue: queue(), lock: lock.clone(), by: by.clone() });
        }
    }
    for trigger in &q.triggers {
        let (trigger, function) = (trigger.name.clone(), trigger.function.clone());
        findings.push(Finding::Trigger { queue: queue(), trigger, function });
    }
    if !q.autovacuum.is_empty() {
        findings.push(Finding::Autovacuum { queue: queue(), tables: q.autovacuum.clone() });
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.pid, &self.prepared) {
            (_, Some(name)) => write!(f, "the prepared transaction '{name}'")?,
            (Some(pid), None) => write!(f, "process {pid}")?,
            (None, None) => write!(f, "a transaction")?,
        }
        if let Some(who) = self.application.as_ref().or(self.role.as_ref()) {
            write!(f, " ({who})")?;
        }
        if let Some(ms) = self.age_ms {
            write!(f, ", begun {} ago", remedy::span(ms))?;
        }
        if let Some(query) = self.query.as_deref().filter(|query| !query.is_empty()) {
            write!(f, ": {query}")?;
        }
        Ok(())
    }
}
