//! What a handler is deployed with: a component, what it may reach, and its secrets.

pub mod digest;
pub mod grant;
pub mod secret;
