//! Set-up as a file: queues, handlers and cron entries in TOML, for `host apply` and `host export`.

pub(crate) mod entries;
pub(crate) mod file;
pub(crate) mod plan;
pub(crate) mod values;
pub(crate) mod wanted;
