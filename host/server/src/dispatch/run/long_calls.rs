//! Long calls: which threads a worker runs on. Short calls run where the host does everything else.
//! Two kinds of call go on on low-priority threads, which get what all others leave: a call that
//! has computed for long, and each call of a handler whose calls mostly compute for long or fail. A
//! handler has as many places there as there are processors. A call that had to give way keeps out
//! for a while. If nothing is left, a handler's calls are rationed: one at a time goes on on a
//! thread that sleeps nine tenths of the time. So guests that burn what they are given take no more
//! than that from the others.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

use super::threads::LongCallThreads;
use crate::dispatch::lease::pace::{LONG, Standing};
use host_sandbox::{Busy, thread_time};

/// One call that seems long may be an accident: the system may charge it for a processor that
/// another machine had (`steal` in proc_stat(5)). This many calls are none, unless a look at what
/// has run says otherwise in between.
const NO_ACCIDENT: u32 = 3;
/// Nor is one call that takes this many times as long.
const SURELY: u32 = 2;
/// A guest gives others a turn every hundredth of a second. If it takes ten times that, it had no
/// processor.
const STARVED: Duration = Duration::from_millis(100);
/// How long a call is rationed, before it is tried among the others again.
const RATIONED: Duration = Duration::from_secs(1);
/// A rationed call sleeps this many times as long as it has computed.
const SLEEP: u32 = 9;
/// A call gave way if it had a processor for less than half of its turn …
const GAVE_WAY: u32 = 2;
/// … and computed for this time. A call that only looks whether it may go on computes for less.
const COMPUTED: Duration = Duration::from_millis(1);
/// A call that gave way sleeps this many times as long as its turn. What it would have between the
/// turns of others is worth less than what that costs them.
const KEEP_OUT: u32 = 3;

/// What is expected of a handler's calls.
#[derive(Debug, Default)]
struct Expected {
    /// They begin on the low-priority threads.
    long: AtomicBool,
    /// The calls that seemed long since the last look at what has run.
    seemed: AtomicU32,
}

impl Expected {
    /// Notes a call that seems long. Other calls of the handler are likely to be the same.
    fn note_one(&self) {
        if self.seemed.fetch_add(1, Relaxed) + 1 >= NO_ACCIDENT {
            self.long.store(true, Relaxed);
        }
    }
}

/// Which threads one handler's workers run on. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    threads: LongCallThreads,
    /// How many of the handler's calls may compute at once on the low-priority threads.
    places: Arc<Semaphore>,
    /// The right to run on the thread for rationed calls.
    ration: Arc<Semaphore>,
    expected: Arc<Expected>,
}

impl Track {
    /// For one handler.
    #[must_use]
    pub(crate) fn new(threads: &LongCallThreads) -> Self {
        let places = Arc::new(Semaphore::new(threads.cores() as usize));
        let ration = Arc::new(Semaphore::new(1));
        Self { threads: threads.clone(), places, ration, expected: Arc::default() }
    }

    /// Says what the handler's calls are likely to do.
    pub(crate) fn expect(&self, standing: Standing) {
        self.expected.long.store(standing != Standing::Good, Relaxed);
        self.expected.seemed.store(0, Relaxed);
    }

    /// Runs a worker to its end, each of its calls where it belongs. `worker` watches its calls
    /// with what it is given.
    pub(crate) async fn carry<W>(self, worker: impl FnOnce(CallWatch) -> W)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let long = Arc::new(AtomicBool::new(self.expected.long.load(Relaxed)));
        let watch = CallWatch { expected: self.expected.clone(), long: long.clone() };
        let mut worker: BoxFuture<'static, ()> = Box::pin(worker(watch));
        let mut starved = false;
        loop {
            let ration = starved.then(|| self.ration.clone().try_acquire_owned().ok()).flatten();
            let place = match ration {
                _ if !long.load(Relaxed) => ThreadPlace::Shared,
                Some(ration) => ThreadPlace::Ration { since: Instant::now(), _held: ration },
                None => ThreadPlace::LowPriority(PollSemaphore::new(self.places.clone())),
            };
            let threads = place.threads(&self.threads).cloned();
            let stay = Stay { worker: Some(worker), long: long.clone(), place };
            let moving = match threads {
                // One that panicked is over.
                Some(threads) => threads.spawn(stay).await.unwrap_or(None),
                None => stay.await,
            };
            match moving {
                Some(moving) => Moving { worker, starved } = moving,
                None => return,
            }
        }
    }
}

/// Notes which of a worker's calls are long.
#[derive(Debug)]
pub(crate) struct CallWatch {
    expected: Arc<Expected>,
    /// The worker belongs among the long calls.
    long: Arc<AtomicBool>,
}

