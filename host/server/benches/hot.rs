//! What is pure and done for every message or batch: outcomes, and how they fold into a settlement.
//! Never touches a database; `host bench` measures the whole.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use host_core::id::LeaseId;
use host_core::policy::outcome::{Outcome, Verdict, outcome};
use host_core::policy::retry::{Backoff, RetryPolicy};
use host_core::settlement::{Effects, Ledger};
use uuid::Uuid;

/// Messages of a lease.
const MESSAGES: u32 = 1_000;

/// A lease's messages are settled; `acked` says which of them.
fn settle(acked: impl Fn(u32) -> bool) -> Option<String> {
    let mut ledger = Ledger::new(LeaseId::new(1), Uuid::nil(), MESSAGES as usize);
    for position in (0..MESSAGES).filter(|position| acked(*position)) {
        let no_entry = |_| unreachable!("an ack has no entry");
        ledger.record(position, Outcome::Ack, Effects::default(), no_entry);
    }
    ledger.take().map(|settlement| settlement.multirange())
}

fn settlements(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("settlement of 1,000");
    group.throughput(Throughput::Elements(MESSAGES.into()));
    group.bench_function("all acked", |b| b.iter(|| settle(|_| true)));
    group.bench_function("every other acked", |b| b.iter(|| settle(|p| p % 2 == 0)));
    group.finish();
}

fn outcomes(criterion: &mut Criterion) {
    let policy = RetryPolicy {
        max_attempts: 10,
        backoff: Backoff::Exponential {
            base: Duration::from_secs(1),
            cap: Duration::from_hours(1),
        },
    };
    let retry = || Verdict::Retry { after: None, reason: "the server said 503".to_owned() };
    let mut group = criterion.benchmark_group("outcome");
    group.bench_function("ack", |b| b.iter(|| outcome(Verdict::Ack, black_box(&policy), 1, 0.5)));
    group.bench_function("retry", |b| {
        b.iter_batched(retry, |v| outcome(v, black_box(&policy), 3, 0.5), BatchSize::SmallInput);
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    settlements(&mut criterion);
    outcomes(&mut criterion);
    criterion.final_summary();
}
