//! Whether hosts live, whether their loops go round, and what goes wrong at them.

pub mod failures;
pub mod incident;
pub mod liveness;
pub mod progress;
