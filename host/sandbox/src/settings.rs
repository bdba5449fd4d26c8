//! How handlers run: what a host grants to all of them, and what a deployment grants to one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use host_core::deployment::grant::HttpGrant;
use host_core::deployment::secret::{SecretName, Secrets};
use host_core::limits::{Isolation, Limits};
use host_core::message::{PayloadType, QueueShape};

/// What a host grants to all its guests together.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Sandboxes that exist at once; a [`Runner`](crate::Runner) may hold one each.
    pub instances_max: u32,
    /// Where compiled code is kept between runs; `None` compiles anew each time. The directory is
    /// made if it is missing, and must belong to this host's user alone.
    pub cache_dir: Option<PathBuf>,
}

/// How a handler is called: what its deployment and its queue say.
#[derive(Clone, Debug)]
pub struct HandlerSettings {
    /// The queue's name.
    pub queue: String,
    /// The version, for the log.
    pub version: i32,
    /// What the queue's payloads are.
    pub payload_type: PayloadType,
    /// The queue's; told to the handler.
    pub max_attempts: u32,
    /// What one call may use.
    pub limits: Limits,
    /// Messages of a call, at most, for a component that takes many; `None`: the default.
    pub batch_size: Option<u32>,
    /// When a sandbox is thrown away.
    pub isolation: Isolation,
    /// What `host deploy --config` gave.
    pub config: BTreeMap<String, String>,
    /// The HTTP requests that `host deploy --http` allows.
    pub http: Vec<HttpGrant>,
    /// The secrets that `host deploy --secret` allows.
    pub secret_names: BTreeSet<SecretName>,
    /// Where their values are found.
    pub secrets: Secrets,
    /// Where follow-ups may go.
    pub targets: FollowUpTargets,
}

/// The queues that exist, so that a guest hears at once of a follow-up that cannot be stored.
/// Swapped when the catalog changes.
pub type FollowUpTargets = Arc<ArcSwap<FollowUpQueues>>;

/// Queues by their names.
#[derive(Clone, Debug, Default)]
pub struct FollowUpQueues {
    known: HashMap<String, QueueShape>,
    /// What is not known is there, too, and takes whatever comes.
    takes_all: bool,
}

impl FollowUpQueues {
    /// Any queue, which takes anything: for a handler that is tried without a database.
    #[must_use]
    pub fn all() -> Self {
        Self { takes_all: true, ..Self::default() }
    }

    /// Whether there is a queue of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.takes_all || self.known.contains_key(name)
    }

    /// What the queue takes; `None`: anything, if there is one.
    pub(crate) fn shape(&self, name: &str) -> Option<&QueueShape> {
        self.known.get(name)
    }
}

impl FromIterator<(String, QueueShape)> for FollowUpQueues {
    fn from_iter<I: IntoIterator<Item = (String, QueueShape)>>(queues: I) -> Self {
        Self { known: queues.into_iter().collect(), takes_all: false }
    }
}
