//! Numbers that several files of SQL share. SQL has their names, as in
//! `id / {generation_size} % 3`; the numbers are here alone. They are filled in before the SQL goes
//! to the database. They can never change: databases at work have them.

use host_core::message::HEADERS_BYTES_MAX;

/// How many numbers a generation has. An id divided by it is the id's generation.
pub const GENERATION_SIZE: i64 = 100_000_000_000;

/// The class of a session's advisory lock; its object is the session.
pub const SESSION_LOCK: i64 = 1_752_134_401;
/// Of a handler's cursor, which is its lease log; by handler.
pub const CURSOR_LOCK: i64 = 1_752_134_402;
/// Of the promotion of scheduled messages; by queue.
pub const PROMOTION_LOCK: i64 = 1_752_134_403;
/// Of rotation; by queue.
pub const ROTATION_LOCK: i64 = 1_752_134_404;
/// Of the count of messages before a truncation; by queue.
pub const COUNT_LOCK: i64 = 1_752_134_405;

/// All of them, by their names in SQL.
const NAMES: [(&str, i64); 7] = [
    ("{headers_bytes_max}", HEADERS_BYTES_MAX as i64),
    ("{generation_size}", GENERATION_SIZE),
    ("{session_lock}", SESSION_LOCK),
    ("{cursor_lock}", CURSOR_LOCK),
    ("{promotion_lock}", PROMOTION_LOCK),
    ("{rotation_lock}", ROTATION_LOCK),
    ("{count_lock}", COUNT_LOCK),
];

/// The text with the numbers in place of the names.
#[must_use]
pub fn fill(sql: &str) -> String {
    NAMES.iter().fold(sql.to_owned(), |sql, (name, number)| sql.replace(name, &number.to_string()))
}
