//! A job server: messages in Postgres, handlers in WebAssembly. `ARCHITECTURE.md` has the map.

pub mod id;
pub mod limits;
pub mod message;
pub mod outcome;
pub mod sandbox;
