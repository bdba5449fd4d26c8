//! What can go wrong with Postgres, cut by what the caller can do about it. Never does I/O.

use std::error::Error as _;

use rustls::CertificateError;
use tokio_postgres::error::{DbError, SqlState};

use host_core::deployment::secret::{Secret, hide};

/// The SQLSTATE that our SQL raises when a session has ended, and with it all its leases.
pub const SQLSTATE_SESSION_ENDED: &str = "HQ001";
/// The SQLSTATE that our SQL raises when a lease is no longer the caller's.
pub const SQLSTATE_LEASE_LOST: &str = "HQ002";
/// The SQLSTATE that our SQL raises when messages cannot be read or written, and none may be lost
/// for it.
pub const SQLSTATE_HIDDEN: &str = "HQ012";

/// The SQLSTATE, raised here and not by our SQL, of a schema that is somebody else's.
pub const SQLSTATE_NOT_OURS: &str = "HQ010";
/// The SQLSTATE, raised here, of a pooler that gives a session's connection to others.
pub const SQLSTATE_POOLED: &str = "HQ011";

/// The SQLSTATE of what is wrong with the URL, or with the server that it names.
pub const SQLSTATE_CANNOT_CONNECT: &str = "08001";

/// The function of Postgres that finds a cached plan of no use: a queue was dropped and made again
/// with another type. A new connection has no old plans. Its SQLSTATE, 0A000, stands for much else,
/// and its message is in the server's language.
const STALE_PLAN: &str = "RevalidateCachedQuery";

/// What to do when a role may not; Postgres names the object, not the way.
const HINT_PRIVILEGE: &str = "grant its role host_operator for commands, host_serve for `host serve`; \
     `host migrate` is for the owner of the schema";

/// What to do where statements that were prepared are others', or gone: each statement may have
/// gone to another server process.
const HINT_POOLER: &str = "the database URL seems to lead to a pooler in transaction mode: use the server's own address, or a pooler in session mode";
/// What to do when row-level security would show a role only some of the rows.
const HINT_ROW_SECURITY: &str =
    "ALTER ROLE … BYPASSRLS for this role, or disable row-level security on the table";
/// What to do where a row has no partition to go to: each table of ours has one for every row.
const HINT_DETACHED: &str = "a partition is detached; `host doctor` says how to attach it again";
/// Where Postgres refuses what row-level security would hide; it has no SQLSTATE of its own.
const ROUTINE_ROW_SECURITY: &str = "check_enable_rls";

/// Why something asked of Postgres was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// No server, or one that takes no connections now: starting, stopping, full. Connect again
    /// later; what was asked may or may not have been done.
    #[error("cannot reach Postgres: {0}")]
    Unavailable(String),
    /// A server that answers and cannot do this now: a standby, or one that lacks memory or disk.
    /// The text says which. Connect again later; what was asked may or may not have been done.
    #[error("{0}")]
    Unready(String),
    /// Another transaction was in the way, or it took too long; the text says which. Nothing was
    /// done: ask again.
    #[error("{0}")]
    Busy(String),
    /// The lease has ended, or belongs to another session: drop what was made of it.
    #[error("lease lost: {0}")]
    LeaseLost(String),
    /// Something hides messages, or keeps them from where they have to go; the text says what mends
    /// it. Nothing was done: ask again when somebody may have mended it.
    #[error("{0}")]
    Hidden(String),
    /// The queue was dropped, or the handler removed: the catalog says so.
    #[error("the queue was dropped, or its handler removed")]
    Gone,
    /// Postgres or our SQL said no, and would say so again.
    #[error("{}", with_hint(message, hint.as_deref()))]
    Refused {
        /// The five characters of Postgres's error code.
        sqlstate: String,
        /// What was wrong.
        message: String,
        /// What to do, where Postgres knows.
        hint: Option<String>,
    },
    /// The server answered something that this version does not understand.
    #[error("unexpected answer from Postgres: {0}")]
    Unexpected(String),
}

impl QueueError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unready(_) | Self::Busy(_))
    }

    /// Whether the server or the way to it is the cause, so that another connection may do.
    #[must_use]
    pub const fn is_of_server(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unready(_))
    }

    /// Whether something was not there. It may be a function or table of a queue that was dropped,
    /// or one that a trigger of somebody's looks for: ask the catalog.
    #[must_use]
    pub(super) fn may_be_gone(&self) -> bool {
        matches!(self, Self::Refused { sqlstate, .. } if matches!(sqlstate.as_str(), "42883" | "42P01" | "HQ004"))
    }

    /// Its kind, for telling one incident from another: which variant, or the SQLSTATE.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Unready(_) => "unready",
            Self::Busy(_) => "busy",
            Self::LeaseLost(_) => "lost",
            Self::Hidden(_) => "hidden",
            Self::Gone => "gone",
            Self::Refused { sqlstate, .. } => sqlstate,
            Self::Unexpected(_) => "unexpected",
        }
    }

    /// Whether our SQL refused with that SQLSTATE.
    #[must_use]
    pub fn is_refused_with(&self, code: &str) -> bool {
        matches!(self, Self::Refused { sqlstate, .. } if sqlstate == code)
    }
}

