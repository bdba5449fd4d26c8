//! Long calls: which threads a worker runs on. Short calls run where the host does everything else. A call that has
//! computed for long, and each call of a handler that is used to that, goes on on threads of lower priority, where
//! every handler has as many places as there are processors. So guests that burn what they are given, however many
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
pub struct LongCalls {
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

impl LongCalls {
    /// Starts a thread for each of `cores` processors.
    ///
    /// # Errors
    /// If the system gives no more threads.
    pub fn new(cores: u32) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(cores as usize)
            .thread_name("long-calls")
            // On Linux a thread's own; where it is refused, long calls compete with short ones as equals.
            .on_thread_start(|| _ = rustix::process::nice(NICENESS))
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

/// Which threads one handler's workers run on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Track {
    long_calls: LongCalls,
    /// The handler's calls that may compute at once on the threads for long calls.
    places: Arc<Semaphore>,
    /// Whether its calls are long from the first.
    heavy: Arc<AtomicBool>,
}

impl Track {
    /// For one handler.
    #[must_use]
    pub fn new(long_calls: &LongCalls) -> Self {
        let places = Arc::new(Semaphore::new(long_calls.cores as usize));
        Self { long_calls: long_calls.clone(), places, heavy: Arc::default() }
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
            let place = here.then(|| PollSemaphore::new(self.places.clone()));
            let stay = Stay { worker: Some(worker), is_long: is_long.clone(), place };
            let left = if here {
                // One that panicked is over.
                self.long_calls.handle().spawn(stay).await.unwrap_or(None)
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
    /// Runs a call with so many `messages`, and notes when it has become a long one for them.
    pub async fn call<T>(&self, busy: Busy, messages: u32, call: impl Future<Output = T>) -> T {
        let mut call = std::pin::pin!(call);
        self.is_long.store(self.heavy.load(Relaxed), Relaxed);
        std::future::poll_fn(|cx| {
            let poll = call.as_mut().poll(cx);
            if poll.is_pending() && !self.is_long.load(Relaxed) && busy.time() >= LONG * messages {
                self.is_long.store(true, Relaxed);
                // Those beside it are likely to be the same, until they are known to be better.
                self.heavy.store(true, Relaxed);
            }
            poll
        })
        .await
    }
}

/// A worker, until it is over (`None`) or belongs on the other threads.
struct Stay {
    worker: Option<BoxFuture<'static, ()>>,
    is_long: Arc<AtomicBool>,
    /// Among the long calls of its handler; short ones take no place.
    place: Option<PollSemaphore>,
}

impl Future for Stay {
    type Output = Option<BoxFuture<'static, ()>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { worker, is_long, place } = &mut *self;
        let Some(running) = worker else { return Poll::Ready(None) };
        // Held for this poll: until its next look at its limits, or until it waits.
        let _place = match place {
            Some(place) => ready!(place.poll_acquire(cx)),
            None => None,
        };
        match running.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending if is_long.load(Relaxed) == place.is_some() => Poll::Pending,
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
        watch.call(Busy::default(), 1, tokio::task::yield_now()).await;
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

        // Of a heavy handler no call begins among the short ones.
        track.set_heavy(true);
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        track.carry(|watch| worker(watch, said)).await;
        while let Some(thread) = heard.recv().await {
            assert_eq!(thread, "long-calls");
        }
    }

    #[tokio::test]
    async fn a_handler_has_as_many_places_as_there_are_processors() {
        let track = Track::new(&LongCalls::new(1).unwrap());
        track.set_heavy(true);
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
