//! Runs handlers. The only crate that names wasmtime: a component's bytes go in, verdicts come out.
//! It never speaks to Postgres and knows no lease.
//!
//! ```text
//! Sandbox ─ compile(bytes) ─► Compiled ─ handler(settings) ─► Handler ─ runner() ─► Runner
//! one a host                  one a component                 one a version         one a worker
//! ```
//!
//! A guest can touch only what its settings grant: messages, its configuration, a log, follow-ups,
//! HTTP to servers and secrets by name. It has no files and no environment, and everything that it
//! can use up has a limit.

mod bindings;
mod cache;
mod code;
mod compile_check;
mod compiler;
mod component_check;
mod engine;
mod error;
mod failure;
mod http;
mod image;
mod instance;
mod log;
mod measure;
mod meter;
mod reclaim;
mod runner;
mod sandbox;
mod settings;
mod state;
mod timeout;

pub use self::compile_check::{Bounds, Checked, CompileCheck, Terms, try_here};
pub use self::component_check::Refusal;
pub use self::error::SandboxError;
pub use self::meter::{Busy, thread_time};
pub use self::runner::{BatchRun, Run, Runner};
pub use self::sandbox::{Compiled, Handler, Sandbox};
pub use self::settings::{FollowUpQueues, FollowUpTargets, HandlerSettings, SandboxConfig};

/// Targets of the log that write a line for each mistake of a guest or of its servers, however many
/// they make: to be left out. What is worth knowing is said as the guest's own, within its limit.
pub const LOGS_WITHOUT_LIMIT: [&str; 2] = ["wasmtime_wasi_http", "rustls"];
