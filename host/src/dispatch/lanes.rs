//! Lanes: which threads a worker runs on. Short calls run where the host does everything else. A call that has
//! computed for long, and each call of a handler that is used to that, goes on on threads of lower priority, where
//! every handler has as many turns as there are processors. So guests that burn what they are given, however many
//! they are, get what the others leave, and a tenth of a processor that is never enough. Decides nothing about
//! messages.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;

use super::pace::LONG;
use crate::sandbox::Busy;

/// What `nice` calls it: a tenth of a processor beside one that is at 0.
const NICENESS: i32 = 10;

/// The threads for long calls, of all handlers of a host. Cheap to clone; they end with the last clone.
#[derive(Clone, Debug)]
pub struct Lanes {
    threads: Arc<Threads>,
    cores: u32,
}

#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Without waiting: it may be a task that drops it.
            runtime.shutdown_background();
        }
    }
}

impl Lanes {
    /// Starts a thread for each of `cores` processors.
    ///
    /// # Errors
    /// If the system gives no more threads.
    pub fn new(cores: u32) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(cores as usize)
            .thread_name("long-calls")
            .on_thread_start(lower_priority)
            .enable_all()
            .build()?;
        Ok(Self { threads: Arc::new(Threads(Some(runtime))), cores })
    }

    /// The number of these threads, and of processors.
    #[must_use]
    pub const fn cores(&self) -> u32 {
        self.cores
    }

    fn handle(&self) -> &Handle {
        self.threads.0.as_ref().expect("it is taken only when this is dropped").handle()
    }
}

/// Of the calling thread, for good: raising it again is not for everybody.
fn lower_priority() {
    // On Linux it is a thread that has a niceness, elsewhere the whole process.
    #[cfg(target_os = "linux")]
    // SAFETY: it takes numbers, and touches no memory. If it fails, long calls compete with short ones as equals.
    unsafe {
        nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, NICENESS);
    }
}

/// One handler's way into the lanes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lane {
    lanes: Lanes,
    /// The handler's calls that may compute at once on the threads for long calls.
    turns: Arc<Semaphore>,
    /// Whether its calls are long from the first.
    heavy: Arc<AtomicBool>,
}

impl Lane {
    /// For one handler.
    #[must_use]
    pub fn new(lanes: &Lanes) -> Self {
        let turns = Arc::new(Semaphore::new(lanes.cores as usize));
        Self { lanes: lanes.clone(), turns, heavy: Arc::default() }
    }

    /// Says whether the handler's calls are long from the first.
    pub fn set_heavy(&self, heavy: bool) {
        self.heavy.store(heavy, Relaxed);
    }

    /// Runs a worker to its end, each of its calls where it belongs; `worker` is given what it is to watch them with.
    pub async fn carry<W>(self, worker: impl FnOnce(Watch) -> W)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let is_long = Arc::new(AtomicBool::new(self.heavy.load(Relaxed)));
        let watch = Watch { heavy: self.heavy, is_long: is_long.clone() };
        let mut worker: BoxFuture<'static, ()> = Box::pin(worker(watch));
        loop {
            let here = is_long.load(Relaxed);
            let turn = here.then(|| PollSemaphore::new(self.turns.clone()));
            let stay = Stay { worker: Some(worker), is_long: is_long.clone(), turn };
            let left = if here {
                // One that panicked is over.
                self.lanes.handle().spawn(stay).await.unwrap_or(None)
            } else {
                stay.await
            };
            match left {
                Some(moved) => worker = moved,
                None => return,
            }
        }
    }
}

/// Tells a worker's calls apart.
#[derive(Debug)]
pub struct Watch {
    heavy: Arc<AtomicBool>,
    is_long: Arc<AtomicBool>,
}

impl Watch {
    /// Runs a call, and notes when it has become a long one.
    pub async fn call<T>(&self, busy: Busy, call: impl Future<Output = T>) -> T {
        let mut call = std::pin::pin!(call);
        self.is_long.store(self.heavy.load(Relaxed), Relaxed);
        std::future::poll_fn(|cx| {
            let poll = call.as_mut().poll(cx);
            if poll.is_pending() && !self.is_long.load(Relaxed) && busy.time() >= LONG {
                self.is_long.store(true, Relaxed);
                // Those beside it are likely to be the same, until they are known to be better.
                self.heavy.store(true, Relaxed);
            }
            poll
        })
        .await
    }
}

/// A worker, until it is over (`None`) or belongs in the other lane.
struct Stay {
    worker: Option<BoxFuture<'static, ()>>,
    is_long: Arc<AtomicBool>,
    /// Among the long calls of its handler; short ones take no turns.
    turn: Option<PollSemaphore>,
}

impl Future for Stay {
    type Output = Option<BoxFuture<'static, ()>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { worker, is_long, turn } = &mut *self;
        let Some(running) = worker else { return Poll::Ready(None) };
        // Held for this poll: until its next look at its limits, or until it waits.
        let _turn = match turn {
            Some(turn) => ready!(turn.poll_acquire(cx)),
            None => None,
        };
        match running.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending if is_long.load(Relaxed) == turn.is_some() => Poll::Pending,
            Poll::Pending => Poll::Ready(worker.take()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    /// A worker of two calls, the first of which is found to be long; it says where it was before and after.
    async fn worker(watch: Watch, said: tokio::sync::mpsc::UnboundedSender<String>) {
        said.send(thread()).unwrap();
        watch.is_long.store(true, Relaxed);
        tokio::task::yield_now().await;
        said.send(thread()).unwrap();
        watch.call(Busy::default(), tokio::task::yield_now()).await;
        said.send(thread()).unwrap();
    }

    #[tokio::test]
    async fn a_worker_goes_over_to_long_calls_and_comes_back() {
        let lane = Lane::new(&Lanes::new(1).unwrap());
        let here = thread();
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        lane.clone().carry(|watch| worker(watch, said)).await;
        let mut all = Vec::new();
        while let Some(thread) = heard.recv().await {
            all.push(thread);
        }
        assert_eq!(all, [&*here, "long-calls", &*here]);

        // Of a heavy handler no call begins among the short ones.
        lane.set_heavy(true);
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        lane.carry(|watch| worker(watch, said)).await;
        while let Some(thread) = heard.recv().await {
            assert_eq!(thread, "long-calls");
        }
    }

    #[tokio::test]
    async fn a_handler_has_as_many_turns_as_there_are_processors() {
        let lane = Lane::new(&Lanes::new(1).unwrap());
        lane.set_heavy(true);
        let turn = lane.turns.clone().acquire_owned().await.unwrap();
        let mut waits = Box::pin(lane.clone().carry(|_| async {}));
        assert!(futures_util::poll!(&mut waits).is_pending());
        // Another handler's turns are its own.
        let other = Lane { turns: Arc::new(Semaphore::new(1)), ..lane };
        other.carry(|_| async {}).await;
        assert!(futures_util::poll!(&mut waits).is_pending());
        drop(turn);
        waits.await;
    }
}
