//! `host queue set`, and the settings that `host queue create` has in common with it.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::context::CommandContext;
use crate::error::CommandError;
use crate::{lookup, show};
use host_core::lane::Lanes;
use host_core::queue_limits::{PerInterval, QueueLimits, Rate};
use host_core::unique::{OnDuplicate, Unique};
use host_queue::{limits, queues, unique};

/// Change a queue's settings
///
/// Hosts and producers go on meanwhile. A change of unique keys waits for the producers' open
/// transactions, up to a second. If one stays open longer, the command fails: run it again.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true)
    .args(["unique", "on_duplicate", "fleet_concurrency", "rate", "burst", "keep", "no_wake_up", "wake_up"]))]
#[command(after_help = "\
Examples:
  host queue set emails --unique 1h --on-duplicate refuse
  host queue set emails --rate 100/1s --burst 20 --fleet-concurrency 8
  host queue set emails --rate off --unique off
  host queue set emails --keep 7d
  host queue set emails --no-wake-up")]
pub(crate) struct Set {
    /// The queue
    name: String,
    #[command(flatten)]
    unique: UniqueArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// Keep messages readable that are settled from now on, for this long: 1m to 3650days. Or off,
    /// which also forgets those kept so far
    #[arg(long, value_name = "TIME", value_parser = or_off::<humantime::Duration>)]
    keep: Option<OrOff<humantime::Duration>>,
    /// Never NOTIFY on INSERT: hosts poll. For producers that use PREPARE TRANSACTION
    #[arg(long)]
    no_wake_up: bool,
    /// NOTIFY on INSERT while a host sleeps
    #[arg(long, conflicts_with = "no_wake_up")]
    wake_up: bool,
}

/// Unique keys, as the command line has them.
#[derive(Debug, Args)]
pub(crate) struct UniqueArgs {
    /// Accept a unique_key. A message holds its key for this time, and until it is settled. Or off
    #[arg(long, value_name = "TIME", value_parser = or_off::<humantime::Duration>)]
    unique: Option<OrOff<humantime::Duration>>,
    /// What happens to a message whose key is taken: drop it, or refuse its INSERT
    #[arg(long, value_name = "WHAT", value_parser = on_duplicate())]
    on_duplicate: Option<String>,
}

/// Limits, as the command line has them.
#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// Messages in flight at once on all hosts, for each handler; or off
    #[arg(long, value_name = "N", value_parser = or_off::<u32>)]
    fleet_concurrency: Option<OrOff<u32>>,
    /// Messages started in a time on all hosts, for each handler, such as 100/1s; or off
    #[arg(long, value_name = "N/TIME", value_parser = or_off::<PerInterval>)]
    rate: Option<OrOff<PerInterval>>,
    /// Messages that may start at once after a pause [default: the number in --rate]
    #[arg(long, value_name = "N")]
    burst: Option<u32>,
}

/// A setting, or `None`: off.
#[derive(Clone, Copy, Debug)]
struct OrOff<T>(Option<T>);

fn or_off<T: FromStr>(text: &str) -> Result<OrOff<T>, T::Err> {
    if text == "off" { Ok(OrOff(None)) } else { text.parse().map(|value| OrOff(Some(value))) }
}

fn on_duplicate() -> clap::builder::PossibleValuesParser {
    OnDuplicate::ALL.map(OnDuplicate::name).into()
}

impl UniqueArgs {
    const fn is_given(&self) -> bool {
        self.unique.is_some() || self.on_duplicate.is_some()
    }

    /// What was `before`, changed as the flags say.
    pub(crate) fn resolve(&self, before: Option<Unique>) -> Result<Option<Unique>, CommandError> {
        let window =
            self.unique.map_or(before.map(|u| u.window), |window| window.0.map(Into::into));
        let given = self.on_duplicate.as_deref().and_then(OnDuplicate::from_name);
        let on_duplicate = given.or(before.map(|u| u.on_duplicate)).unwrap_or_default();
        if window.is_none() && given.is_some() {
            return Err(CommandError::usage(
                "--on-duplicate is for a queue with unique keys: add --unique TIME",
            ));
        }
        let unique = window.map(|window| Unique { window, on_duplicate });
        unique
            .as_ref()
            .map_or(Ok(()), Unique::check)
            .map_err(|error| CommandError::usage(error.to_string()))?;
        Ok(unique)
    }
}

