//! `host queue set`, and the settings that `host queue create` has in common with it.

use std::time::Duration;

use clap::Args;

use crate::cli::{Context, Fail, lookup, show};
use crate::queue::{catalog, queues, unique};
use crate::unique::{OnDuplicate, Unique};

/// Change a queue's settings
///
/// Hosts and producers go on meanwhile. Whether a queue takes unique keys changes between two of its producers'
/// transactions: should one stay open, say so a second later again.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true)
    .args(["unique", "on_duplicate", "keep"]))]
#[command(after_help = "\
Examples:
  host queue set emails --unique 1h --on-duplicate refuse
  host queue set emails --unique off
  host queue set emails --keep 7d")]
pub struct Set {
    /// The queue
    name: String,
    #[command(flatten)]
    unique: UniqueArgs,
    /// Keep what is settled from now on readable for this long: 1m to 3650days. Or off, which forgets it all
    #[arg(long, value_name = "TIME", value_parser = window)]
    keep: Option<Window>,
}

/// Unique keys, as the command line has them.
#[derive(Debug, Args)]
pub struct UniqueArgs {
    /// Take a unique_key: it is taken for this long, and until its message is settled. Or off
    #[arg(long, value_name = "TIME", value_parser = window)]
    unique: Option<Window>,
    /// What becomes of a message whose key is taken: drop it, or refuse its INSERT
    #[arg(long, value_name = "WHAT", value_parser = on_duplicate())]
    on_duplicate: Option<String>,
}

/// `None`: off.
#[derive(Clone, Copy, Debug)]
struct Window(Option<Duration>);

fn window(text: &str) -> Result<Window, humantime::DurationError> {
    if text == "off" {
        return Ok(Window(None));
    }
    Ok(Window(Some(humantime::parse_duration(text)?)))
}

fn on_duplicate() -> clap::builder::PossibleValuesParser {
    OnDuplicate::ALL.map(OnDuplicate::name).into()
}

impl UniqueArgs {
    const fn is_given(&self) -> bool {
        self.unique.is_some() || self.on_duplicate.is_some()
    }

    /// What was `before`, changed as the flags say.
    pub fn resolve(&self, before: Option<Unique>) -> Result<Option<Unique>, Fail> {
        let window = self.unique.map_or(before.map(|u| u.window), |window| window.0);
        let given = self.on_duplicate.as_deref().and_then(OnDuplicate::from_name);
        let on_duplicate = given.or(before.map(|u| u.on_duplicate)).unwrap_or_default();
        if window.is_none() && given.is_some() {
            return Err(Fail::usage(
                "--on-duplicate is for a queue with unique keys: add --unique TIME",
            ));
        }
        let unique = window.map(|window| Unique { window, on_duplicate });
        unique
            .as_ref()
            .map_or(Ok(()), Unique::check)
            .map_err(|error| Fail::usage(error.to_string()))?;
        Ok(unique)
    }
}

impl Set {
    pub(super) async fn run(self, context: &Context) -> Result<(), Fail> {
        let client = lookup::client(context).await?;
        let catalog = catalog::load(&client).await?;
        let queue = lookup::queue(&catalog, &self.name)?;
        let unique = self.unique.resolve(queue.unique)?;
        let keep = self.keep.map(|keep| keep.0);
        let checked = keep.flatten().map_or(Ok(()), queues::check_keep);
        checked.map_err(|error| Fail::usage(error.to_string()))?;
        if self.unique.is_given() {
            unique::set(&client, &queue.name, unique).await?;
            println!("Unique keys of queue {}: {}", queue.name, described(unique));
        }
        if let Some(keep) = keep {
            queues::set_keep(&client, &queue.name, keep).await?;
            println!("Queue {} keeps settled messages {}", queue.name, kept(keep));
        }
        Ok(())
    }
}

/// How a queue takes unique keys, in words.
pub fn described(unique: Option<Unique>) -> String {
    let Some(Unique { window, on_duplicate }) = unique else { return "none".to_owned() };
    let least = match window {
        Duration::ZERO => String::new(),
        window => format!("for {} and ", show::duration(window)),
    };
    let what = match on_duplicate {
        OnDuplicate::Drop => "dropped",
        OnDuplicate::Refuse => "refused",
    };
    format!("taken {least}until the message is settled, duplicates are {what}")
}

/// How long a queue keeps what is settled, in words.
pub fn kept(keep: Option<Duration>) -> String {
    match keep {
        Some(keep) => format!("for {}", show::duration(keep)),
        None => "until they are rotated away".to_owned(),
    }
}
