//! How bad each finding is, what it means, and what to do. Text only.

use std::fmt;
use std::time::Duration;

use super::facts::{Failing, FreshDead, Holder};
use super::{Finding, Severity};
use crate::format;

/// Milliseconds for people: two units are enough.
pub(super) fn span(ms: i64) -> String {
    let seconds = Duration::from_secs(ms.max(0) as u64 / 1_000);
    let text = humantime::format_duration(seconds).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// "1 message waits", "2 messages wait".
fn wait(waiting: i64) -> String {
    let s = if waiting == 1 { "s" } else { "" };
    format!("{} wait{s}", format::plural(waiting.cast_unsigned(), "message"))
}

impl Finding {
    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::Schema { .. }
            | Self::Restored
            | Self::Pooled
            | Self::Missed { .. }
            | Self::NoHost { .. }
            | Self::StandingHost { .. }
            | Self::HeldSessions { .. }
            | Self::HeldTables { .. }
            | Self::NoHeartbeat { .. }
            | Self::CronFails { .. }
            | Self::HandlerFailed { .. }
            | Self::Damaged { .. } => Severity::Error,
            Self::Setting { name, .. } if name.starts_with("default_transaction") => {
                Severity::Error
            }
            Self::Locked { lock, .. } if stands_still(lock) => Severity::Error,
            Self::ClockSkew { .. }
            | Self::ClockSetBack { .. }
            | Self::RowSecurity { .. }
            | Self::MissingPrivileges { .. }
            | Self::OpenPrivileges { .. }
            | Self::ExcessPrivileges { .. }
            | Self::Setting { .. }
            | Self::Connections { .. }
            | Self::SilentHost { .. }
            | Self::NoHandler { .. }
            | Self::Lagging { .. }
            | Self::Refused { .. }
            | Self::OpenLease { .. }
            | Self::Locked { .. }
            | Self::FewLocks { .. }
            | Self::SlowRotation { .. }
            | Self::Trigger { .. }
            | Self::MostlyFails(_)
            | Self::FreshDead(_)
            | Self::Autovacuum { .. } => Severity::Warning,
            Self::MissingRoles { .. }
            | Self::CannotSee
            | Self::HostVersion { .. }
            | Self::Paused { .. }
            | Self::PausedHandler { .. }
            | Self::Extended { .. } => Severity::Note,
        }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Schema { .. } => "run the `host` of the right release, or let the owner run `host migrate`".into(),
            Self::Restored => "host migrate --restored, when the restore is complete".into(),
            Self::Pooled => "give hosts a URL that leads to Postgres itself, or set pool_mode = session for it".into(),
            Self::ClockSkew { .. } => "let NTP set the clocks; hosts compare none, but run_at is written by one clock and read by another".into(),
            Self::ClockSetBack { .. } => "nothing, if the clock is right now; let NTP slew it, not step it".into(),
            Self::Missed { queue, .. } => format!(
                "find what hid them (a detached partition, a damaged index), mend it, then SELECT host.{queue}__deliver_missed() as the owner"
            ),
            Self::RowSecurity { tables, .. } => {
                let alter = |t: &String| format!("ALTER TABLE {t} DISABLE ROW LEVEL SECURITY;");
                let all = tables.iter().map(alter).collect::<Vec<_>>().join(" ");
                format!("ALTER ROLE … BYPASSRLS for the role of the hosts, or {all}")
            }
            Self::MissingRoles { .. } => {
                "run host migrate, which creates them or says how".into()
            }
            Self::MissingPrivileges { .. } => "host migrate grants it".into(),
            Self::OpenPrivileges { statements, defaults } => {
                let migrate = (!statements.is_empty()).then(|| "host migrate takes it back".to_owned());
                defaults.iter().cloned().chain(migrate).collect::<Vec<_>>().join("; ")
            }
            Self::ExcessPrivileges { role, statements, .. } => {
                // What the release grants it goes with the rest.
                let again = if role.starts_with("host_") { "; host migrate" } else { "" };
                format!("unless that is meant, as the owner: {}{again}", statements.join("; "))
            }
            Self::CannotSee => "GRANT pg_monitor to it".into(),
            Self::Setting { name, role, .. } => match role {
                Some(role) if role.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') => {
                    let role = role.replace('"', "\"\"");
                    format!("ALTER ROLE \"{role}\" RESET {name}, or in this database ALTER ROLE \"{role}\" IN DATABASE … RESET {name}")
                }
                Some(role) => format!("ALTER ROLE {role} RESET {name}, or in this database ALTER ROLE {role} IN DATABASE … RESET {name}"),
                None => format!("reset {name} in postgresql.conf, or with ALTER SYSTEM, ALTER DATABASE or ALTER ROLE"),
            },
            Self::Connections { .. } => "raise max_connections, start hosts with fewer --connections, or put a pooler between producers and Postgres".into(),
            Self::HostVersion { .. } => "normal during an upgrade; afterwards restart it".into(),
            Self::NoHost { .. } => "host serve".into(),
            Self::SilentHost { session, .. } => format!(
                "any running host ends it by itself; if there is none to be, SELECT host.end_session({session}, true)"
            ),
            Self::StandingHost { .. } => "the host begins a new session within half a minute; if this finding stays, restart the host and report its log".into(),
            Self::HandlerFailed { queue, .. } => format!("deploy it again, or host rollback --queue {queue}"),
            Self::NoHandler { queue, .. } => format!("host deploy --queue {queue} FILE.wasm"),
            Self::Paused { queue } => format!("host queue resume {queue}"),
            Self::PausedHandler { queue, handler } => format!("host handlers resume {queue}/{handler}"),
            Self::CronFails { cron, .. } => format!(
                "mend what it says, and a host fires it within 10 s; or host cron pause {cron}"
            ),
            Self::Refused { queue, .. } => format!(
                "mend the trigger or constraint that it names: each try is an attempt, and the last makes a dead letter (host dead list {queue})"
            ),
            Self::NoHeartbeat { attach } => format!("as the owner: {}", attach.join("; ")),
            Self::Lagging { queue, .. } => format!(
                "more hosts, or host deploy with more --concurrency; host dead list {queue} and the hosts' logs say whether it fails"
            ),
            Self::OpenLease { .. } => "the lease ends when its messages have run; a shorter --timeout bounds that".into(),
            Self::FewLocks { wanted, .. } => format!(
                "set max_locks_per_transaction = {wanted} in postgresql.conf and restart the server; or dump table by table (pg_dump -t)"
            ),
            Self::Locked { by, .. } | Self::HeldSessions { by, .. } | Self::HeldTables { by, .. } => give_back(by),
            Self::SlowRotation { oldest_snapshot, .. } => match oldest_snapshot.as_ref().and_then(|h| h.pid) {
                Some(pid) => format!("let it commit, or SELECT pg_terminate_backend({pid})"),
                None => "VACUUM pg_class; look for replication slots that nobody reads".into(),
            },
            Self::Trigger { function, .. } => format!("ALTER FUNCTION {function} SET search_path = SCHEMA, pg_temp"),
            Self::Autovacuum { tables, .. } => {
                let alter = |t: &String| format!("ALTER TABLE host.{t} SET (autovacuum_enabled = off);");
                tables.iter().map(alter).collect::<Vec<_>>().join(" ")
            }
            Self::MostlyFails(Failing { queue, handler, .. }) => format!(
                "mend what the error names; if the newest version is at fault, host rollback --queue {queue} --name {handler}"
            ),
            Self::FreshDead(FreshDead { queue, .. }) => format!(
                "host dead list {queue}, and host dead retry {queue} when it is mended; an hour after the last one this finding ends"
            ),
            Self::Damaged { queue, missing } => super::shape::remedy(queue, missing),
            Self::Extended { .. } => "normal if you made it; hosts insert, too: it must allow retries, scheduled and dead messages".into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schema { state } => f.write_str(state),
            Self::Restored => f.write_str(
                "this database was restored from a dump, copied or upgraded: hosts refuse to serve it",
            ),
            Self::Pooled => f.write_str(
                "there is a pooler in transaction mode between here and Postgres: a host cannot keep its session through it",
            ),
            Self::ClockSkew { ahead_ms } => {
                let way = if *ahead_ms > 0 { "ahead of" } else { "behind" };
                write!(f, "the server's clock is {} {way} this machine's", span(ahead_ms.abs()))
            }
            Self::ClockSetBack { by_ms } => f.write_str(&set_back(*by_ms)),
            Self::Missed { queue, messages } => f.write_str(&missed(queue, *messages)),
            Self::RowSecurity { queue, tables } => f.write_str(&row_security(queue, tables)),
            Self::MissingRoles { roles } => write!(f, "there is no role {}", roles.join(", ")),
            Self::MissingPrivileges { statements } => {
                write!(f, "the group roles lack: {}", statements.join("; "))
            }
            Self::OpenPrivileges { statements, defaults } => f.write_str(&open(statements, defaults)),
            Self::ExcessPrivileges { role, rights, .. } => f.write_str(&excess(role, rights)),
            Self::CannotSee => f.write_str(
                "this role cannot see what other roles' connections do, so a finding may not name who is in the way",
            ),
            Self::Setting { name, value, role } => {
                f.write_str(&setting(name, value, role.as_deref()))
            }
            Self::Connections { used, max } => {
                write!(f, "{used} of the server's {max} connections are taken")
            }
            Self::HostVersion { host, version } => write!(f, "host {host} runs release {version}"),
            Self::NoHost { queues } => {
                write!(f, "no host is running, and messages are waiting on {}", queues.join(", "))
            }
            Self::SilentHost { host, connected, beat_age_ms, .. } => {
                f.write_str(&silent(host, *connected, *beat_age_ms))
            }
            Self::StandingHost { host, late } => write!(f, "host {host}: {late}"),
            Self::HeldSessions { first, sessions, by } => {
                f.write_str(&held_sessions(*first, *sessions, by))
            }
            Self::MostlyFails(failing) => f.write_str(&mostly_fails(failing)),
            Self::FreshDead(dead) => f.write_str(&fresh_dead(dead)),
            Self::HandlerFailed { queue, handler, version, error } => {
                write!(f, "{queue}/{handler} v{version} cannot run on {error}")
            }
            Self::NoHandler { queue, waiting } => {
                write!(f, "queue {queue} has no handler: {}, so its partitions are not truncated", wait(*waiting))
            }
            Self::Paused { queue } => write!(f, "queue {queue} is paused"),
            Self::PausedHandler { queue, handler } => write!(f, "{queue}/{handler} is paused"),
            Self::CronFails { cron, queue, error } => {
                write!(f, "cron entry {cron} is due and cannot enqueue on {queue}: {error}")
            }
            Self::Refused { queue, handler, messages, why } => {
                let messages = format::plural(messages.cast_unsigned(), "message");
                write!(f, "{messages} of {queue}/{handler} did not reach the handler when due: {why}")
            }
            Self::NoHeartbeat { .. } => f.write_str(
                "a partition of host.heartbeat is detached: in two of three hours hosts run, in the third none can stay alive",
            ),
            Self::HeldTables { tables, by } => f.write_str(&held_tables(tables, by)),
            Self::Lagging { queue, handler, waiting, oldest_age_ms } => write!(
                f,
                "{queue}/{handler} is behind: {}, the first for {}",
                wait(*waiting),
                span(*oldest_age_ms)
            ),
            Self::OpenLease { queue, lease, session, age_ms } => write!(
                f,
                "rotation of {queue} waits for lease {lease} of session {session}, open for {}",
                span(*age_ms)
            ),
            Self::Locked { queue, lock, by } => f.write_str(&locked(queue, lock, by)),
            Self::FewLocks { room, dump, per_transaction, .. } => write!(
                f,
                "max_locks_per_transaction is {per_transaction}, so the server has room for {room} locks, and pg_dump takes {dump} of this database at once"
            ),
            Self::SlowRotation { dead_catalog_rows, oldest_snapshot } => {
                f.write_str(&slow_rotation(*dead_catalog_rows, oldest_snapshot.as_ref()))
            }
            Self::Trigger { queue, trigger, function } => write!(
                f,
                "the trigger {trigger} of queue {queue} calls {function}, which has no search_path of its own: hosts set \
                 none, so that it finds no name without a schema, and retries and delayed messages fail"
            ),
            Self::Autovacuum { queue, tables } => write!(
                f,
                "autovacuum is on for {} of {queue}'s tables, where it only gets in the way",
                tables.len()
            ),
            Self::Damaged { queue, missing } => {
                write!(f, "queue {queue} has changed; missing: {}", missing.join("; "))
            }
            Self::Extended { queue, added } => {
                write!(f, "queue {queue} has additions: {}", added.join("; "))
            }
        }
    }
}

