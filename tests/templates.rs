//! The templates of a queue's functions: what is written in them is rendered or refused, and what
//! replaces a function of another template says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::harness::sql_host::create_queue;
use crate::harness::{TestDb, repository};

/// The templates by their paths below `migrations/queue`.
fn templates() -> BTreeMap<String, String> {
    let root = repository().join("migrations/queue");
    let mut found = BTreeMap::new();
    for kind in ["functions", "ordered", "keyed", "priorities"] {
        for file in std::fs::read_dir(root.join(kind)).unwrap() {
            let path = file.unwrap().path();
            let name = path.strip_prefix(&root).map(Path::to_string_lossy).unwrap().into_owned();
            found.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
    found
}

/// The functions that a template makes, without the queue's name.
fn functions(template: &str) -> BTreeSet<String> {
    let made = template.split("CREATE OR REPLACE FUNCTION host.{q}").skip(1);
    made.map(|rest| rest.split('(').next().unwrap().to_owned()).collect()
}

#[test]
fn a_template_that_replaces_a_function_of_another_says_so() {
    let templates = templates();
    let shared = |name: &&String| name.starts_with("functions/");
    for (name, text) in templates.iter().filter(|(name, _)| !shared(name)) {
        let mut replaced = BTreeSet::new();
        for (other, its) in templates.iter().filter(|(other, _)| shared(other)) {
            let both: Vec<_> = functions(its).intersection(&functions(text)).cloned().collect();
            if !both.is_empty() {
                replaced.insert(format!("{other} {}", both.join(" ")));
            }
        }
        let declared = text.lines().filter_map(|line| line.strip_prefix("-- Overrides: "));
        let declared: BTreeSet<_> = declared.map(str::to_owned).collect();
        assert_eq!(declared, replaced, "the lines `-- Overrides: ` of {name}");
    }
}

#[tokio::test]
async fn what_rendering_does_not_know_is_refused() {
    let db = TestDb::new().await;
    let client = db.client().await;
    create_queue(&client, "q", "").await;
    let render = "SELECT host.render($1, q) FROM host.queue q";
    for (body, named) in [
        ("SELECT '{queue}'", "{queue}"),
        ("SELECT {orderd?1}", "{orderd?"),
        // A condition cannot hold a brace of another kind.
        ("SELECT {plain?'{}'}", "{plain?"),
    ] {
        let insert = "INSERT INTO host.template (name, body) VALUES ('functions/new.sql', $1)
            ON CONFLICT (name) DO UPDATE SET body = EXCLUDED.body";
        client.execute(insert, &[&body]).await.unwrap();
        let error = client.query_one(render, &[&"functions/new.sql"]).await.unwrap_err();
        let error = error.as_db_error().unwrap().message().to_owned();
        let expected =
            format!("template \"functions/new.sql\" has {named}, which host.render does not know");
        assert_eq!(error, expected);
    }
    let error = client.query_one(render, &[&"functions/none.sql"]).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().message(), "no template \"functions/none.sql\"");
}
