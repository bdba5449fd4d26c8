//! How commands write numbers, times and tables for people. Never decides what to show.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use bytesize::ByteSize;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::visible::visible;
pub(crate) use crate::visible::{indented, one_line};
pub(crate) use host_core::format::time;
use host_queue::inspect::COUNT_MAX;

/// Columns of a table where there is no terminal.
const WIDTH: u16 = 100;
/// A terminal that says that it has fewer columns does not mean it.
const WIDTH_MIN: u16 = 40;

/// Writes to standard output, and nothing that a terminal would obey. If nobody reads that any
/// more, what the command does goes on without words.
///
/// # Panics
/// If it cannot be written to, as on a full disk.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    match io::stdout().write_all(visible(&text.to_string()).as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.expect("standard output can be written to"),
    }
}

/// The same for standard error; nobody is left to tell when that cannot be written to.
pub(crate) fn print_error(text: fmt::Arguments<'_>) {
    let _ = io::stderr().write_all(visible(&text.to_string()).as_bytes());
}

/// The columns that a table has: as many as COLUMNS says, else as the terminal has.
fn width() -> u16 {
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let terminal = || {
        let out = io::stdout();
        let size = out.is_terminal().then(|| terminal_size::terminal_size_of(&out))??;
        Some(size.0.0)
    };
    said.or_else(terminal).filter(|width| *width >= WIDTH_MIN).unwrap_or(WIDTH)
}

/// A column of a table: its title, and where its cells stand.
#[derive(Clone, Copy)]
pub(crate) enum Column<'a> {
    /// For words.
    Left(&'a str),
    /// For numbers.
    Right(&'a str),
}

/// A table without lines, as `ps` and `docker` write theirs.
pub(crate) fn table(columns: &[Column<'_>], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width())
        .set_header(columns.iter().map(|column| match column {
            Column::Left(title) | Column::Right(title) => *title,
        }))
        .add_rows(rows.into_iter().map(|row| row.into_iter().map(|cell| one_line(&cell))));
    for (column, made) in columns.iter().zip(table.column_iter_mut()) {
        // Two spaces between columns, none before the first.
        made.set_padding((0, 2));
        if let Column::Right(_) = column {
            made.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// A size.
pub(crate) fn bytes(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

/// A time span, no more exact than people want.
pub(crate) fn duration(duration: Duration) -> String {
    let whole = if duration < Duration::from_secs(10) {
        Duration::from_millis(duration.as_millis() as u64)
    } else {
        Duration::from_secs(duration.as_secs())
    };
    humantime::format_duration(whole).to_string()
}

/// A count that may have stopped at [`COUNT_MAX`].
pub(crate) fn count(count: u64) -> String {
    if count >= COUNT_MAX { format!("{COUNT_MAX}+") } else { count.to_string() }
}

/// One line, cut where it gets too long.
pub(crate) fn line(text: &str, chars_max: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= chars_max {
        return text;
    }
    text.chars().take(chars_max - 1).chain(['…']).collect()
}

/// Bytes as text if they are some, else as `\x` and hexadecimal digits, as Postgres writes them. No
/// text begins so.
pub(crate) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with("\\x") => text.to_owned(),
        _ => format!("\\x{}", hex::encode(bytes)),
    }
}

/// "1 message", "2 messages".
pub(crate) fn plural(count: usize, noun: &str) -> String {
    host_core::format::plural(count as u64, noun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_and_has_no_trailing_blanks() {
        let rows = vec![
            vec!["emails".into(), "7".into(), "x ".repeat(100)],
            vec!["a".into(), "1000000".into(), String::new()],
        ];
        let columns = [Column::Left("QUEUE"), Column::Right("WAITING"), Column::Left("WHY")];
        let text = table(&columns, rows);
        assert!(text.starts_with("QUEUE   WAITING  WHY\nemails        7  x x"), "{text}");
        assert!(text.lines().all(|l| l.len() <= 100 && l.trim_end() == l), "{text}");
    }

    #[test]
    fn people_see_no_more_than_they_want() {
        assert_eq!(duration(Duration::from_micros(1_234_567)), "1s 234ms");
        assert_eq!(duration(Duration::from_millis(61_234)), "1m 1s");
        assert_eq!(count(COUNT_MAX), "1000000+");
        assert_eq!(line("a\n b", 10), "a b");
        assert_eq!(line("abcdef", 4), "abc…");
        assert_eq!(text("é".as_bytes()), "é");
        assert_eq!((text(b"\\x00"), text(&[0xff])), ("\\x5c783030".into(), "\\xff".into()));
    }
}
