//! Long calls: which threads a worker runs on. Short calls run where the host does everything else. A call that has
//! computed for long, and each call of a handler that is used to that, goes on on threads of lower priority, where
//! every handler has as many places as there are processors; one that does little but fail has threads of the lowest.
//! So guests that burn what they are given, however many they are, get what the others leave, and a thirtieth of
//! a processor that is never enough; a seventieth, if most come to nothing. Decides nothing about messages.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;

use super::pace::{LONG, Standing};
use crate::sandbox::Busy;

/// What `nice` calls it: a thirtieth of a processor beside one that is at 0, which is at 1,024 (`sched_prio_to_weight` in
/// Linux's kernel/sched/core.c).
const NICENESS: i32 = 15;
/// The most that there is: a seventieth.
const NICENESS_MAX: i32 = 19;

/// The threads for long calls, of all handlers of a host. Cheap to clone; they end with the last clone.
#[derive(Clone, Debug)]
pub struct LongCalls {
    /// For those that take long, and for those that fail.
    threads: Arc<[Threads; 2]>,
    cores: u32,
}

#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Threads {
    fn start(count: u32, name: &str, niceness: i32) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(count as usize)
            .thread_name(name)
            // On Linux a thread's own; where it is refused, long calls compete with short ones as equals.
            .on_thread_start(move || _ = rustix::process::nice(niceness))
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
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

impl LongCalls {
    /// Starts two threads for each of `cores` processors.
    ///
    /// # Errors
    /// If the system gives no more threads.
    pub fn new(cores: u32) -> std::io::Result<Self> {
        let long = Threads::start(cores, "long-calls", NICENESS)?;
        let failing = Threads::start(cores, "failing-calls", NICENESS_MAX)?;
        Ok(Self { threads: Arc::new([long, failing]), cores })
    }

    /// The number of processors.
    #[must_use]
    pub const fn cores(&self) -> u32 {
        self.cores
    }

    /// The threads for calls of that standing; `None`: those that all share.
    fn handle(&self, standing: Standing) -> Option<&Handle> {
        let [long, failing] = &*self.threads;
        let threads = match standing {
            Standing::Good => return None,
            Standing::Long => long,
            Standing::Failing => failing,
        };
        Some(threads.0.as_ref().expect("it is taken only when this is dropped").handle())
    }
}

/// A standing that many tasks look at.
#[derive(Debug, Default)]
struct SharedStanding(AtomicU8);

impl SharedStanding {
    fn get(&self) -> Standing {
        match self.0.load(Relaxed) {
            0 => Standing::Good,
            1 => Standing::Long,
            _ => Standing::Failing,
        }
    }

    fn set(&self, standing: Standing) {
        self.0.store(standing as u8, Relaxed);
    }
}

/// Which threads one handler's workers run on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Track {
    long_calls: LongCalls,
    /// The handler's calls that may compute at once on the threads for long calls.
    places: Arc<Semaphore>,
    /// What its calls are from the first.
    expected: Arc<SharedStanding>,
}

impl Track {
    /// For one handler.
    #[must_use]
    pub fn new(long_calls: &LongCalls) -> Self {
        let places = Arc::new(Semaphore::new(long_calls.cores as usize));
        Self { long_calls: long_calls.clone(), places, expected: Arc::default() }
    }

    /// Says what the handler's calls are from the first.
    pub fn expect(&self, standing: Standing) {
        self.expected.set(standing);
    }

    /// Runs a worker to its end, each of its calls where it belongs; `worker` is given what it is to watch them with.
    pub async fn carry<W>(self, worker: impl FnOnce(Watch) -> W)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let standing = Arc::new(SharedStanding::default());
        standing.set(self.expected.get());
        let watch = Watch { expected: self.expected, standing: standing.clone() };
        let mut worker: BoxFuture<'static, ()> = Box::pin(worker(watch));
        loop {
            let here = standing.get();
            let threads = self.long_calls.handle(here);
            let place = threads.map(|_| PollSemaphore::new(self.places.clone()));
            let stay = Stay { worker: Some(worker), standing: standing.clone(), here, place };
            let left = match threads {
                // One that panicked is over.
                Some(threads) => threads.spawn(stay).await.unwrap_or(None),
                None => stay.await,
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
    expected: Arc<SharedStanding>,
    standing: Arc<SharedStanding>,
}

impl Watch {
    /// Runs a call with so many `messages`, and notes when it has become a long one for them.
    pub async fn call<T>(&self, busy: &Busy, messages: u32, call: impl Future<Output = T>) -> T {
        let mut call = std::pin::pin!(call);
        self.standing.set(self.expected.get());
        std::future::poll_fn(|cx| {
            let poll = call.as_mut().poll(cx);
            let good = || self.standing.get() == Standing::Good;
            if poll.is_pending() && good() && busy.time() >= LONG * messages {
                self.standing.set(Standing::Long);
                // Those beside it are likely to be the same, until they are known to be better.
                if self.expected.get() == Standing::Good {
                    self.expected.set(Standing::Long);
                }
            }
            poll
        })
        .await
    }
}

/// A worker, until it is over (`None`) or belongs on other threads.
struct Stay {
    worker: Option<BoxFuture<'static, ()>>,
    standing: Arc<SharedStanding>,
    /// That of the threads that it is on.
    here: Standing,
    /// Among the long calls of its handler; short ones take no place.
    place: Option<PollSemaphore>,
}

impl Future for Stay {
    type Output = Option<BoxFuture<'static, ()>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { worker, standing, here, place } = &mut *self;
        let Some(running) = worker else { return Poll::Ready(None) };
        // Held for this poll: until its next look at its limits, or until it waits.
        let _place = match place {
            Some(place) => ready!(place.poll_acquire(cx)),
            None => None,
        };
        match running.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending if standing.get() == *here => Poll::Pending,
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
        watch.standing.set(Standing::Long);
        tokio::task::yield_now().await;
        said.send(thread()).unwrap();
        watch.call(&Busy::default(), 1, tokio::task::yield_now()).await;
        said.send(thread()).unwrap();
    }

    #[tokio::test]
    async fn a_worker_goes_over_to_long_calls_and_comes_back() {
        let track = Track::new(&LongCalls::new(1).unwrap());
        let here = thread();
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        track.clone().carry(|watch| worker(watch, said)).await;
        let mut all = Vec::new();
        while let Some(thread) = heard.recv().await {
            all.push(thread);
        }
        assert_eq!(all, [&*here, "long-calls", &*here]);

        // Of a handler whose calls are long, none begins among the short ones.
        track.expect(Standing::Long);
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        track.clone().carry(|watch| worker(watch, said)).await;
        while let Some(thread) = heard.recv().await {
            assert_eq!(thread, "long-calls");
        }
        // One that fails has threads of its own.
        track.expect(Standing::Failing);
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        track.carry(|watch| worker(watch, said)).await;
        assert_eq!(heard.recv().await.unwrap(), "failing-calls");
    }

    #[tokio::test]
    async fn a_handler_has_as_many_places_as_there_are_processors() {
        let track = Track::new(&LongCalls::new(1).unwrap());
        track.expect(Standing::Long);
        let place = track.places.clone().acquire_owned().await.unwrap();
        let mut waits = Box::pin(track.clone().carry(|_| async {}));
        assert!(futures_util::poll!(&mut waits).is_pending());
        // Another handler's places are its own.
        let other = Track { places: Arc::new(Semaphore::new(1)), ..track };
        other.carry(|_| async {}).await;
        assert!(futures_util::poll!(&mut waits).is_pending());
        drop(place);
        waits.await;
    }
}