/// What ends a lock's hold.
fn give_back(by: &Holder) -> String {
    match (&by.pid, &by.prepared) {
        (_, Some(name)) => {
            let name = name.replace('\'', "''");
            format!("COMMIT PREPARED '{name}' or ROLLBACK PREPARED '{name}'")
        }
        (Some(_), None) if by.application.as_deref() == Some("pg_dump") => {
            "it goes on when the dump is done".into()
        }
        (Some(pid), None) => format!("let it commit, or SELECT pg_terminate_backend({pid})"),
        (None, None) => "let it commit".into(),
    }
}

/// How much of a handler fails.
fn mostly_fails(failing: &Failing) -> String {
    let Failing { queue, handler, version, calls, failed, error, .. } = failing;
    let calls = format::plural(calls.cast_unsigned(), "message");
    format!(
        "handler {queue}/{handler} v{version} fails: {failed} of {calls} in the last 5 minutes, most with: {error}"
    )
}

fn fresh_dead(FreshDead { queue, letters, since, error }: &FreshDead) -> String {
    let letters = format::plural(letters.cast_unsigned(), "new dead letter");
    format!("queue {queue} has {letters} since {since}, most with: {error}")
}

/// A host that gives no sign of life.
fn silent(host: &str, connected: bool, beat_age_ms: Option<i64>) -> String {
    let connected = if connected { "is connected, but" } else { "is not connected, and" };
    match beat_age_ms {
        Some(ms) => format!("host {host} {connected} has not beaten for {}", span(ms)),
        None => format!("host {host} {connected} has no heartbeat"),
    }
}

