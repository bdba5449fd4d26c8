//! What `wasmtime` makes of `wit/`: the types and calls of the world `handler`. Generated; holds no
//! decision.

#![allow(missing_docs, clippy::pedantic, reason = "generated code")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "handler",
    // Messages are lowered from borrowed bytes: a payload is copied once, into the guest.
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: { default: trappable },
    exports: { default: async },
});
