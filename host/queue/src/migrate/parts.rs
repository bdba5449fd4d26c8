//! Parts: SQL that several templates have in common, as text. A template writes `{name}` for the
//! text of `queue/parts/name.sql`. So a shared part costs a running database nothing. Never does
//! I/O.

const DIRECTORY: &str = "queue/parts/";

/// The parts of the templates.
#[derive(Debug, Default)]
pub(super) struct Parts(Vec<(String, String)>);

impl Parts {
    /// Keeps a file if it is a part. Returns whether it is.
    pub(super) fn keep(&mut self, path: &str, sql: &str) -> bool {
        let name = path.strip_prefix(DIRECTORY).and_then(|name| name.strip_suffix(".sql"));
        let header = |line: &&str| line.starts_with("--");
        let text = || sql.lines().skip_while(header).collect::<Vec<_>>().join("\n");
        self.0.extend(name.map(|name| (format!("{{{name}}}"), text())));
        name.is_some()
    }

    /// The template with the parts in place of their names. Their lines get the indentation of the
    /// line that has the name.
    pub(super) fn insert(&self, template: &str) -> String {
        let line = |line: &str| {
            let indent = &line[..line.len() - line.trim_start().len()];
            let insert = |line: String, (name, text): &(String, String)| {
                line.replace(name, &text.replace('\n', &format!("\n{indent}")))
            };
            self.0.iter().fold(line.to_owned(), insert)
        };
        template.split('\n').map(line).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_stands_where_its_name_was() {
        let mut parts = Parts::default();
        assert!(parts.keep("queue/parts/two.sql", "-- Part: two.\n1\n  + 1\n"));
        let template = "SELECT\n    {two} AS n,\n    {other}\n";
        assert!(!parts.keep("queue/functions/a.sql", template));
        assert_eq!(parts.insert(template), "SELECT\n    1\n      + 1 AS n,\n    {other}\n");
    }
}
