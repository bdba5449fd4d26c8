//! The threads for long calls: low-priority threads, which get what all others leave, and one
//! thread for calls that get nothing there. `long_calls` decides which calls run on them.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

/// The threads for long calls, of all handlers of a host. Cheap to clone; they end with the last
/// clone.
#[derive(Clone, Debug)]
pub struct LongCallThreads {
    idle: Arc<Threads>,
    rationed: Arc<Threads>,
    cores: u32,
}

#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Threads {
    fn start(
        count: u32,
        name: &str,
        on_start: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(count as usize)
            .thread_name(name)
            .on_thread_start(on_start)
            // Each turn is long here: whoever waits for anything but a turn is not to wait for
            // many.
            .event_interval(1)
            .global_queue_interval(1)
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> &Handle {
        self.0.as_ref().expect("it is taken only when this is dropped").handle()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Without waiting: it may be a task that drops it.
            runtime.shutdown_background();
        }
    }
}

/// The length of turn that a low-priority thread asks for, the longest that there is. From Linux
/// 6.12 on, a thread that wakes and asks for a shorter turn comes before it at once
/// (`do_preempt_short` in kernel/sched/fair.c). On a server the two threads are often in different
/// groups, and the system looks at nothing else. Without this, the low-priority thread would finish
/// its turn first, up to the next tick of the clock.
const TURN: Duration = Duration::from_millis(100);

/// Has this thread run only where no other thread wants to: it has a three hundredth of a processor
/// that others use. This is better than niceness: when the system wakes others, it takes the
/// processor of such a thread for a free one (`sched_idle_cpu` in Linux's kernel/sched/fair.c). So
/// the others need not queue behind one another.
fn be_idle() {
    // Where it is refused, long calls compete with short ones as equals. The first for the length
    // of turn, which it keeps.
    schedule(libc::SCHED_BATCH, TURN);
    schedule(libc::SCHED_IDLE, Duration::ZERO);
}

/// Sets this thread's policy and length of turn, as sched_setattr(2) has it.
fn schedule(policy: i32, turn: Duration) {
    let attr = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: policy as u32,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: turn.as_nanos() as u64,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes, which are there until it returns, and writes nothing.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
}

impl LongCallThreads {
    /// Starts a thread for each of `cores` processors, and one.
    ///
    /// # Errors
    /// If the system gives no more threads.
    pub fn new(cores: u32) -> std::io::Result<Self> {
        let idle = Arc::new(Threads::start(cores, "long-calls", be_idle)?);
        let rationed = Arc::new(Threads::start(1, "rationed-calls", || {})?);
        Ok(Self { idle, rationed, cores })
    }

    /// Those that get what all others leave.
    pub(super) fn idle(&self) -> &Handle {
        self.idle.handle()
    }

    /// The one whose calls are to be rationed.
    pub(super) fn rationed(&self) -> &Handle {
        self.rationed.handle()
    }

    /// The number of processors.
    #[must_use]
    pub const fn cores(&self) -> u32 {
        self.cores
    }
}
