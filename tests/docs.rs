//! The commands in host/docs work as they are written there, each file's on a database of its own.

use crate::harness::{TestDb, plugin};
use crate::readme::{steps_of, walk};

async fn works_as_written(file: &str) {
    for name in ["echo", "email", "tally", "thumbnail", "webhook"] {
        plugin(name);
    }
    let steps = steps_of(&format!("host/docs/{file}"), |text| text);
    assert!(steps.len() > 3, "{file} has commands");
    let db = TestDb::new().await;
    walk(steps, Some(&db.url)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cron() {
    works_as_written("cron.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_and_secrets() {
    works_as_written("http-and-secrets.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn components() {
    works_as_written("components.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages() {
    works_as_written("messages.md").await;
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
async fn limits() {
    works_as_written("limits.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn follow_ups() {
    works_as_written("follow-ups.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unique() {
    works_as_written("unique.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers() {
    works_as_written("handlers.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_handlers() {
    works_as_written("batch-handlers.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history() {
    works_as_written("history.md").await;
}
