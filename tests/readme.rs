//! The README's tour and `make demo` work as they are written.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::process::{Serve, finish, host_command};
use crate::harness::server::scratch_dir;
use crate::harness::watchdog::remove_after_us;
use crate::harness::{plugin, repository, wait_until};

/// A command of a document, and what it shows of its output.
pub struct Step {
    command: String,
    shown: String,
}

/// The `$ host …` commands of the console blocks of a part of a document. A command goes on after a
/// backslash at a line's end, as in a shell.
pub fn steps_of(path: &str, part: impl Fn(&str) -> &str) -> Vec<Step> {
    let text = std::fs::read_to_string(repository().join(path)).expect("the document");
    let mut steps: Vec<Step> = Vec::new();
    let blocks = part(&text).split("```console\n").skip(1);
    for line in blocks.flat_map(|b| b.split("```").next().unwrap_or("").lines()) {
        let unfinished = |step: &Step| step.shown.is_empty() && step.command.ends_with('\\');
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), shown: String::new() });
        } else if let Some(step) = steps.last_mut().filter(|step| unfinished(step)) {
            step.command.push('\n');
            step.command.push_str(line);
        } else if let Some(step) = steps.last_mut() {
            step.shown.push_str(line);
            step.shown.push('\n');
        }
    }
    steps.retain(|step| step.command.split(" | ").any(|part| part.starts_with("host ")));
    steps
}

/// The README's tour, up to the heading after it.
fn tour(readme: &str) -> &str {
    let (_, tour) = readme.split_once("## One minute").expect("the tour");
    tour.split_once("\n## ").expect("the tour's end").0
}

/// Text without what differs from run to run: numbers, digests, times, the width of columns, and
/// where a document breaks a long line.
fn shape(text: &str) -> String {
    let word = |word: &str| {
        let digest = word.len() == 13 && word[..12].bytes().all(|b| b.is_ascii_hexdigit());
        if digest || word.bytes().any(|b| b.is_ascii_digit()) {
            "#".into()
        } else {
            word.to_owned()
        }
    };
    let line = |line: &str| {
        line.replace("--", "").split_whitespace().map(word).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// Whether a command said what the document shows of it: all of it, or its beginning where the
/// document ends with an ellipsis.
fn is_shown(said: &str, shown: &str) -> bool {
    let (said, shown) = (shape(said), shape(shown));
    shown.strip_suffix(" …").map_or(said == shown, |beginning| said.starts_with(beginning))
}

/// A shell in a folder that looks like the checkout after `make build plugins`.
fn shell(dir: &Path, command: &str) -> Command {
    let host = host_command(&[]);
    let bin = Path::new(host.get_program()).parent().expect("its folder").to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("bash");
    shell.args(["-c", command]).current_dir(dir).env_remove("DATABASE_URL");
    shell.env("PATH", format!("{}:{path}", bin.display()));
    shell
}

fn checkout() -> PathBuf {
    let dir = scratch_dir();
    remove_after_us(&dir);
    std::os::unix::fs::symlink(repository().join("target"), dir.join("target")).expect("a link");
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_works_as_written() {
    plugin("email");
    let steps = steps_of("README.md", tour);
    assert!(steps.len() > 8, "the tour has been found");
    walk(steps, None).await;
}

/// Does step after step, on a database that is there or on the embedded one. Ends the host that
/// they start.
pub async fn walk(steps: Vec<Step>, database_url: Option<&str>) {
    let dir = checkout();
    let shell = |command: &str| {
        let mut shell = shell(&dir, command);
        shell.envs(database_url.map(|url| ("DATABASE_URL", url)));
        shell
    };
    let mut serving = None;
    for Step { command, shown } in steps {
        if let Some(background) = command.strip_suffix(" &") {
            serving = Some(Serve::spawn(shell(&format!("exec {background}"))));
            continue;
        }
        // What a host does takes a moment; what only this shell does is right at once.
        let mut said = String::new();
        let again = ["SELECT", " list ", " message ", "host status"]
            .iter()
            .any(|word| command.contains(word));
        wait_until(&format!("{command} shows\n{}", shape(&shown)), async || {
            said = finish(shell(&command)).await.ok();
            // Of the status, the rows differ from machine to machine.
            let same = if command.ends_with("status") {
                let head = |text: &str| shape(text.lines().next().unwrap_or_default());
                head(&said) == head(&shown)
            } else {
                is_shown(&said, &shown)
            };
            assert!(same || again, "{command} says\n{said}\nand not\n{shown}");
            same
        })
        .await;
    }
    if let Some(host) = serving {
        assert!(host.terminate().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_works() {
    let plugins = plugin("email").parent().expect("its folder").to_owned();
    let mut demo = Command::new("bash");
    demo.arg(repository().join("tests/demo.sh")).env("MESSAGES", "2000").env("PLUGINS", plugins);
    demo.env("HOST", host_command(&[]).get_program());
    let said = finish(demo).await.ok();
    assert!(
        said.contains("1998 letters, 2 dead letters; updates and deletes on the queues' tables: 0"),
        "{said}"
    );
}
