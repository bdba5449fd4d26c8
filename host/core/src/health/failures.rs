//! What fails of one handler, by kind of error: the log names each kind once and then counts, and
//! the database hears how much fails. Pure: the time is passed in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::id::MessageId;
use crate::policy::outcome::DeadReason;

/// Between two lines of the log about failures of one kind.
pub const AGAIN_AFTER: Duration = Duration::from_mins(1);
/// Between two reports to the database.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// How many reports' time a report looks back over.
const REPORTS_SUMMED: usize = 30;
/// Kinds that are told apart. What is of a further kind counts with the others.
const KINDS_MAX: usize = 32;
/// Characters of a kind's name.
const KIND_CHARS_MAX: usize = 200;
/// The kind of all that is of one too many.
const OTHERS: &str = "errors of other kinds";
/// A run of letters and digits as long as this is an id.
const ID_CHARS: usize = 8;

/// The lengths of a UUID's groups.
const UUID_GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

/// What an error has in common with others of its kind: without numbers, ids, quoted words and
/// addresses. `host.error_kind` is the same in SQL.
#[must_use]
pub fn error_kind(error: &str) -> String {
    let quoted = without_quoted(error);
    let words: Vec<&str> = quoted.split(' ').map(without_address).collect();
    let text = without_numbers(&without_uuids(&words.join(" ")));
    text.chars().take(KIND_CHARS_MAX).collect()
}

fn without_quoted(text: &str) -> String {
    let mut parts = text.split('"');
    let mut out = parts.next().unwrap_or_default().to_owned();
    let mut rest: VecDeque<&str> = parts.collect();
    while let Some(inner) = rest.pop_front() {
        if let Some(after) = rest.pop_front() {
            out.push_str("\"…\"");
            out.push_str(after);
        } else {
            out.push('"');
            out.push_str(inner);
        }
    }
    out
}

fn without_address(word: &str) -> &str {
    let mut inner = word.chars();
    inner.next();
    inner.next_back();
    if inner.as_str().contains('@') { "#" } else { word }
}

fn without_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let run = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        if run > 0 {
            without_id(&rest[..run], &mut out);
            rest = &rest[run..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

fn without_uuids(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let uuid = uuid_at(rest);
        out.push(if uuid.is_some() { '#' } else { first });
        rest = &rest[uuid.unwrap_or(first.len_utf8())..];
    }
    out
}

/// Of a run of letters and digits: nothing of an id, else all but the digits.
fn without_id(run: &str, out: &mut String) {
    let has = |what: fn(&u8) -> bool| run.as_bytes().iter().any(what);
    if run.len() >= ID_CHARS && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic) {
        out.push('#');
        return;
    }
    let mut in_number = false;
    for c in run.chars() {
        if !c.is_ascii_digit() {
            out.push(c);
        } else if !in_number {
            out.push('#');
        }
        in_number = c.is_ascii_digit();
    }
}

/// How many bytes of a UUID the text begins with.
fn uuid_at(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    for (group, length) in UUID_GROUPS.into_iter().enumerate() {
        if group > 0 {
            (bytes.get(at) == Some(&b'-')).then_some(())?;
            at += 1;
        }
        bytes.get(at..at + length)?.iter().all(u8::is_ascii_hexdigit).then_some(())?;
        at += length;
    }
    Some(at)
}

/// How a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The message is tried again.
    Retried,
    /// The message is a dead letter.
    Dead(DeadReason),
}

/// A message that failed.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a> {
    /// The version that ran it; 0: none did.
    pub version: i32,
    /// What becomes of it.
    pub end: End,
    /// Which; `None`: it was not read.
    pub message: Option<MessageId>,
    /// What it failed with.
    pub error: &'a str,
}

/// What the log is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The version that ran it.
    pub version: i32,
    /// What became of the message, or messages.
    pub end: End,
    /// The first of them that is known.
    pub message: Option<MessageId>,
    /// How many.
    pub count: u64,
    /// Whether it is the first of its kind, named at once.
    pub is_first: bool,
    /// What the first of them failed with.
    pub error: String,
}

/// How much of a handler failed lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The version that last failed.
    pub version: i32,
    /// Messages that ran in the last 5 minutes.
    pub calls: u64,
    /// Of these: failed.
    pub failed: u64,
    /// Of these: dead letters.
    pub dead: u64,
    /// The commonest error; of several as common ones, the one that came first.
    pub error: String,
}