impl From<tokio_postgres::Error> for QueueError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            let of_settlements = db.table().is_some_and(|table| table.contains("__settlement_"));
            if *db.code() == SqlState::UNIQUE_VIOLATION && of_settlements {
                // A try of the same settlement, or a take-over, at the same time: asked again, the
                // function says which.
                return Self::Busy(in_the_way(db.message()));
            }
            if db.routine() == Some(STALE_PLAN) {
                return Self::Unavailable(db.message().to_owned());
            }
            if lacks_partition(db) {
                let text = with_hint(db.message(), Some(HINT_DETACHED));
                // On the queue of a follow-up, it is that follow-up's: this queue goes on.
                return if db.schema() == Some("host") {
                    Self::Hidden(text)
                } else {
                    from_sqlstate(db.code(), db.message(), None, Some(HINT_DETACHED))
                };
            }
            let mut refused = from_sqlstate(db.code(), db.message(), db.detail(), db.hint());
            if let Self::Refused { hint, .. } = &mut refused
                && db.routine() == Some(ROUTINE_ROW_SECURITY)
            {
                *hint = Some(HINT_ROW_SECURITY.to_owned());
            }
            return refused;
        }
        if let Some(refused) = tls_refused(&error) {
            return refused;
        }
        if error.source().is_some_and(|cause| cause.to_string() == "password missing") {
            return Self::Refused {
                sqlstate: SQLSTATE_CANNOT_CONNECT.to_owned(),
                message: "the server asks for a password, and none was given".to_owned(),
                hint: Some("put it in the database URL, PGPASSWORD or ~/.pgpass".to_owned()),
            };
        }
        let text = with_causes(&error);
        // The crate does not say which of its errors came from the socket; these are the ones that
        // did not.
        let ours = ["serializing", "deserializing", "invalid", "unexpected", "query returned"];
        let kind = error.to_string();
        if ours.iter().any(|word| kind.contains(word)) || kind.starts_with("expected") {
            Self::Unexpected(text)
        } else {
            Self::Unavailable(text)
        }
    }
}

/// Whether a row of ours has no partition to go to. Postgres has no SQLSTATE for that: it says that
/// a check fails, and names no constraint.
fn lacks_partition(db: &DbError) -> bool {
    *db.code() == SqlState::CHECK_VIOLATION
        && db.constraint().is_none()
        && matches!(db.schema(), Some("host" | "queue"))
}

/// The error of a statement that said something of a guest's, who was given these secrets: without
/// them. Postgres quotes values in the detail, and cuts them short, so that what is left of a
/// secret would not be known for one.
pub(super) fn without(secrets: &[Secret], error: tokio_postgres::Error) -> QueueError {
    let hidden = |text: &str| hide(text, secrets).into_owned();
    let refusal = error.as_db_error().filter(|_| !secrets.is_empty()).map(|db| {
        from_sqlstate(db.code(), &hidden(db.message()), None, db.hint().map(hidden).as_deref())
    });
    match (error.into(), refusal) {
        (QueueError::Refused { .. }, Some(refusal)) => refusal,
        (QueueError::Busy(text), _) => QueueError::Busy(hidden(&text)),
        (QueueError::Unavailable(text), _) => QueueError::Unavailable(hidden(&text)),
        (error, _) => error,
    }
}

/// A server that does not speak TLS, or whose certificate will not do: no waiting mends that.
fn tls_refused(error: &tokio_postgres::Error) -> Option<QueueError> {
    let source = error.source()?;
    let refused = |message: String, hint: &str| QueueError::Refused {
        sqlstate: SQLSTATE_CANNOT_CONNECT.to_owned(),
        message,
        hint: Some(hint.to_owned()),
    };
    if source.to_string().contains("server does not support TLS") {
        let message = "the server does not speak TLS, which the URL's sslmode asks for".to_owned();
        return Some(refused(message, "set ssl = on in its postgresql.conf"));
    }
    match source.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => Some(refused(
            "the server's certificate is not signed by an authority that this machine trusts"
                .to_owned(),
            "name the file with its root certificate in the URL, as sslrootcert=FILE",
        )),
        rustls::Error::InvalidCertificate(why) => Some(refused(
            format!("the server's certificate will not do: {why}"),
            "the URL has to name the server as its certificate does, and the certificate has to be valid now",
        )),
        _ => None,
    }
}

