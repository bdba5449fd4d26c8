//! The embedded Postgres: shared, stopped by the last, found again after a kill.

use host::embedded::Embedded;

use crate::harness::server::{connect, scratch_dir};

async fn answers(url: &str) -> bool {
    let client = connect(url).await;
    client.query_one("SELECT 1", &[]).await.is_ok()
}

/// A zombie that nobody has reaped yet has no program any more.
fn runs(pid: i32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

#[tokio::test]
async fn the_last_one_stops_it() {
    let dir = scratch_dir();
    let first = Embedded::start(&dir).await.unwrap();
    let second = Embedded::start(&dir).await.unwrap();
    assert_eq!((first.url(), first.pid()), (second.url(), second.pid()));
    assert!(answers(first.url()).await);
    let pid = first.pid();
    assert!(!first.stop_if_last().await.unwrap());
    assert!(answers(second.url()).await);
    assert!(second.stop_if_last().await.unwrap());
    assert!(!runs(pid));
    std::fs::remove_dir_all(dir).unwrap();
}
