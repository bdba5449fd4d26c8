//! `host queue set`.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::super::{Context, Fail, lookup, show};
use crate::queue::{catalog, queues};

/// Change a queue's settings
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host queue set emails --keep 7d
  host queue set emails --keep none")]
pub struct Set {
    /// The queue
    name: String,
    /// Keep what is settled from now on readable for so long: 1m to 3650days; none forgets it all
    #[arg(long, value_name = "TIME")]
    keep: Keep,
}

/// How long a queue is to keep what is settled.
#[derive(Clone, Copy, Debug)]
struct Keep(Option<Duration>);

impl FromStr for Keep {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self(None));
        }
        humantime::parse_duration(text).map(|keep| Self(Some(keep)))
    }
}

impl Set {
    /// Does it.
    pub async fn run(self, context: &Context) -> Result<(), Fail> {
        let Keep(keep) = self.keep;
        keep.map_or(Ok(()), queues::check_keep).map_err(|error| Fail::usage(error.to_string()))?;
        let client = lookup::client(context).await?;
        let catalog = catalog::load(&client).await?;
        let queue = &lookup::queue(&catalog, &self.name)?.name;
        queues::set_keep(&client, queue, keep).await?;
        println!("Queue {queue} keeps settled messages {}", kept(keep));
        Ok(())
    }
}

/// For how long, in words.
pub fn kept(keep: Option<Duration>) -> String {
    match keep {
        Some(keep) => format!("for {}", show::duration(keep)),
        None => "until they are rotated away".to_owned(),
    }
}
