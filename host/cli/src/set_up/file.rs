//! Reading the file, and where in it something stands.

use std::ops::Range;
use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt as _;

use super::entries::Entries;
use crate::error::CommandError;

/// A file that was read.
pub(crate) struct SetUpFile {
    path: PathBuf,
    text: String,
    /// What stands in it.
    pub(crate) entries: Entries,
}

impl SetUpFile {
    /// Reads a file, or `-` for standard input; refuses what is no set-up.
    pub(crate) async fn read(path: &Path) -> Result<Self, CommandError> {
        let text = if path == Path::new("-") {
            let mut text = String::new();
            tokio::io::stdin().read_to_string(&mut text).await.map(|_| text)
        } else {
            tokio::fs::read_to_string(path).await
        };
        let text = text.map_err(|error| {
            CommandError::usage(format!("cannot read {}: {error}", path.display()))
        })?;
        match toml::from_str(&text) {
            Ok(entries) => Ok(Self { path: path.to_owned(), text, entries }),
            Err(error) => {
                let place = place(path, &text, error.span().unwrap_or(0..0));
                Err(CommandError::usage(format!("{place}: {}", error.message())))
            }
        }
    }

    /// An error of what stands there.
    pub(crate) fn error(&self, at: Range<usize>, error: impl std::fmt::Display) -> CommandError {
        CommandError::usage(format!("{}: {error}", place(&self.path, &self.text, at)))
    }

    /// A path that stands in the file: a relative one begins where the file is.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }
}

/// FILE:LINE:COLUMN, both from 1; of standard input, `-:LINE:COLUMN`.
fn place(path: &Path, text: &str, at: Range<usize>) -> String {
    let before = text.get(..at.start.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let column = before[start..].chars().count() + 1;
    format!("{}:{line}:{column}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_lines_and_characters() {
        let text = "[queues.a]\nß = 1\nx = 2\n";
        let of = |at| place(Path::new("f"), text, at..at);
        assert_eq!(of(0), "f:1:1");
        assert_eq!(of(text.find("= 1").unwrap()), "f:2:3");
        assert_eq!(of(text.find('x').unwrap()), "f:3:1");
        assert_eq!(of(999), "f:4:1");
    }

    #[test]
    fn the_guides_example_is_a_set_up() {
        let guide = include_str!("../../../docs/set-up-as-a-file.md");
        let example = guide.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let entries: Entries = toml::from_str(example).unwrap();
        assert!(!entries.cron.is_empty() && !entries.queues.is_empty());
    }
}
