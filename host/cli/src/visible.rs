//! Text from outside on its way to a terminal: payloads, keys, reasons, results, log lines. What a
//! terminal would obey, or what would show text in another order, is written as in JSON, `\u001b`.
//! So JSON stays the same JSON.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use tracing_subscriber::fmt::MakeWriter;

const ESCAPE: char = '\u{1b}';

/// Whether a character does something instead of being something: it moves the cursor, changes
/// colours or the direction of text, or cannot be seen. Line breaks and tabs are left.
fn acts(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{61c}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    }
}

/// Text of any number of lines.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    escape(text, acts)
}

/// Text on one line.
pub(crate) fn one_line(text: &str) -> String {
    visible(text).replace(['\n', '\t'], " ")
}

/// Text whose further lines begin at a column, so that none passes for a line of ours.
pub(crate) fn indented(text: &str, column: usize) -> String {
    visible(text).replace('\n', &format!("\n{:column$}", ""))
}

fn escape(text: &str, acts: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if acts(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Writes the log to standard error, a whole event at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log {
    /// Whether the log's own colours are in it; those of others it has already escaped.
    pub has_colours: bool,
}

impl Log {
    fn shown(self, event: &str) -> Cow<'_, str> {
        escape(event, |c| acts(c) && !(c == ESCAPE && self.has_colours))
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl io::Write for Log {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(self.shown(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_written_out() {
        assert_eq!(
            visible("\u{1b}[31m\0é\n\t\u{202e}👩\u{200d}🔬"),
            "\\u001b[31m\\u0000é\n\t\\u202e👩\u{200d}🔬"
        );
        assert_eq!(
            visible("\r\u{7f}\u{9b}\u{2028}\u{e0041}"),
            "\\u000d\\u007f\\u009b\\u2028\\udb40\\udc41"
        );
        assert_eq!(one_line("a\nb\u{85}"), "a b\\u0085");
        assert_eq!(indented("a\nError b", 4), "a\n    Error b");
    }

    #[test]
    fn the_log_keeps_its_own_colours_only() {
        let event = "\u{1b}[32m INFO\u{1b}[0m a\u{2028}b\u{202e}\n";
        let coloured = "\u{1b}[32m INFO\u{1b}[0m a\\u2028b\\u202e\n";
        assert_eq!(Log { has_colours: true }.shown(event), coloured);
        assert!(!Log { has_colours: false }.shown(event).contains('\u{1b}'));
    }

    #[test]
    fn json_stays_the_same() {
        let value = serde_json::json!("\\\u{202e}\u{9b}\u{e0041}\u{7f}");
        let shown = visible(&value.to_string()).into_owned();
        assert!(shown.is_ascii(), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
