//! Compiled code, and a version of a handler that is made of it.

use std::sync::Arc;

use super::bindings;
use super::http::Clients;
use super::reclaim::Reclaimer;
use super::settings::HandlerSettings;
use super::state::State;

/// A component, checked and compiled.
pub(super) struct Code {
    pub(super) pre: Pre,
    pub(super) reclaimer: Arc<Reclaimer>,
    /// The linear memory that it starts with, in bytes.
    pub(super) initial_memory_bytes: u64,
    /// Whether it can make requests.
    pub(super) has_http: bool,
}

/// A version of a handler.
pub(super) struct LoadedHandler {
    pub(super) code: Arc<Code>,
    pub(super) settings: Arc<HandlerSettings>,
    /// For a component that can make requests.
    pub(super) http: Option<Arc<Clients>>,
}

/// A component that is ready to be started, by the world that it targets.
pub(super) enum Pre {
    One(bindings::HandlerPre<State>),
    Many(bindings::batch::BatchHandlerPre<State>),
}