fn from_sqlstate(
    code: &SqlState,
    message: &str,
    detail: Option<&str>,
    hint: Option<&str>,
) -> QueueError {
    let text = match detail {
        Some(detail) => format!("{message} ({})", detail.trim_end_matches('.')),
        None => message.to_owned(),
    };
    let code = code.code();
    match (code, &code[..2]) {
        (SQLSTATE_SESSION_ENDED | SQLSTATE_LEASE_LOST, _) => QueueError::LeaseLost(text),
        (SQLSTATE_HIDDEN, _) => {
            QueueError::Hidden(with_hint(&text, hint.map(|hint| hint.trim_end_matches('.'))))
        }
        // Connection lost; too many; shut down; an idle session ended by the server.
        (_, "08") | ("53300" | "57P01" | "57P02" | "57P03" | "57P05", _) => {
            QueueError::Unavailable(text)
        }
        // For its hint, which names the setting to raise.
        ("53200", _) => {
            let text = with_hint(&text, hint.map(|hint| hint.trim_end_matches('.')));
            QueueError::Unready(format!("Postgres lacks resources: {text}"))
        }
        // Out of resources; an error of its system; a standby, also after a failover.
        (_, "53") => QueueError::Unready(format!("Postgres lacks resources: {text}")),
        (_, "58") => QueueError::Unready(format!("Postgres met an error of its system: {text}")),
        ("25006", _) => QueueError::Unready(format!("the server is read-only: {text}")),
        // Serialization, deadlock, lock_timeout.
        ("40001" | "40P01" | "55P03", _) => QueueError::Busy(in_the_way(&text)),
        // By statement_timeout, or by somebody.
        ("57014", _) => QueueError::Busy(format!("Postgres stopped the statement: {text}")),
        _ => QueueError::Refused {
            sqlstate: code.to_owned(),
            message: text,
            hint: match code {
                "42501" => Some(HINT_PRIVILEGE.to_owned()),
                "42P05" | "26000" => Some(HINT_POOLER.to_owned()),
                _ => hint.map(|hint| hint.trim_end_matches('.').to_owned()),
            },
        },
    }
}

fn in_the_way(text: &str) -> String {
    format!("another transaction is in the way: {text}")
}

fn with_hint(message: &str, hint: Option<&str>) -> String {
    hint.map_or_else(|| message.to_owned(), |hint| format!("{message}: {hint}"))
}

/// An error and all its causes on one line.
fn with_causes(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: &str) -> QueueError {
        from_sqlstate(&SqlState::from_code(code), "no", Some("because."), Some("Do it."))
    }

    #[test]
    fn sqlstates_are_cut_by_what_the_caller_can_do() {
        for code in ["08006", "53300", "57P01", "57P03"] {
            assert_eq!(of(code), QueueError::Unavailable("no (because)".into()), "{code}");
        }
        for (code, lead) in [
            ("53100", "Postgres lacks resources"),
            ("58030", "Postgres met an error of its system"),
            ("25006", "the server is read-only"),
        ] {
            assert_eq!(of(code), QueueError::Unready(format!("{lead}: no (because)")), "{code}");
            assert!(of(code).is_passing() && of(code).is_of_server());
        }
        let text = "Postgres lacks resources: no (because): Do it";
        assert_eq!(of("53200"), QueueError::Unready(text.into()));
        for code in ["40001", "40P01", "55P03"] {
            let text = "another transaction is in the way: no (because)";
            assert_eq!(of(code), QueueError::Busy(text.into()), "{code}");
        }
        let text = "Postgres stopped the statement: no (because)";
        assert_eq!(of("57014"), QueueError::Busy(text.into()));
        assert!(of("42P05").to_string().contains("pooler in transaction mode"));
        assert_eq!(of(SQLSTATE_LEASE_LOST), QueueError::LeaseLost("no (because)".into()));
        assert_eq!(of(SQLSTATE_HIDDEN), QueueError::Hidden("no (because): Do it".into()));
        assert!(!of(SQLSTATE_HIDDEN).is_passing());
        assert!(of("23514").is_refused_with("23514"));
        assert!(!of("28P01").is_passing());
        assert_eq!(of("22023").to_string(), "no (because): Do it");
    }
}
