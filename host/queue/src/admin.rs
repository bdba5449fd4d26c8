//! What operators change: queues, handlers and their secrets, single messages, dead letters. Never
//! on the way of a message.

pub mod dead;
pub mod deployments;
pub mod limits;
pub mod message;
pub mod queues;
pub mod secrets;
pub mod set_up;
pub mod unique;
