//! What the tests share. Never asserts anything about the product.

#![allow(dead_code, reason = "each test uses some of it")]

pub mod postgres;
pub mod process;
pub mod proxy;
pub mod scene;
pub mod server;
pub mod sql_host;
pub mod standby;
pub mod watchdog;
pub mod web;

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use scene::{Deployment, Scene};
pub use server::TestDb;
pub use sql_host::{SqlHost, SqlLease};

/// How long a condition may take to come true. Generous: it only decides how long a failing test
/// takes to fail.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// Waits until `condition` holds. On the deadline, says what it waited for.
pub async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until `value` returns what is wanted. On the deadline, says what it returned last.
pub async fn wait_for<T: PartialEq + Debug>(
    what: &str,
    wanted: T,
    mut value: impl AsyncFnMut() -> T,
) {
    let started = Instant::now();
    loop {
        let now = value().await;
        if now == wanted {
            return;
        }
        assert!(
            started.elapsed() < DEADLINE,
            "waited {DEADLINE:?} in vain for {what} to be {wanted:?}; it is {now:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The seed of a random test: from the environment, to run it again, else a new one. It is printed.
pub fn seed() -> u64 {
    let given = std::env::var("SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |s| s.parse().expect("SEED is a number"));
    eprintln!("SEED={seed}");
    seed
}

/// The folder that everything of the project is in.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// A built plugin, as `make plugins` leaves it.
pub fn plugin(name: &str) -> PathBuf {
    let path = repository().join("target/plugins").join(format!("{name}.wasm"));
    assert!(path.is_file(), "{} is not built: run `make plugins`", path.display());
    path
}