#[derive(Debug)]
struct Kind {
    name: String,
    version: i32,
    end: End,
    /// When the log named it last.
    named: Instant,
    /// What has come since then.
    since: Option<Line>,
    /// All that came.
    count: u64,
    example: String,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    calls: u64,
    failed: u64,
    dead: u64,
}

/// What fails of one handler on one host.
#[derive(Debug)]
pub struct Failures {
    kinds: Vec<Kind>,
    now: Counts,
    /// Earlier counts, one for each time between two reports, the newest last.
    before: VecDeque<Counts>,
    counted: Instant,
    version: i32,
    /// The commonest error of the last report.
    error: String,
}

impl Failures {
    /// Of a handler that has just begun.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let (kinds, before) = (Vec::new(), VecDeque::new());
        let (counts, error) = (Counts::default(), String::new());
        Self { kinds, now: counts, before, counted: now, version: 0, error }
    }

    /// Notes messages that have run, those that failed included.
    pub const fn ran(&mut self, messages: u64) {
        self.now.calls += messages;
    }

    /// Notes a message that failed. The line to log, if it is the first of its kind for a while.
    pub fn note(&mut self, failed: Failed<'_>, now: Instant) -> Option<Line> {
        let Failed { version, end, message, error } = failed;
        // What expires was not run.
        self.now.failed += u64::from(end != End::Dead(DeadReason::Expired));
        self.now.dead += u64::from(end != End::Retried);
        self.version = version;
        let mut name = error_kind(error);
        let is_same = |k: &Kind, name: &str| k.version == version && k.end == end && k.name == name;
        let mut found = self.kinds.iter().position(|kind| is_same(kind, &name));
        if found.is_none() && self.kinds.len() >= KINDS_MAX {
            OTHERS.clone_into(&mut name);
            found = self.kinds.iter().position(|kind| is_same(kind, OTHERS));
        }
        let line = |count, is_first| {
            let error = error.to_owned();
            Line { version, end, message, count, is_first, error }
        };
        if let Some(at) = found {
            let kind = &mut self.kinds[at];
            kind.count += 1;
            let since = kind.since.get_or_insert_with(|| line(0, false));
            since.count += 1;
            return None;
        }
        let example = error.to_owned();
        self.kinds.push(Kind { name, version, end, named: now, since: None, count: 1, example });
        Some(line(1, true))
    }

    /// The lines that are due: of each kind that the log named a while ago, how many came since.
    /// Kinds of which none came are forgotten.
    pub fn due(&mut self, now: Instant) -> Vec<Line> {
        let mut lines = Vec::new();
        self.kinds.retain_mut(|kind| {
            if now.saturating_duration_since(kind.named) < AGAIN_AFTER {
                return true;
            }
            kind.named = now;
            let came = kind.since.take();
            let stays = came.is_some();
            lines.extend(came);
            stays
        });
        lines
    }

    /// What to tell the database, if it is time: at once when something fails after 5 minutes in
    /// which nothing did, then now and then while messages run.
    pub fn report(&mut self, now: Instant) -> Option<Report> {
        let begins = self.now.failed > 0 && self.before.iter().all(|c| c.failed == 0);
        if !begins && now.saturating_duration_since(self.counted) < REPORT_EVERY {
            return None;
        }
        self.counted = now;
        let Counts { calls, .. } = self.now;
        self.before.push_back(std::mem::take(&mut self.now));
        if self.before.len() > REPORTS_SUMMED {
            self.before.pop_front();
        }
        if let Some(commonest) = self.kinds.iter().rev().max_by_key(|kind| kind.count) {
            self.error.clone_from(&commonest.example);
        }
        let sum = |of: fn(&Counts) -> u64| self.before.iter().map(of).sum();
        let (version, failed) = (self.version, sum(|c| c.failed));
        (calls > 0 && failed > 0).then(|| Report {
            version,
            calls: sum(|c| c.calls),
            failed,
            dead: sum(|c| c.dead),
            error: self.error.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(id: i64, error: &str) -> Failed<'_> {
        Failed { version: 3, end: End::Retried, message: Some(MessageId::new(id)), error }
    }

    #[test]
    fn a_kind_has_no_numbers_ids_addresses_and_quoted_words() {
        for (error, kind) in [
            ("HTTP 503 after 12.5 s", "HTTP # after #.# s"),
            ("order17 is gone", "order# is gone"),
            ("no order 550e8400-e29b-41d4-a716-446655440000!", "no order #!"),
            ("charge ch_3MqLiJLkdIwHu7ix0 declined", "charge ch_# declined"),
            ("not an e-mail address: \"nobody\"", "not an e-mail address: \"…\""),
            ("mailbox bob@example.com is full", "mailbox # is full"),
            ("a \" alone and @ too", "a \" alone and @ too"),
            ("Überlänge 5", "Überlänge #"),
            ("", ""),
        ] {
            assert_eq!(error_kind(error), kind, "{error}");
        }
        assert_eq!(error_kind(&"é".repeat(900)).chars().count(), KIND_CHARS_MAX);
    }

    #[test]
    fn a_kind_is_named_at_once_and_then_counted() {
        let t = Instant::now();
        let mut failures = Failures::new(t);
        let first = failures.note(failed(1, "HTTP 503"), t).unwrap();
        assert_eq!((first.count, &*first.error), (1, "HTTP 503"));
        for id in 2..50 {
            assert_eq!(failures.note(failed(id, &format!("HTTP {id}")), t), None);
        }
        assert!(failures.note(failed(50, "no such user"), t).is_some(), "another kind");
        let dead = Failed { end: End::Dead(DeadReason::Attempts), ..failed(51, "HTTP 503") };
        assert!(failures.note(dead, t).is_some(), "another end");
        let newer = Failed { version: 4, ..failed(52, "HTTP 503") };
        assert!(failures.note(newer, t).is_some(), "another version");
        assert_eq!(failures.due(t + AGAIN_AFTER / 2), []);
        let due = failures.due(t + AGAIN_AFTER);
        let [line] = due.as_slice() else { panic!("{due:?}") };
        assert_eq!((line.count, line.message), (48, Some(MessageId::new(2))));
        assert_eq!(failures.due(t + AGAIN_AFTER * 2), []);
        assert!(failures.note(failed(53, "HTTP 1"), t).is_some(), "it was calm for a while");
    }

    #[test]
    fn kinds_without_end_are_counted_together() {
        let t = Instant::now();
        let mut failures = Failures::new(t);
        let error = |n: u32| "x".repeat(n as usize + 1);
        let named = (0..100).filter(|n| failures.note(failed(1, &error(*n)), t).is_some()).count();
        assert_eq!((named, failures.kinds.len()), (KINDS_MAX + 1, KINDS_MAX + 1));
        assert_eq!(failures.due(t + AGAIN_AFTER)[0].count, 100 - KINDS_MAX as u64 - 1);
    }

    #[test]
    fn a_report_sums_the_last_minutes_and_names_the_commonest_error() {
        let t = Instant::now();
        let mut failures = Failures::new(t);
        assert_eq!(failures.report(t), None);
        failures.ran(10);
        failures.note(failed(1, "rare"), t);
        for id in 2..5 {
            failures.note(failed(id, &format!("HTTP {id}")), t);
        }
        let report = failures.report(t).unwrap();
        assert_eq!((report.calls, report.failed, report.dead), (10, 4, 0));
        assert_eq!(report.error, "HTTP 2");
        failures.ran(6);
        assert_eq!(failures.report(t + REPORT_EVERY / 2), None, "too soon");
        let later = t + REPORT_EVERY * 2;
        failures.note(Failed { end: End::Dead(DeadReason::Rejected), ..failed(9, "no") }, later);
        failures.note(Failed { end: End::Dead(DeadReason::Expired), ..failed(9, "late") }, later);
        let report = failures.report(later + REPORT_EVERY).unwrap();
        assert_eq!((report.calls, report.failed, report.dead), (16, 5, 2));
        let mut at = later;
        for _ in 0..REPORTS_SUMMED {
            at += REPORT_EVERY;
            failures.report(at);
        }
        failures.ran(1);
        failures.note(failed(9, "no"), at);
        let report = failures.report(at + REPORT_EVERY).unwrap();
        assert_eq!((report.calls, report.failed), (1, 1), "what is old does not count");
    }
}
