//! The model and the SQL side by side: random steps on several connections, which stay in the
//! middle of transactions, wait for each other, are cut off; after each step the database must have
//! what the model has.
//!
//! One step at a time: what Postgres does with calls that really run at the same moment is for
//! `random.rs`.

mod facts;
mod stage;
mod steps;

use futures_util::future::join;

use crate::harness::seed;

/// Walks of a run, unless `WALKS` says otherwise.
const WALKS: u64 = 40;
const STEPS: u32 = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_does_what_the_model_says() {
    let walks = std::env::var("WALKS").map_or(WALKS, |n| n.parse().expect("WALKS is a number"));
    let first = seed();
    let halves = join(walk_all(first, walks, 0), walk_all(first, walks, 1)).await;
    let mut tally = halves.0;
    for (step, count) in halves.1 {
        *tally.entry(step).or_default() += count;
    }
    eprintln!("{walks} walks: {tally:#?}");
    // Each of the steps, with each of its results, must have happened, or the rest shows little.
    if walks >= WALKS {
        let missing: Vec<_> = steps::RESULTS.iter().filter(|r| !tally.contains_key(*r)).collect();
        assert!(missing.is_empty(), "never: {missing:?}");
    }
}

/// Every second walk of a run, each with a seed of its own: the run's and the walk's number.
async fn walk_all(first: u64, walks: u64, half: u64) -> steps::Tally {
    let db = stage::database().await;
    let mut links = stage::links(&db).await;
    let mut tally = steps::Tally::new();
    for number in (half..walks).step_by(2) {
        let seed = first.wrapping_add(number);
        let mut walk = steps::Walk::new(&db, number as i32, links, seed).await;
        for _ in 0..STEPS {
            walk.step(&mut tally).await;
        }
        links = walk.end().await;
    }
    tally
}
