//! The exit codes of all commands, as `host --help` shows them.

/// For `host --help`.
pub(crate) const TABLE: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage: an unknown flag, queue, handler, version or key
  3  no connection to Postgres
  4  the database's schema and this host do not fit together
  5  `host doctor` found something to warn of
  6  `host doctor` found something that stands still or may be lost";

/// Failed for a reason that has no code of its own.
pub(crate) const FAILED: u8 = 1;
/// The command line asks for something that does not exist.
pub(crate) const USAGE: u8 = 2;
/// No connection to Postgres.
pub(crate) const NO_CONNECTION: u8 = 3;
/// The schema is older or newer than this host.
pub(crate) const SCHEMA: u8 = 4;
/// `host doctor` found something to warn of.
pub(crate) const DOCTOR_WARNING: u8 = 5;
/// `host doctor` found something that stands still or may be lost.
pub(crate) const DOCTOR_ERROR: u8 = 6;
