//! What `host queue create` takes about lanes.

use clap::Args;

use super::Fail;
use crate::lane::Lanes;

/// Which lanes a queue is to have.
#[derive(Debug, Args)]
pub struct LanesArgs {
    /// Take messages by their priority column: high, which is 1, first; see host/docs/priorities.md
    #[arg(long)]
    priorities: bool,
    /// Run messages of one key one at a time and in order of commit, in so many lanes; see host/docs/order.md
    #[arg(long, value_name = "LANES", num_args = 0..=1, require_equals = true, default_missing_value = "256")]
    ordered: Option<Lanes>,
}

impl LanesArgs {
    /// The lanes; refuses both kinds at once.
    pub fn resolve(&self) -> Result<Lanes, Fail> {
        match self.ordered {
            Some(_) if self.priorities => Err(Fail::usage(
                "--priorities and --ordered exclude each other: high would overtake the others of its key",
            )),
            Some(ordered) => Ok(ordered),
            None if self.priorities => Ok(Lanes::Priorities),
            None => Ok(Lanes::One),
        }
    }
}
