//! The results as JUnit XML, in the form that CI systems read.

use std::fmt::Write as _;
use std::path::Path;

use super::Ran;

/// The document.
pub(super) fn document(component: &Path, ran: &[Ran]) -> String {
    let failed = ran.iter().filter(|one| one.failed()).count();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\">\n",
        escape(&component.display().to_string()),
        ran.len()
    );
    for one in ran {
        let seconds = one.happened.elapsed.as_secs_f64();
        // Writing to a string cannot fail.
        let _ = write!(text, "  <testcase name=\"{}\" time=\"{seconds:.6}\"", escape(&one.name));
        if one.failed() {
            let _ = write!(
                text,
                ">\n    <failure message=\"not as expected\">{}</failure>\n    <system-out>{}</system-out>\n  </testcase>\n",
                escape(&one.difference),
                escape(&one.happened.log.join("\n"))
            );
        } else {
            text.push_str("/>\n");
        }
    }
    text + "</testsuite>\n"
}

/// Also leaves out what XML cannot have.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => escaped.push(c),
        }
    }
    escaped
}