/// Who holds a lock, and what waits for it.
fn held_tables(tables: &[String], by: &Holder) -> String {
    let tables = tables.join(", ");
    // Readers wait behind a lock that is only waited for, as well.
    format!("nobody else can read or write {tables}: an exclusive lock is held or awaited by {by}")
}

fn locked(queue: &str, lock: &str, by: &Holder) -> String {
    match lock {
        "leaf" => format!("rotation of {queue} waits for {by}"),
        "rotation" => format!("rotation and deploys of {queue} wait for their lock, held by {by}"),
        "schedule" => {
            format!("delayed messages and retries of {queue} wait for their lock, held by {by}")
        }
        "dump" => {
            format!("rotation of {queue} waits for a dump that may be about to read it: {by}")
        }
        handler => {
            format!("{handler} of {queue} gets no messages, because its lock is held by {by}")
        }
    }
}

/// Whether messages wait as long as somebody holds that lock. Without rotation there is only more
/// on disk.
fn stands_still(lock: &str) -> bool {
    !matches!(lock, "leaf" | "rotation" | "dump")
}

fn set_back(by_ms: i64) -> String {
    let by = span(by_ms);
    format!(
        "the database's clock was set back by {by} at least: cron entries may fire again, and retries wait longer"
    )
}

fn missed(queue: &str, messages: i64) -> String {
    format!(
        "{messages} messages of queue {queue} were never leased, or never came back from the schedule: \
         something hid them from the hosts; their partition is not truncated"
    )
}

