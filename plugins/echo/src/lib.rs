//! The smallest handler: it acks every message. Copy it to begin one of your own.
//!
//! Build it with `cargo build --release --target wasm32-wasip2`, deploy it with
//! `host deploy --queue QUEUE target/wasm32-wasip2/release/echo.wasm`.

#![allow(missing_docs, clippy::same_length_and_capacity, reason = "what wit-bindgen generates")]

wit_bindgen::generate!({ path: "../../wit", world: "handler" });

/// The component. It holds nothing: under the isolation `message` each message gets a new one.
struct Echo;

impl Guest for Echo {
    /// Called once for each message.
    fn handle(_message: Message) -> Verdict {
        Verdict::Ack
    }
}

export!(Echo);
