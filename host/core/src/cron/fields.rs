//! Which field of a cron pattern is wrong.

use croner::parser::CronParser;

/// The fields of a pattern; the first may be left out.
const FIELDS: [&str; 6] = ["SECOND", "MINUTE", "HOUR", "DAY", "MONTH", "WEEKDAY"];

/// Which field is wrong, and why: each is tried alone. `None`: it is not a field.
pub(super) fn why(parser: CronParser, pattern: &str) -> Option<String> {
    let fields: Vec<&str> = pattern.split_whitespace().collect();
    let names = match fields.len() {
        5 => &FIELDS[1..],
        6 => &FIELDS[..],
        _ => return None,
    };
    names.iter().enumerate().find_map(|(n, name)| {
        let alone: Vec<&str> =
            (0..names.len()).map(|i| if i == n { fields[n] } else { "*" }).collect();
        let error = parser.parse(&alone.join(" ")).err()?.to_string();
        let error = error.trim_end_matches('.');
        let error = error.strip_prefix("Component error: ").unwrap_or(error);
        Some(format!("{name} is {:?}: {error}", fields[n]))
    })
}