impl LimitArgs {
    const fn is_given(&self) -> bool {
        self.fleet_concurrency.is_some() || self.rate.is_some() || self.burst.is_some()
    }

    /// What was `before`, changed as the flags say.
    pub(crate) fn resolve(&self, before: QueueLimits) -> Result<QueueLimits, CommandError> {
        let mut limits = before;
        if let Some(OrOff(messages)) = self.fleet_concurrency {
            limits.fleet_concurrency = messages;
        }
        if let Some(OrOff(rate)) = self.rate {
            limits.rate =
                rate.map(|PerInterval { count, interval }| Rate { count, interval, burst: count });
        }
        match (self.burst, &mut limits.rate) {
            (Some(burst), Some(rate)) => rate.burst = burst,
            (Some(_), None) => {
                return Err(CommandError::usage(
                    "--burst is for a queue with a rate: add --rate N/TIME",
                ));
            }
            (None, _) => {}
        }
        limits.check().map_err(|error| CommandError::usage(error.to_string()))?;
        Ok(limits)
    }
}

impl Set {
    pub(super) async fn run(self, context: &CommandContext) -> Result<(), CommandError> {
        let (client, catalog) = lookup::client_and_catalog(context).await?;
        let queue = lookup::queue(&catalog, &self.name)?;
        let unique = self.unique.resolve(queue.unique)?;
        let limits = self.limits.resolve(queue.limits)?;
        let keep = self.keep.map(|keep| keep.0.map(Into::into));
        let checked = keep.flatten().map_or(Ok(()), queues::check_keep);
        checked.map_err(|error| CommandError::usage(error.to_string()))?;
        if self.unique.is_given() {
            unique::set(&client, &queue.name, unique).await?;
            println!("Unique keys of queue {}: {}", queue.name, keys_text(unique));
        }
        if self.limits.is_given() {
            limits::set(&client, &queue.name, limits).await?;
            println!("Limits of queue {}: {}", queue.name, limits_text(limits, queue.lanes));
        }
        if let Some(keep) = keep {
            queues::set_keep(&client, &queue.name, keep).await?;
            println!("Queue {} keeps settled messages {}", queue.name, kept(keep));
        }
        if self.wake_up || self.no_wake_up {
            queues::set_wake_up(&client, &queue.name, self.wake_up).await?;
            println!("Queue {} wakes hosts {}", queue.name, wake_up_text(self.wake_up));
        }
        Ok(())
    }
}

/// How a queue takes unique keys, in words.
pub(crate) fn keys_text(unique: Option<Unique>) -> String {
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

/// How hosts hear of new messages, in words.
pub(crate) const fn wake_up_text(wake_up: bool) -> &'static str {
    if wake_up { "by NOTIFY" } else { "by polling only" }
}

/// How long a queue keeps what is settled, in words.
pub(crate) fn kept(keep: Option<Duration>) -> String {
    match keep {
        Some(keep) => format!("for {}", show::duration(keep)),
        None => "until they are rotated away".to_owned(),
    }
}

/// A queue's limits, in words.
pub(crate) fn limits_text(limits: QueueLimits, lanes: Lanes) -> String {
    let fleet = limits.fleet_concurrency.map(|messages| format!("{messages} in flight"));
    let rate = limits.rate.map(|Rate { count, interval, burst }| {
        format!("{count} every {}, {burst} at once", show::duration(interval))
    });
    let all: Vec<String> = fleet.into_iter().chain(rate).collect();
    let each = if lanes.keyed().is_some() { ", for each key" } else { "" };
    if all.is_empty() { "none".to_owned() } else { all.join("; ") + each }
}

/// A queue's limits, for machines.
pub(crate) fn limits_json(limits: QueueLimits, lanes: Lanes) -> Value {
    json!({
        "per_key": lanes.keyed().is_some(),
        "fleet_concurrency": limits.fleet_concurrency,
        "rate": limits.rate.map(|rate| json!({
            "count": rate.count,
            "interval_ms": rate.interval.as_millis() as u64,
            "burst": rate.burst,
        })),
    })
}
