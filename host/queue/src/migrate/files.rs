//! The migration files, sorted by what they are. Never does I/O: the files are part of the binary.

use include_dir::{Dir, include_dir};
use sha2::{Digest as _, Sha256};

use super::MigrateError;
use super::parts::Parts;
use crate::constants;

static DIR: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../migrations");

/// Versions, and the digest of the text with which each was applied when a migration changed the
/// tables of all queues in its own transaction. The same changes are in `queue/migrations` and
/// `queue/drops` now.
const FORMER: [(i32, &str); 13] = [
    (2, "9de5068fbd91f75c632f385f97db63406b4b49306e904f9b5ac9cb472d4e98c1"),
    (5, "0f99569e3712ae8cb4b512d1abcf5113ba8b206aba53b5bf35946e37808efcba"),
    (6, "4053d3be4ee326ae790d6a4867f9dee028dcf77cfac54accb9b3dd483342c965"),
    (8, "2eabc276dc60926d39072bf52c4f743c2ac98f1b416e4699faa28033033f93b8"),
    (9, "9f2a2afb03680bdf406bdc620870e2387ab867c3bf9de6a6c8153e72b7031cff"),
    (10, "b2976e61a3663441fc5641101962f9adb01505fa875ab4272a67e51fb0910499"),
    (11, "ed72528b4bf7f5285905bfa0ab7744712eaaffb19c85c806e07f67333cf55022"),
    (12, "fcac98cd948f9daae1390dc2d43f517bdc3d1fbe64e7189e23ecc74da2214778"),
    (13, "c028952eb27ce275a4a91fd1627b454e55ca6372c95e603697ed3a2763643d91"),
    (14, "f28b328d134c1c0665080e06d4213e56f2aab90ae6702e6cebeaf78be3163ffd"),
    (15, "95bff3cb9eef0ec7b856aceb589d4ada35da481eaa7b7d28b99c1f5c12d8cb8c"),
    (16, "0cf6eb023f6209cbcf32258e88957bcaa30ce382a6393e604abcd2ab8c2d3ee2"),
    (17, "52352bd5fb91b7760e0f92a7ad2a78ca4ec00d92beeaf7ec15ae1021d1989c70"),
];

/// A file of SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path below `migrations/`.
    pub path: String,
    /// What is in it.
    pub sql: String,
}

impl File {
    /// The digest of its content, in hex.
    #[must_use]
    pub fn sha256(&self) -> String {
        hex::encode(Sha256::digest(&self.sql))
    }
}

/// A migration that is applied once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// From 1, without gaps.
    pub version: i32,
    /// The file.
    pub file: File,
}

impl Numbered {
    /// Whether that is the digest of the file, or of what stood there when the half of each queue
    /// was part of it.
    #[must_use]
    pub(super) fn has_been(&self, sha256: &str) -> bool {
        let former = || FORMER.iter().any(|(v, former)| (*v, *former) == (self.version, sha256));
        self.file.sha256() == sha256 || former()
    }

    /// The file's name without number and ending.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.file.path[5..self.file.path.len() - 4]
    }
}

/// Everything that `host migrate` knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrations {
    /// The runner's own tables.
    pub bootstrap: File,
    /// In order of the version.
    pub numbered: Vec<Numbered>,
    /// In order of the path.
    pub functions: Vec<File>,
    /// What queues are made from, in order of the path.
    pub templates: Vec<File>,
    /// Applied last, when all queues are at this release.
    pub finish: Option<File>,
}

/// The name by which `host.template` knows a template: its path below `queue/`.
#[must_use]
pub(crate) fn template_name(file: &File) -> &str {
    file.path.strip_prefix("queue/").unwrap_or(&file.path)
}

impl Migrations {
    /// Those of this binary.
    pub fn embedded() -> Result<Self, MigrateError> {
        let mut files = Vec::new();
        collect(&DIR, &mut files);
        Self::parse(files)
    }

