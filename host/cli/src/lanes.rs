//! What `host queue create` takes about lanes.

use clap::Args;

use crate::error::CommandError;
use host_core::message::lane::{LaneCount, Lanes};

/// Which lanes a queue is to have.
#[derive(Debug, Args)]
pub(crate) struct LanesArgs {
    /// Run messages by priority: 1 (high) first; see host/docs/priorities.md
    #[arg(long)]
    priorities: bool,
    /// Run the messages of each key one at a time, in the order of commit. Keys share LANES lanes,
    /// each of which runs in order; see host/docs/order.md
    #[arg(long, value_name = "LANES", num_args = 0..=1, require_equals = true, default_missing_value = "256")]
    ordered: Option<LaneCount>,
    /// Apply the limits to each key. Keys share LANES lanes, which are served in turn; see
    /// host/docs/limits.md
    #[arg(long, value_name = "LANES", num_args = 0..=1, require_equals = true, default_missing_value = "256")]
    per_key: Option<LaneCount>,
}

impl LanesArgs {
    /// The lanes; refuses two kinds at once.
    pub(crate) fn resolve(&self) -> Result<Lanes, CommandError> {
        let why = match (self.priorities, self.ordered, self.per_key) {
            (true, Some(_), _) => {
                "--priorities and --ordered exclude each other: a high message would overtake others with its key"
            }
            (true, _, Some(_)) => {
                "--priorities and --per-key exclude each other: turns go by priority or by key"
            }
            (_, Some(_), Some(_)) => {
                "--ordered and --per-key exclude each other: an ordered queue has no limits yet"
            }
            (priorities, ordered, keyed) => {
                return Ok(Lanes::of(priorities, ordered.map(|n| n.0), keyed.map(|n| n.0)));
            }
        };
        Err(CommandError::usage(why))
    }
}