impl CallWatch {
    /// Whether the next call must not begin where the worker is. The worker moves when it gives
    /// others a turn.
    fn belongs_elsewhere(&self) -> bool {
        let expected = self.expected.long.load(Relaxed);
        self.long.swap(expected, Relaxed) != expected
    }

    /// Runs a call with this many `messages`, and notes when it has become a long one for them.
    pub(crate) async fn call<T>(
        &self,
        busy: &Busy,
        messages: u32,
        call: impl Future<Output = T>,
    ) -> T {
        let mut call = std::pin::pin!(call);
        // By the time that the worker is there, the call may belong elsewhere again.
        while self.belongs_elsewhere() {
            tokio::task::yield_now().await;
        }
        let mut seems_long = false;
        std::future::poll_fn(|cx| {
            let poll = call.as_mut().poll(cx);
            if poll.is_pending() && !self.long.load(Relaxed) {
                let time = busy.time();
                if !seems_long && time >= LONG * messages {
                    seems_long = true;
                    self.expected.note_one();
                }
                let surely =
                    || self.expected.long.load(Relaxed) || time >= LONG * messages * SURELY;
                self.long.store(seems_long && surely(), Relaxed);
            }
            poll
        })
        .await
    }
}

/// Where a worker runs.
enum ThreadPlace {
    /// On the threads that all share.
    Shared,
    /// On the low-priority threads, with a place among the long calls of its handler.
    LowPriority(PollSemaphore),
    /// On the thread for rationed calls, since then.
    Ration { since: Instant, _held: OwnedSemaphorePermit },
}

impl ThreadPlace {
    fn threads<'a>(&self, all: &'a LongCallThreads) -> Option<&'a Handle> {
        match self {
            Self::Shared => None,
            Self::LowPriority(_) => Some(all.idle()),
            Self::Ration { .. } => Some(all.rationed()),
        }
    }
}

/// A worker, until it is over (`None`) or belongs on other threads.
struct Stay {
    worker: Option<BoxFuture<'static, ()>>,
    /// It belongs among the long calls.
    long: Arc<AtomicBool>,
    place: ThreadPlace,
}

/// A worker that belongs on other threads.
struct Moving {
    worker: BoxFuture<'static, ()>,
    /// It was given no processor where it was.
    starved: bool,
}

impl Future for Stay {
    type Output = Option<Moving>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { worker, long, place } = &mut *self;
        let Some(running) = worker else { return Poll::Ready(None) };
        // Held for this poll: until its next look at its limits, or until it waits.
        let _place = match place {
            ThreadPlace::LowPriority(places) => ready!(places.poll_acquire(cx)),
            ThreadPlace::Shared | ThreadPlace::Ration { .. } => None,
        };
        let began = Instant::now();
        let began_cpu = thread_time();
        if running.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        let took = began.elapsed();
        let long = long.load(Relaxed);
        let starved = matches!(place, ThreadPlace::LowPriority(_)) && took >= STARVED;
        let moves = match place {
            ThreadPlace::Shared => long,
            ThreadPlace::LowPriority(_) => {
                thread::sleep(keeps_out(took, thread_time().saturating_sub(began_cpu)));
                !long || starved
            }
            ThreadPlace::Ration { since, .. } => {
                thread::sleep((took * SLEEP).min(RATIONED));
                !long || since.elapsed() >= RATIONED
            }
        };
        let moving = worker.take_if(|_| moves).map(|worker| Moving { worker, starved });
        moving.map_or(Poll::Pending, |moving| Poll::Ready(Some(moving)))
    }
}

