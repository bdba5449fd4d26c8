//! Deploying: checks a component on this machine, stores it, and waits until the hosts run it.
//! Never calls a handler, and never stores what was not checked.

use std::time::{Duration, Instant};

use host_core::limits::{BATCH_SIZE, CONCURRENCY, OutOfRange, count_within};
use host_queue::admin::deployments::{self, Deployed, NewVersion, SessionReport, Version};
use host_queue::catalog::Settings;
use host_queue::connect::Pooled;
use host_queue::error::QueueError;
use host_sandbox::{Checked, CompileCheck, Refusal, Terms};

/// Between two looks at what hosts have reported. They hear of a deployment with their next
/// heartbeat, a quarter of a second at most.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why something was not deployed. Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// A limit that no deployment may have.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// The component is no handler, or not one for this host.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Postgres said no.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// A version in force, and whether it was already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The version.
    pub deployed: Deployed,
    /// The same component with the same settings was in force before: there is no new version.
    pub unchanged: bool,
}

/// Refuses settings that no version may have.
pub fn check_settings(settings: &Settings) -> Result<(), OutOfRange> {
    settings.limits.check()?;
    count_within("concurrency", settings.concurrency, &CONCURRENCY)?;
    settings.batch_size.map_or(Ok(()), |n| count_within("batch-size", n, &BATCH_SIZE))
}

/// Checks a component as a host would when it loads it.
pub async fn check(wasm: &[u8], settings: &Settings) -> Result<Checked, DeployError> {
    check_settings(settings)?;
    let terms = Terms {
        memory_bytes: settings.limits.memory_bytes,
        http: settings.http.clone(),
        cache_dir: None,
    };
    let check = CompileCheck::by_this_program().map_err(Refusal::from)?;
    Ok(check.run(wasm, &terms).await?)
}

/// Stores a version that was checked, and puts it in force, unless it is the one that is.
pub async fn store(
    client: &Pooled,
    new: &NewVersion<'_>,
    in_force: Option<&Version>,
) -> Result<InForce, DeployError> {
    let sha256 = new.component.sha256();
    let is_same = |v: &&Version| v.sha256 == sha256 && v.settings.as_ref() == Ok(new.settings);
    if let Some(same) = in_force.filter(is_same) {
        return Ok(InForce { deployed: same.deployed, unchanged: true });
    }
    let deployed = deployments::deploy(client, new).await?;
    Ok(InForce { deployed, unchanged: false })
}

/// How far the hosts are with a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Hosts that run it.
    pub running: Vec<String>,
    /// Hosts that cannot, each with the error.
    pub failed: Vec<(String, String)>,
    /// Hosts that have not said yet.
    pub silent: Vec<String>,
}

impl Progress {
    /// A session that is not connected is dead, or will load what is in force when it is back.
    fn of(reports: Vec<SessionReport>) -> Self {
        let mut progress = Self::default();
        for report in reports {
            match report.result {
                Some(Ok(())) => progress.running.push(report.host),
                Some(Err(error)) => progress.failed.push((report.host, error)),
                None if report.connected => progress.silent.push(report.host),
                None => {}
            }
        }
        progress
    }

    /// Hosts that are expected to report, those that have included.
    #[must_use]
    pub const fn hosts(&self) -> usize {
        self.running.len() + self.failed.len() + self.silent.len()
    }
}

/// Waits until every host has said what it makes of a version, or the time is over. `on_progress`
/// sees how far they are after each look.
pub async fn wait(
    client: &Pooled,
    of: Deployed,
    timeout: Duration,
    mut on_progress: impl FnMut(&Progress),
) -> Result<Progress, QueueError> {
    let started = Instant::now();
    loop {
        let progress = Progress::of(deployments::reports(client, of).await?);
        on_progress(&progress);
        if progress.silent.is_empty() || started.elapsed() >= timeout {
            return Ok(progress);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The version that a rollback goes to when it is not told: the newest before the one in force.
#[must_use]
pub fn version_before(versions: &[Version]) -> Option<i32> {
    let in_force = versions.iter().find(|v| v.in_force)?.deployed.version;
    versions.iter().map(|v| v.deployed.version).filter(|version| *version < in_force).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_core::id::SessionId;

    fn report(host: &str, connected: bool, result: Option<Result<(), String>>) -> SessionReport {
        SessionReport { session: SessionId::new(1), host: host.into(), connected, result }
    }

    #[test]
    fn only_hosts_that_can_answer_are_waited_for() {
        let progress = Progress::of(vec![
            report("a/1", true, Some(Ok(()))),
            report("b/2", true, Some(Err("no memory".into()))),
            report("c/3", true, None),
            report("d/4", false, None),
        ]);
        assert_eq!(progress.running, ["a/1"]);
        assert_eq!(progress.failed, [("b/2".to_owned(), "no memory".to_owned())]);
        assert_eq!(progress.silent, ["c/3"]);
        assert_eq!(progress.hosts(), 3);
    }
}
