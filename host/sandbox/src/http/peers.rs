//! The threads that talk to the servers of all guests. What a server sends is taken apart there
//! (TLS, heads, chunks), and names are looked up there: all work that somebody outside can cause.
//! The threads that lease, run and settle messages do none of it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::SandboxError;

/// How much these threads give way: one of them has a third of what a busy thread beside it gets.
const NICENESS: i32 = 5;
/// Names that are looked up at once, over all handlers.
const LOOKUPS_MAX: usize = 64;

/// The threads, once a component needs them: many hosts never do.
#[derive(Default)]
pub(crate) struct Peers(Mutex<Option<Arc<PeerThreads>>>);

/// As many threads as half of the processors. They end with the last of those who use them.
pub(crate) struct PeerThreads(Option<Runtime>);

impl Peers {
    /// # Errors
    /// If the system gives no more threads.
    pub(crate) fn threads(&self) -> Result<Arc<PeerThreads>, SandboxError> {
        let mut started = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(threads) = &*started {
            return Ok(threads.clone());
        }
        let threads = PeerThreads::start();
        let threads = threads.map_err(|error| SandboxError::Thread(error.to_string()))?;
        Ok(started.insert(Arc::new(threads)).clone())
    }
}

impl PeerThreads {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)))
            .max_blocking_threads(LOOKUPS_MAX)
            .thread_name("guest-http")
            // On Linux a thread's own; where it is refused, they are threads like all others.
            .on_thread_start(|| _ = rustix::process::nice(NICENESS))
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    pub(super) fn handle(&self) -> &Handle {
        self.0.as_ref().expect("it is taken only when this is dropped").handle()
    }
}

impl Drop for PeerThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Without waiting: it may be a task that drops it.
            runtime.shutdown_background();
        }
    }
}