fn row_security(queue: &str, tables: &[String]) -> String {
    let tables = tables.join(", ");
    format!(
        "row-level security is on for {tables} of queue {queue}: a host whose role may not bypass it cannot lease"
    )
}

fn open(statements: &[String], defaults: &[String]) -> String {
    match (statements.len(), defaults.len()) {
        (0, _) => "default privileges will open new tables or functions of host to others".into(),
        (_, 0) => format!("everybody has privileges on what is host's, such as: {}", statements[0]),
        _ => format!(
            "everybody has privileges on what is host's, and will have them on what is new, such as: {}",
            statements[0]
        ),
    }
}

/// A setting that hurts, and how.
fn setting(name: &str, value: &str, role: Option<&str>) -> String {
    let on_behalf = role.map(|role| format!(" for role {role}")).unwrap_or_default();
    let hurts = match name {
        "default_transaction_read_only" => "nothing can be enqueued, leased or settled",
        _ => "a crash of the server can lose committed messages",
    };
    format!("{name} is {value}{on_behalf}: {hurts}")
}

fn excess(role: &str, rights: &[String]) -> String {
    let rights = rights.join("; ");
    format!(
        "the role {role} may change what is host's beyond what it needs to enqueue, operate or serve: {rights}"
    )
}

fn held_sessions(first: i64, sessions: i64, by: &Holder) -> String {
    let sessions = format::plural(sessions.cast_unsigned(), "session");
    format!(
        "no host that gets one of these numbers can begin: {sessions} from {first} on, whose locks are held by {by}"
    )
}

fn slow_rotation(dead_catalog_rows: i64, oldest_snapshot: Option<&Holder>) -> String {
    let oldest = oldest_snapshot.map(|holder| format!("; the oldest snapshot is that of {holder}"));
    let oldest = oldest.unwrap_or_default();
    format!("pg_class has {dead_catalog_rows} dead rows, which delays rotation{oldest}")
}