    /// Sorts files by their paths; one that fits nowhere is an error. Fills in parts and
    /// constants. A numbered migration has none: its digest is that of the file.
    pub fn parse(files: impl IntoIterator<Item = File>) -> Result<Self, MigrateError> {
        let mut files: Vec<File> = files.into_iter().collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let (mut bootstrap, mut finish, mut numbered) = (None, None, Vec::new());
        let (mut functions, mut templates) = (Vec::new(), Vec::new());
        let filled = |file: File| File { sql: constants::fill(&file.sql), ..file };
        let mut parts = Parts::default();
        files.retain(|file| !parts.keep(&file.path, &file.sql));
        for file in files {
            match file.path.as_str() {
                "README.md" | "schema.sql" => {}
                "bootstrap.sql" => bootstrap = Some(filled(file)),
                "finish.sql" => finish = Some(filled(file)),
                path if path.starts_with("functions/") => functions.push(filled(file)),
                path if path.starts_with("queue/") => {
                    let sql = parts.insert(&file.sql);
                    templates.push(filled(File { sql, ..file }));
                }
                _ => {
                    let version = numbered.len() as i32 + 1;
                    if version_of(&file.path) != Some(version) {
                        return Err(MigrateError::Files(format!(
                            "{:?} stands where {version:04}_NAME.sql should",
                            file.path
                        )));
                    }
                    numbered.push(Numbered { version, file });
                }
            }
        }
        let bootstrap =
            bootstrap.ok_or_else(|| MigrateError::Files("there is no bootstrap.sql".to_owned()))?;
        Ok(Self { bootstrap, numbered, functions, templates, finish })
    }

    /// The newest version.
    #[must_use]
    pub fn version(&self) -> i32 {
        self.numbered.last().map_or(0, |migration| migration.version)
    }

    /// One digest over the function files, the templates and the runner's own files, in hex.
    #[must_use]
    pub fn functions_sha256(&self) -> String {
        let mut digest = Sha256::new();
        let files = self.functions.iter().chain(&self.templates).chain(&self.finish);
        for file in files.chain(std::iter::once(&self.bootstrap)) {
            for part in [&file.path, &file.sql] {
                digest.update((part.len() as u64).to_be_bytes());
                digest.update(part);
            }
        }
        hex::encode(digest.finalize())
    }
}

fn version_of(path: &str) -> Option<i32> {
    let (number, name) = path.strip_suffix(".sql")?.split_once('_')?;
    let plain = number.len() == 4 && !name.is_empty() && !name.contains('/');
    plain.then(|| number.parse().ok()).flatten()
}

fn collect(dir: &Dir<'_>, files: &mut Vec<File>) {
    files.extend(dir.files().map(|file| File {
        path: file.path().to_string_lossy().into_owned(),
        sql: String::from_utf8_lossy(file.contents()).into_owned(),
    }));
    for dir in dir.dirs() {
        collect(dir, files);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(paths: &[&str]) -> Vec<File> {
        paths.iter().map(|path| File { path: (*path).to_owned(), sql: String::new() }).collect()
    }

    #[test]
    fn files_are_sorted_by_what_they_are() {
        let set = Migrations::parse(files(&[
            "functions/b.sql",
            "0002_two.sql",
            "queue/tables.sql",
            "functions/a.sql",
            "0001_one.sql",
            "bootstrap.sql",
            "README.md",
            "schema.sql",
        ]))
        .unwrap();
        let names: Vec<_> = set.numbered.iter().map(Numbered::name).collect();
        assert_eq!(names, ["one", "two"]);
        assert_eq!(set.version(), 2);
        assert_eq!(set.functions[0].path, "functions/a.sql");
        assert_eq!(set.templates[0].path, "queue/tables.sql");
    }

    #[test]
    fn a_gap_and_a_stray_file_are_refused() {
        for path in ["0002_two.sql", "notes.txt", "1_one.sql", "0001_.sql"] {
            let error = Migrations::parse(files(&["bootstrap.sql", path])).unwrap_err();
            assert!(error.to_string().contains("0001_NAME.sql should"), "{error}");
        }
        assert!(Migrations::parse(files(&["0001_a.sql"])).is_err());
    }

    #[test]
    fn the_digest_covers_functions_and_templates_but_not_numbered_migrations() {
        let set = |extra: &str| {
            Migrations::parse(files(&["bootstrap.sql", extra])).unwrap().functions_sha256()
        };
        assert_eq!(set("0001_a.sql"), set("README.md"));
        assert_ne!(set("functions/a.sql"), set("README.md"));
        assert_ne!(set("functions/a.sql"), set("queue/a.sql"));
    }

    #[test]
    fn the_binary_carries_its_migrations() {
        assert!(Migrations::embedded().unwrap().version() >= 1);
    }
}
