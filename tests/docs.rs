//! The book in host/docs: its commands work as they are written, each page's on a database of its
//! own; its summary lists every page; and its links lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::process::{finish, host_command};
use crate::harness::{TestDb, plugin, repository};
use crate::readme::{steps_of, walk};

/// Pages whose commands take too long for a test, or need a cluster.
const NOT_EXECUTED: [&str; 1] = ["benchmarks.md"];

fn build_plugins() {
    for name in ["echo", "email", "tally", "thumbnail", "webhook"] {
        plugin(name);
    }
}

async fn works_as_written(file: &str) {
    build_plugins();
    let steps = steps_of(&format!("host/docs/{file}"), |text| text);
    assert!(steps.len() > 2, "{file} has commands");
    let db = TestDb::new().await;
    walk(steps, Some(&db.url)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_handlers() {
    works_as_written("batch-handlers.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cli() {
    works_as_written("cli.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn components() {
    works_as_written("components.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cron() {
    works_as_written("cron.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deploy() {
    works_as_written("deploy.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enqueue() {
    works_as_written("enqueue.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes() {
    works_as_written("exit-codes.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn follow_ups() {
    works_as_written("follow-ups.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers() {
    works_as_written("handlers.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history() {
    works_as_written("history.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_and_secrets() {
    works_as_written("http-and-secrets.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits() {
    works_as_written("limits.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages() {
    works_as_written("messages.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operations() {
    works_as_written("operations.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order() {
    works_as_written("order.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn priorities() {
    works_as_written("priorities.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries() {
    works_as_written("retries.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn set_up_as_a_file() {
    works_as_written("set-up-as-a-file.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql() {
    works_as_written("sql.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unique() {
    works_as_written("unique.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_something_fails() {
    works_as_written("when-something-fails.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn test_a_handler() {
    works_as_written("test-a-handler.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn write_a_handler() {
    works_as_written("write-a-handler.md").await;
}

/// On the private Postgres that `host` starts without a URL: it shows that too.
#[tokio::test(flavor = "multi_thread")]
async fn get_started() {
    build_plugins();
    walk(steps_of("host/docs/get-started.md", |text| text), None).await;
}

/// Names of the tests above, as pages.
#[test]
fn every_page_with_commands_is_executed() {
    let tests = fs::read_to_string(repository().join("tests/docs.rs")).expect("this file");
    for page in pages() {
        let text = fs::read_to_string(repository().join("host/docs").join(&page)).expect("a page");
        if !text.contains("```console\n") || NOT_EXECUTED.contains(&page.as_str()) {
            continue;
        }
        let name = page.trim_end_matches(".md").replace('-', "_");
        assert!(tests.contains(&format!("async fn {name}()")), "{page}: no test in tests/docs.rs");
    }
}

#[test]
fn the_summary_lists_every_page() {
    let summary = read("host/docs/SUMMARY.md");
    let listed: Vec<String> = links(&summary).into_iter().map(|(_, link)| link).collect();
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), unique.len(), "a page is listed twice");
    for page in pages() {
        assert!(unique.contains(&page), "host/docs/SUMMARY.md does not list {page}");
    }
}

#[test]
fn links_between_documents_resolve() {
    let root = repository();
    let mut documents: Vec<PathBuf> =
        pages().iter().map(|p| root.join("host/docs").join(p)).collect();
    documents.push(root.join("host/docs/SUMMARY.md"));
    documents.push(root.join("migrations/README.md"));
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        documents.push(root.join(name));
    }
    let mut complaints = Vec::new();
    for document in documents {
        let text = fs::read_to_string(&document).expect("a document");
        for (line, link) in links(&text) {
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() {
                document.clone()
            } else {
                document.parent().expect("its folder").join(path)
            };
            if !target.exists() || !anchor.is_empty() && !anchors(&target).contains(anchor) {
                complaints.push(format!("{}:{line}: {link} leads nowhere", document.display()));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[tokio::test]
async fn the_reference_names_every_command() {
    let help = finish(host_command(&["--help"])).await.ok();
    let (_, commands) = help.split_once("Commands:\n").expect("the commands");
    let commands = commands.split("\n\n").next().expect("their list");
    let reference = read("host/docs/cli.md");
    for command in commands.lines().filter_map(|line| line.split_whitespace().next()) {
        if command != "help" {
            assert!(reference.contains(&format!("`host {command}")), "cli.md: no `host {command}`");
        }
    }
    let (_, codes) = help.split_once("Exit codes:\n").expect("the exit codes");
    let codes: Vec<_> = codes.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let page = read("host/docs/exit-codes.md");
    for code in codes {
        let (number, meaning) = code.split_once("  ").expect("a code and its meaning");
        assert!(page.contains(&format!("| {number} | {meaning} |")), "exit-codes.md: no {code}");
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).expect("a document")
}

/// The pages of the book, by their names in host/docs.
fn pages() -> Vec<String> {
    let names = fs::read_dir(repository().join("host/docs"))
        .expect("the book")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name of UTF-8"));
    let is_page =
        |name: &String| name.split_once('.').is_some_and(|(n, end)| end == "md" && n != "SUMMARY");
    let mut pages: Vec<_> = names.filter(is_page).collect();
    pages.sort();
    assert!(pages.len() > 20);
    pages
}

/// The targets of a document's links and pictures, with their lines. Code is left out.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (line, number) in text.lines().zip(1..) {
        in_code ^= line.trim_start().starts_with("```");
        if in_code {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
        for part in prose.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            found.push((number, target.to_owned()));
        }
    }
    found
}

/// The anchors of a document's headings, as code hosting sites and mdBook make them.
fn anchors(document: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(document).expect("a document");
    let heading = |line: &str| {
        let kept = line.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    text.lines()
        .filter_map(|line| line.split_once("# "))
        .filter(|(marks, _)| marks.chars().all(|c| c == '#'))
        .map(|(_, title)| heading(title))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn orms() {
    works_as_written("orms.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_tools() {
    works_as_written("schema-tools.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_phase() {
    works_as_written("two-phase.md").await;
}
