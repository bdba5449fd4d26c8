//! A host: one dispatcher for each handler, deployment, and what a running server does beside.

pub mod deploy;
pub mod dispatch;
pub mod rest;
pub mod serve;
