//! `host queue set`, and the settings that `host queue create` has in common with it.

use std::time::Duration;

use clap::Args;

use crate::cli::{Context, Fail, lookup, show};
use crate::queue::{catalog, unique};
use crate::unique::{OnDuplicate, Unique};

/// Change a queue's settings
///
/// Hosts and producers go on meanwhile. Whether a queue takes unique keys changes between two of its producers'
/// transactions: should one stay open, say so a second later again.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true)
    .args(["unique", "on_duplicate"]))]
#[command(after_help = "\
Examples:
  host queue set emails --unique 1h --on-duplicate refuse
  host queue set emails --unique off")]
pub struct Set {
    /// The queue
    name: String,
    #[command(flatten)]
    unique: UniqueArgs,
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
        unique::set(&client, &queue.name, unique).await?;
        println!("Unique keys of queue {}: {}", queue.name, described(unique));
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
