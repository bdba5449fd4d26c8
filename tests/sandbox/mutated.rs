//! Components that are damaged, cut and put together at random: each is refused in words, or it is
//! a handler that runs within its limits. `SEED=…` does it again.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

use super::*;
use crate::harness::seed;

/// How many are made of small components, which compile in a moment …
const SMALL: usize = 1_500;
/// … and of real ones.
const REAL: usize = 40;

/// A component without the cache: what is made here is never met again.
fn sandbox() -> Sandbox {
    Sandbox::new(&SandboxConfig { instances_max: 1, cache_dir: None }).expect("a sandbox")
}

/// Where the sections of a component begin and end, as far as they can be read.
fn sections(wasm: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 8;
    while at < wasm.len() {
        let (mut size, mut shift, mut next) = (0_usize, 0, at + 1);
        while let Some(byte) = wasm.get(next).copied() {
            size |= usize::from(byte & 0x7f) << shift;
            (shift, next) = (shift + 7, next + 1);
            if byte & 0x80 == 0 || shift > 28 {
                break;
            }
        }
        let end = next.saturating_add(size).min(wasm.len());
        found.push((at, end));
        at = end;
    }
    found
}

fn one_of(random: &mut fastrand::Rng, sections: &[(usize, usize)]) -> (usize, usize) {
    random.choice(sections).copied().unwrap_or((8, 8))
}

fn mutate(random: &mut fastrand::Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut wasm = random.choice(corpus).expect("a component").clone();
    for _ in 0..random.usize(1..4) {
        if wasm.len() < 16 {
            break;
        }
        let at = random.usize(0..wasm.len());
        let end = at + random.usize(0..(wasm.len() - at).min(64));
        let parts = sections(&wasm);
        let (from, to) = one_of(random, &parts);
        let other = random.choice(corpus).expect("a component");
        let (first, last) = one_of(random, &sections(other));
        match random.u8(0..9) {
            0 => wasm[at] ^= 1 << random.u8(0..8),
            1 => wasm.truncate(at),
            2 => drop(wasm.drain(at..end)),
            // Lengths and indices of more than there is.
            3 => drop(wasm.splice(at..(at + 5).min(wasm.len()), [0xff, 0xff, 0xff, 0xff, 0x0f])),
            4 => {
                let noise: Vec<u8> = (0..end - at).map(|_| random.u8(..)).collect();
                wasm.splice(at..end, noise);
            }
            // A section twice, elsewhere, or not at all; or one of another component.
            5 => {
                let section = wasm[from..to].to_vec();
                let place = one_of(random, &parts).0;
                wasm.splice(place..place, section);
            }
            6 => drop(wasm.drain(from..to)),
            7 => {
                let section = wasm[from..to].to_vec();
                wasm.drain(from..to);
                let place = one_of(random, &sections(&wasm)).0.min(wasm.len());
                wasm.splice(place..place, section);
            }
            _ => drop(wasm.splice(from..from, other[first..last].to_vec())),
        }
    }
    wasm
}

/// What became of it: refused, or run. A panic is neither.
async fn meets(sandbox: &Sandbox, wasm: &[u8]) -> Result<(), String> {
    let limits = with_limits(|l| {
        (l.cpu, l.timeout) = (Duration::from_millis(20), Duration::from_millis(200));
        l.memory_bytes = 8 << 20;
    });
    match made(sandbox, wasm, limits) {
        Ok(handler) => {
            drop(handler.runner().run(&message("\"ack\"")).await);
            Ok(())
        }
        Err(refusal) => Err(refusal.to_string()),
    }
}

async fn all_are_refused_or_run(corpus: &[Vec<u8>], n: usize) -> (usize, usize) {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let sandbox = sandbox();
    for wasm in corpus {
        assert_eq!(meets(&sandbox, wasm).await, Ok(()));
    }
    let (mut ran, mut refused) = (0, 0);
    for turn in 0..n {
        let wasm = mutate(&mut random, corpus);
        let met = AssertUnwindSafe(meets(&sandbox, &wasm)).catch_unwind().await;
        match met.unwrap_or_else(|_| panic!("SEED={seed}: a panic at component {turn}")) {
            Ok(()) => ran += 1,
            Err(text) => {
                assert!(text.len() > 20 && text.len() < 10_000, "SEED={seed}: {text}");
                refused += 1;
            }
        }
    }
    (ran, refused)
}

#[tokio::test]
async fn small_components_put_together_at_random_are_refused_or_run() {
    let memory = r#"(memory (export "memory") 1)"#;
    let busy =
        "(local i64) (loop (br_if 0 (i64.ne (local.tee 1 (i64.add (local.get 1) (i64.const 1)))
        (i64.const 1000)))) (i32.const 0)";
    let tables = r#"(memory (export "memory") 1) (table 10 funcref) (global (mut i32) (i32.const 0))
        (data (i32.const 2048) "some data") (elem (i32.const 0) func 0)"#;
    let corpus = [handler_of(memory, ACKS), handler_of(memory, busy), handler_of(tables, ACKS)];
    let (ran, refused) = all_are_refused_or_run(&corpus, SMALL).await;
    assert!(ran > 0 && refused > ran, "{ran} ran, {refused} were refused");
}

#[tokio::test]
async fn real_components_put_together_at_random_are_refused_or_run() {
    let corpus = [plugin("echo"), plugin("misbehave"), plugin("webhook")];
    let (_, refused) = all_are_refused_or_run(&corpus, REAL).await;
    assert!(refused > 0);
}
