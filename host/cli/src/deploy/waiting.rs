//! Waiting until the hosts run a version that was put in force, and saying how that went.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::error::CommandError;
use crate::show;
use host_queue::admin::deployments::Deployed;
use host_queue::connect::Pooled;
use host_server::deploy::{self, Progress};

/// Waiting for the hosts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Waiting for the hosts")]
pub(crate) struct Waiting {
    /// Do not wait until the running hosts have loaded it
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for them
    #[arg(long, value_name = "TIME", default_value = "1m")]
    wait: humantime::Duration,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Waiting {
    /// Waits, unless told not to, and says how it went; `more` is what JSON begins with.
    pub(crate) async fn wait(
        &self,
        client: &Pooled,
        of: Deployed,
        label: &str,
        mut more: Value,
    ) -> Result<(), CommandError> {
        let started = Instant::now();
        let mut progress = Progress::default();
        if !self.no_wait {
            let bar = progress_bar(label);
            progress = deploy::wait(client, of, self.wait.into(), |progress| {
                bar.set_length(progress.hosts() as u64);
                bar.set_position((progress.running.len() + progress.failed.len()) as u64);
            })
            .await?;
            bar.finish_and_clear();
        }
        if self.json {
            more["running_on"] = json!(progress.running);
            more["failed_on"] =
                progress.failed.iter().cloned().collect::<BTreeMap<_, _>>().into_iter().collect();
            more["silent"] = json!(progress.silent);
            more["waited_ms"] = json!(started.elapsed().as_millis() as u64);
            println!("{more}");
        } else if !self.no_wait && progress.failed.is_empty() && progress.silent.is_empty() {
            println!("{}", all_well(&progress, started.elapsed()));
        }
        not_running(&progress, label).map_or(Ok(()), |text| Err(CommandError::failed(text)))
    }
}

fn progress_bar(label: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} hosts {elapsed}");
    let bar = ProgressBar::new(0).with_message(format!("Loading {label}"));
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

fn all_well(progress: &Progress, took: Duration) -> String {
    match progress.running.len() {
        0 => "No host is running now: `host serve` will load it".into(),
        hosts => {
            format!("{} running it after {}", show::plural(hosts, "host"), show::duration(took))
        }
    }
}

/// Who does not run the version, and why.
fn not_running(progress: &Progress, label: &str) -> Option<String> {
    let failed =
        progress.failed.iter().map(|(host, error)| format!("{host} cannot run it: {error}"));
    let silent = progress
        .silent
        .iter()
        .map(|host| format!("{host} has not reported yet whether it runs it"));
    let all: Vec<String> = failed.chain(silent).collect();
    (!all.is_empty())
        .then(|| format!("{label} is in force, but {}; see `host handlers`", all.join("; ")))
}
