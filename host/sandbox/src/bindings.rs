//! The bindings that `wasmtime` generates from `wit/`: the types and calls of the world `handler`,
//! and the one call that `batch-handler` has besides. Generated; holds no decision.

#![allow(missing_docs, clippy::pedantic, reason = "generated code")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "handler",
    // Messages are lowered from borrowed bytes: a payload is copied once, into the guest.
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: { default: trappable },
    exports: { default: async },
});

pub(crate) mod batch {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "batch-handler",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "host:jobs/types@1.0.0": super::host::jobs::types,
            "host:jobs/log@1.0.0": super::host::jobs::log,
            "host:jobs/queue@1.0.0": super::host::jobs::queue,
            "host:jobs/results@1.0.0": super::host::jobs::results,
            "host:jobs/config@1.0.0": super::host::jobs::config,
            "host:jobs/secrets@1.0.0": super::host::jobs::secrets,
        },
    });
}
