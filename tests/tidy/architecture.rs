//! What ARCHITECTURE.md names is there.

use std::fs;

use super::{none, sources};
use crate::harness::repository;

/// The code spans of the document that name a file, and a function after it, if there is one.
fn places(text: &str) -> Vec<(String, Option<String>)> {
    let spans = text.split('`').skip(1).step_by(2);
    let place = |span: &str| {
        let (path, function) = match span.split_once(": ") {
            Some((path, function)) => (path, Some(function.to_owned())),
            None => (span, None),
        };
        let names_a_file = [".rs", ".sql"].iter().any(|ending| path.ends_with(ending));
        (names_a_file && !path.contains('*')).then(|| (path.to_owned(), function))
    };
    spans.filter_map(place).collect()
}

#[test]
fn every_file_and_function_that_the_architecture_names_is_there() {
    let document = fs::read_to_string(repository().join("ARCHITECTURE.md")).unwrap();
    // Blocks of code have no spans.
    let prose: String = document.split("```").step_by(2).collect();
    let sources = sources(&["rs", "sql"]);
    let places = places(&prose);
    assert!(places.iter().filter(|(_, function)| function.is_some()).count() > 20, "{places:?}");
    let missing = places.into_iter().filter_map(|(path, function)| {
        let has = |text: &str| {
            let function = function.as_deref().unwrap_or_default();
            let of_rust = [format!("fn {function}("), format!("fn {function}<")];
            let of_sql = format!("FUNCTION host.{{q}}__{function}(");
            let is_there = || of_rust.iter().chain([&of_sql]).any(|its| text.contains(its));
            function.is_empty() || is_there()
        };
        let is_there = sources.iter().any(|source| {
            let its = format!("/{}", source.path.replace("/src/", "/"));
            its.ends_with(&format!("/{path}")) && has(&source.text)
        });
        (!is_there).then(|| format!("ARCHITECTURE.md: no {path} {}", function.unwrap_or_default()))
    });
    none(&missing.collect::<Vec<_>>());
}

#[test]
fn a_place_is_a_file_or_a_function_in_one() {
    let found = places("`steps.rs: lease`, `queue/tables.sql`, `{q}__rows`, `NNNN_*.sql`");
    let expected =
        [("steps.rs".to_owned(), Some("lease".to_owned())), ("queue/tables.sql".to_owned(), None)];
    assert_eq!(found, expected);
}
