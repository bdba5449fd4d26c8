//! The handlers that a benchmark brings along, as WebAssembly text. Each acks every message; what
//! it does before that differs. Never does I/O.

use std::time::Duration;

/// What a handler does beside acking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guest {
    /// Nothing.
    Noop,
    /// First of all writes its payload to the log, whose time is when it began.
    Mark,
    /// Waits.
    Wait(Duration),
}

/// The parts of `guest.wat` that differ: imports, core imports, what is done first, and what the
/// core module is given.
struct Parts {
    imports: &'static str,
    linked: &'static str,
    first: &'static str,
    host: &'static str,
}

const NOOP: Parts = Parts { imports: "", linked: "", first: "", host: "" };

/// The payload is the third field of the message: its pointer is at 16, its length at 20. 2 is
/// `info`.
const MARK: Parts = Parts {
    imports: r#"
    (import "host:jobs/log@1.0.0" (instance $log
        (type $level' (enum "trace" "debug" "info" "warn" "error"))
        (export "level" (type $level (eq $level')))
        (export "write" (func (param "level" $level) (param "text" string)))))
    (core func $write (canon lower (func $log "write") (memory (core memory $base "memory"))))"#,
    linked: r#"(import "host" "write" (func $write (param i32 i32 i32)))"#,
    first: "(call $write (i32.const 2)
                (i32.load offset=16 (local.get $message)) (i32.load offset=20 (local.get $message)))",
    host: r#"(with "host" (instance (export "write" (func $write))))"#,
};

const WAIT: Parts = Parts {
    imports: r#"
    (import "wasi:io/poll@0.2.0" (instance $poll
        (export "pollable" (type $pollable (sub resource)))
        (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
    (alias export $poll "pollable" (type $pollable))
    (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
        (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
    (core func $subscribe (canon lower (func $clock "subscribe-duration")))
    (core func $block (canon lower (func $poll "[method]pollable.block")))"#,
    linked: r#"
        (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
        (import "host" "block" (func $block (param i32)))"#,
    first: "(call $block (call $subscribe (i64.const {wait_ns})))",
    host: r#"(with "host" (instance
        (export "subscribe" (func $subscribe)) (export "block" (func $block))))"#,
};

impl Guest {
    /// The component.
    ///
    /// # Panics
    /// Never: the text is checked by a test.
    #[must_use]
    pub(crate) fn component(self) -> Vec<u8> {
        let parts = match self {
            Self::Noop => NOOP,
            Self::Mark => MARK,
            Self::Wait(_) => WAIT,
        };
        let wait = if let Self::Wait(wait) = self { wait } else { Duration::ZERO };
        let text = include_str!("guest.wat")
            .replace("{imports}", parts.imports)
            .replace("{linked}", parts.linked)
            .replace("{first}", parts.first)
            .replace("{wait_ns}", &wait.as_nanos().to_string())
            .replace("{host}", parts.host);
        wat::parse_str(text).expect("the text is valid")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_components() {
        for guest in [Guest::Noop, Guest::Mark, Guest::Wait(Duration::from_hours(1))] {
            assert!(guest.component().starts_with(b"\0asm\x0d\0\x01\0"), "{guest:?}");
        }
    }
}
