//! Why a benchmark has no figures.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use host_queue::admin::queues::DropError;
use host_queue::error::QueueError;
use host_server::deploy::DeployError;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Postgres said no.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The handler cannot be deployed.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// The queue could not be removed.
    #[error("cannot remove the benchmark's queue: {0}")]
    NotRemoved(#[from] DropError),
    /// Somebody else works in this database.
    #[error(
        "{0}: give the benchmark a database of its own, or none, and it starts a server of its own"
    )]
    NotAlone(String),
    /// A benchmark that was killed has left something.
    #[error(
        "queue {0} is left over from a benchmark that was killed; remove it: host queue drop {0} --force"
    )]
    LeftBehind(String),
    /// No process could be started.
    #[error("cannot run {}: {source}", program.display())]
    NoHost {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A host ended before its time.
    #[error("a host ended during the run ({status}): {last}")]
    HostEnded {
        /// How.
        status: ExitStatus,
        /// The last line of its log.
        last: String,
    },
    /// A host cannot run the handler.
    #[error("a host cannot run the handler: {0}")]
    NotLoaded(String),
    /// The hosts do nothing, though there are messages.
    #[error("no message was settled for {0:?}, though {1} are there")]
    Stalled(Duration, u64),
    /// What should have been in the way was not.
    #[error("`--hold {0}` ended before the run did: nothing was measured")]
    NotHeld(&'static str),
    /// It took longer to enqueue them than there was time.
    #[error("the first message was due {0:?} before all were enqueued: give --delay more")]
    Late(Duration),
    /// The baseline read back other rows than it wrote.
    #[error("{rows} rows were copied in, and {read} read out")]
    NotRead {
        /// Copied in.
        rows: u64,
        /// Read out.
        read: u64,
    },
    /// The system said no.
    #[error("the system refused: {0}")]
    Io(std::io::Error),
    /// The user said to stop.
    #[error("interrupted; the benchmark's queue is removed")]
    Interrupted,
}
