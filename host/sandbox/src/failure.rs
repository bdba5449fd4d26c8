//! From wasmtime's error to a `Failure`: what a call died of, in words for the handler's author.

use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::I32Exit;

use super::state::State;
use host_core::policy::outcome::Failure;

/// Why a tick ended a call.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum Exceeded {
    #[error("the limit of CPU time is used up")]
    Cpu,
    #[error("the timeout has passed")]
    Timeout,
}

/// Names what a call died of; `starting` while its sandbox was still being made.
pub(super) fn failure(error: &wasmtime::Error, state: &mut State, starting: bool) -> Failure {
    let panic = state.fail();
    let limits = state.limits();
    if let Some(exceeded) = error.downcast_ref::<Exceeded>() {
        return match exceeded {
            Exceeded::Cpu => Failure::Cpu(limits.cpu),
            Exceeded::Timeout => Failure::Timeout(limits.timeout),
        };
    }
    if let Some(full) = error.downcast_ref::<PoolConcurrencyLimitError>() {
        return Failure::Start(format!("all sandboxes of this host are in use ({full})"));
    }
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::StackOverflow) {
        return Failure::Stack;
    }
    // A guest whose allocation fails gives up in its own way, mostly with `unreachable`.
    if state.usage.memory_refused {
        return Failure::Memory(limits.memory_bytes);
    }
    let mut what = match (trap, error.downcast_ref::<I32Exit>()) {
        (Some(trap), _) => trap.to_string().trim_start_matches("wasm trap: ").into(),
        (None, Some(I32Exit(code))) => format!("the guest exited with status {code}"),
        (None, None) => first_line(&error.root_cause().to_string()),
    };
    if let Some(panic) = panic {
        what = format!("{what}; {panic}");
    }
    // It may quote what the guest handed over.
    let what = state.shown(what);
    if starting { Failure::Start(what) } else { Failure::Trap(what) }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().into()
}