/// How long a low-priority thread sleeps after a turn that took this long, with `cpu` of it on a
/// processor.
fn keeps_out(took: Duration, cpu: Duration) -> Duration {
    let gave_way = cpu >= COMPUTED && took > cpu * GAVE_WAY;
    if gave_way { took.min(STARVED) * KEEP_OUT } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    type Said = tokio::sync::mpsc::UnboundedSender<String>;

    /// A worker that is found to be a long one, and then makes a call; it says where it was before,
    /// and between.
    async fn worker(watch: CallWatch, said: Said) {
        said.send(thread()).unwrap();
        watch.long.store(true, Relaxed);
        tokio::task::yield_now().await;
        said.send(thread()).unwrap();
        watch.call(&Busy::default(), 1, async { said.send(thread()).unwrap() }).await;
    }

    /// Where it has been.
    async fn threads<W>(track: &Track, worker: impl FnOnce(CallWatch, Said) -> W) -> Vec<String>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        track.clone().carry(|watch| worker(watch, said)).await;
        let mut all = Vec::new();
        while let Some(thread) = heard.recv().await {
            all.push(thread);
        }
        all
    }

    #[tokio::test]
    async fn a_worker_goes_over_to_long_calls_and_comes_back() {
        let track = Track::new(&LongCallThreads::new(1).unwrap());
        // However busy the machine is with other tests, none is rationed.
        let _ration = track.ration.clone().try_acquire_owned().unwrap();
        let here = thread();
        assert_eq!(threads(&track, worker).await, [&*here, "long-calls", &*here]);

        // Of a handler whose calls are long, or fail, none begins among the short ones.
        for standing in [Standing::Long, Standing::Failing] {
            track.expect(standing);
            assert_eq!(threads(&track, worker).await, ["long-calls"; 3]);
        }
        track.expect(Standing::Good);
        assert_eq!(threads(&track, worker).await, [&*here, "long-calls", &*here]);
    }

    /// Where a worker is after a call that has computed for that long by its next look at its
    /// limits.
    async fn after(track: &Track, time: Duration) -> String {
        let worker = |watch: CallWatch, said: Said| async move {
            let busy = Busy::default();
            busy.spend(time);
            watch.call(&busy, 1, tokio::task::yield_now()).await;
            said.send(self::thread()).unwrap();
        };
        threads(track, worker).await.remove(0)
    }

    #[tokio::test]
    async fn a_call_begins_where_it_belongs_by_then() {
        let track = Track::new(&LongCallThreads::new(1).unwrap());
        // However busy the machine is with other tests, none is rationed.
        let _ration = track.ration.clone().try_acquire_owned().unwrap();
        track.expect(Standing::Long);
        let expected = track.clone();
        let worker = |watch: CallWatch, said: Said| async move {
            // It seemed short, and is known to be long when the worker is among the short ones.
            expected.expect(Standing::Good);
            let busy = Busy::default();
            let mut call = std::pin::pin!(watch.call(&busy, 1, async {}));
            assert!(futures_util::poll!(&mut call).is_pending());
            expected.expect(Standing::Long);
            tokio::task::yield_now().await;
            call.await;
            said.send(thread()).unwrap();
        };
        assert_eq!(threads(&track, worker).await, ["long-calls"]);
    }

    #[tokio::test]
    async fn one_call_that_seems_long_may_be_an_accident() {
        let track = Track::new(&LongCallThreads::new(1).unwrap());
        // However busy the machine is with other tests, none is rationed.
        let _ration = track.ration.clone().try_acquire_owned().unwrap();
        let here = thread();
        for _ in 0..2 {
            // Where it runs so far, unless it is surely long.
            assert_eq!(after(&track, LONG * SURELY).await, "long-calls");
            for _ in 2..NO_ACCIDENT {
                assert_eq!(after(&track, LONG).await, here);
            }
            assert_eq!(after(&track, LONG).await, "long-calls");
            let next = after(&track, Duration::ZERO).await;
            assert_eq!(next, "long-calls", "all are, from the first");
            track.expect(Standing::Good);
            assert_eq!(after(&track, Duration::ZERO).await, here);
        }
    }

    #[tokio::test]
    async fn one_that_gets_no_processor_is_rationed_for_a_while() {
        let track = Track::new(&LongCallThreads::new(1).unwrap());
        track.expect(Standing::Long);
        let starves = |_, said: Said| async move {
            // As if the system had run others.
            thread::sleep(STARVED);
            tokio::task::yield_now().await;
            said.send(self::thread()).unwrap();
            while self::thread() == "rationed-calls" {
                thread::sleep(Duration::from_millis(1));
                tokio::task::yield_now().await;
            }
            said.send(self::thread()).unwrap();
        };
        assert_eq!(threads(&track, starves).await, ["rationed-calls", "long-calls"]);

        // One of a handler at a time.
        let _ration = track.ration.clone().try_acquire_owned().unwrap();
        let starves = |_, said: Said| async move {
            thread::sleep(STARVED);
            tokio::task::yield_now().await;
            said.send(self::thread()).unwrap();
        };
        assert_eq!(threads(&track, starves).await, ["long-calls"]);
    }

    #[test]
    fn one_that_had_to_give_way_keeps_out_for_longer() {
        let ms = Duration::from_millis;
        assert_eq!(keeps_out(ms(10), ms(9)), Duration::ZERO, "it had its turn");
        assert_eq!(keeps_out(ms(10), Duration::ZERO), Duration::ZERO, "it only looked");
        assert_eq!(keeps_out(ms(20), ms(4)), ms(20) * KEEP_OUT);
        assert_eq!(keeps_out(STARVED * 10, ms(4)), STARVED * KEEP_OUT, "but not for ever");
    }

    #[tokio::test]
    async fn a_handler_has_as_many_places_as_there_are_processors() {
        let track = Track::new(&LongCallThreads::new(1).unwrap());
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
