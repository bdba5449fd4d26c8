//! The faults, as cards: which there are, and what each does. A card leaves the world as it should
//! be, whatever the product makes of it.

use std::io::Write as _;
use std::time::Duration;

use fastrand::Rng;
use nix::sys::signal::Signal;

use super::world::{HOSTS, World};
use crate::harness::proxy::{Cut, Mode};
use crate::harness::{plugin, wait_until};

/// The kinds of faults, and of what operators do meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIGKILL; a new process takes the place a moment later.
    Kill,
    /// SIGSTOP until it is held for dead, then SIGCONT: a zombie wakes.
    Freeze,
    /// SIGSTOP, then SIGCONT before anybody minds.
    Nap,
    /// SIGTERM, and a new process.
    Terminate,
    /// SIGTERM twice: it does not finish what it has begun.
    TerminateTwice,
    /// All connections of a host are reset.
    CutBoth,
    /// They are, and Postgres does not know.
    CutOnlyClient,
    /// They are, and the host does not know.
    CutOnlyServer,
    /// Nothing comes through for a moment; then everything does.
    Stall,
    /// Nothing comes through for a moment; then the connections are reset.
    StallAndCut,
    /// Nothing comes through until the host is held for dead.
    Silence,
    /// Everything comes through late.
    Delay,
    /// A host's settlement does not arrive, and its connection is reset.
    SettlementLost,
    /// A host's settlement arrives and is committed; its reply is lost.
    SettlementReplyLost,
    /// The same for a producer's COMMIT.
    CommitLost,
    /// The same for the reply to it.
    CommitReplyLost,
    /// Postgres stops as at once as it can, and starts again.
    PostgresCrash,
    /// One of its processes is killed, so that it begins anew by itself.
    PostgresPanic,
    /// All backends are terminated.
    BackendsTerminated,
    /// The disk is full for a moment.
    DiskFull,
    /// A handler gets a new version.
    Deploy,
    /// A handler gets back an old version.
    RollBack,
    /// The queue is paused for a moment.
    Pause,
    /// Another queue is made, worked on, and dropped with what is left in it.
    QueueComesAndGoes,
    /// Dead letters are put on the queue again.
    DeadRetried,
    /// Dead letters are deleted.
    DeadPurged,
}

use Kind::{
    BackendsTerminated, CommitLost, CommitReplyLost, CutBoth, CutOnlyClient, CutOnlyServer,
    DeadPurged, DeadRetried, Delay, Deploy, DiskFull, Freeze, Kill, Nap, Pause, PostgresCrash,
    PostgresPanic, QueueComesAndGoes, RollBack, SettlementLost, SettlementReplyLost, Silence,
    Stall, StallAndCut, Terminate, TerminateTwice,
};

/// Every kind; the more usual ones several times.
const DECK: &[Kind] = &[
    Kill,
    Kill,
    Freeze,
    Nap,
    Terminate,
    TerminateTwice,
    CutBoth,
    CutOnlyClient,
    CutOnlyServer,
    Stall,
    StallAndCut,
    Silence,
    Delay,
    SettlementLost,
    SettlementLost,
    SettlementReplyLost,
    SettlementReplyLost,
    CommitLost,
    CommitReplyLost,
    PostgresCrash,
    PostgresPanic,
    BackendsTerminated,
    DiskFull,
    Deploy,
    Deploy,
    RollBack,
    Pause,
    QueueComesAndGoes,
    QueueComesAndGoes,
    DeadRetried,
    DeadPurged,
];

impl Kind {
    /// Whether others may hold a host for dead that it befalls: its lock is gone, or it is silent
    /// for long.
    pub fn may_lose_a_session(self) -> bool {
        matches!(self, Kill | Freeze | Silence | CutOnlyServer)
    }

    /// Whether it takes a host's lock.
    pub fn takes_the_lock(self) -> bool {
        matches!(
            self,
            BackendsTerminated
                | CutBoth
                | CutOnlyClient
                | StallAndCut
                | PostgresCrash
                | PostgresPanic
        )
    }

    /// Whether a host that it befalls may end its session with messages in flight.
    pub fn may_end_a_session(self) -> bool {
        self.may_lose_a_session() || self == TerminateTwice
    }

    /// Whether a reply may be lost, or come so late that it is held for lost: of a lease, after
    /// three seconds.
    pub fn may_lose_a_reply(self) -> bool {
        !matches!(self, Deploy | RollBack | Pause | QueueComesAndGoes | DeadRetried | DeadPurged)
    }
}

/// A fault to be: its kind, whom it befalls, and how.
#[derive(Clone, Debug)]
pub struct Card {
    /// Its kind.
    pub kind: Kind,
    rng: Rng,
}

/// All cards once, in a random order.
pub fn shuffled(rng: &mut Rng) -> Vec<Card> {
    let mut deck: Vec<Card> =
        DECK.iter().map(|kind| Card { kind: *kind, rng: rng.fork() }).collect();
    rng.shuffle(&mut deck);
    deck
}

async fn a_moment(rng: &mut Rng, range_ms: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(rng.u64(range_ms))).await;
}

impl Card {
    /// Does it, and makes the world whole again.
    pub async fn play(mut self, world: &World) {
        match self.kind {
            Kill | Freeze | Nap | Terminate | TerminateTwice => self.befall_process(world).await,
            CutBoth | CutOnlyClient | CutOnlyServer | Stall | StallAndCut | Silence | Delay
            | SettlementLost | SettlementReplyLost => self.befall_network(world).await,
            CommitLost | CommitReplyLost => {
                let proxy = &world.proxies[HOSTS];
                world.begin(self.kind, None);
                proxy.reset_at(b"COMMIT", self.kind == CommitReplyLost);
            }
            PostgresCrash | PostgresPanic | BackendsTerminated | DiskFull => {
                self.befall_postgres(world).await;
            }
            _ => self.operate(world).await,
        }
    }

    async fn befall_process(&mut self, world: &World) {
        let mut slot = world.slot(self.rng.usize(..HOSTS)).await;
        let name = slot.name();
        // One that has only just started may not listen for signals yet.
        let session = world.session(&name).await;
        let hit = world.begin(self.kind, Some(&name));
        match self.kind {
            Kill => slot.take().kill(),
            Freeze => {
                slot.host().signal(Signal::SIGSTOP);
                world.wait_lost(session).await;
                a_moment(&mut self.rng, 0..2_000).await;
                slot.host().signal(Signal::SIGCONT);
                assert!(world.session(&name).await > session);
                return world.over(hit);
            }
            Nap => {
                slot.host().signal(Signal::SIGSTOP);
                a_moment(&mut self.rng, 100..6_000).await;
                slot.host().signal(Signal::SIGCONT);
                return world.over(hit);
            }
            _ => {
                if self.kind == TerminateTwice {
                    slot.host().signal(Signal::SIGTERM);
                    slot.host().wait_draining().await;
                }
                assert!(slot.take().terminate().await.success(), "{name} did not end in order");
            }
        }
        a_moment(&mut self.rng, 0..2_000).await;
        slot.start();
        world.over(hit);
    }

    async fn befall_network(&mut self, world: &World) {
        let place = self.rng.usize(..HOSTS);
        let slot = world.slot(place).await;
        let (name, proxy) = (slot.name(), &world.proxies[place]);
        let session = world.session(&name).await;
        let hit = world.begin(self.kind, Some(&name));
        match self.kind {
            CutBoth => {
                proxy.set(Mode::Refuse);
                proxy.cut(Cut::Both);
                a_moment(&mut self.rng, 0..1_000).await;
            }
            CutOnlyClient => proxy.cut(Cut::OnlyClient),
            CutOnlyServer => proxy.cut(Cut::OnlyServer),
            Stall | StallAndCut => {
                proxy.set(Mode::Stall);
                a_moment(&mut self.rng, 500..4_000).await;
                if self.kind == StallAndCut {
                    proxy.cut(Cut::Both);
                }
            }
            Silence => {
                proxy.set(Mode::Stall);
                world.wait_lost(session).await;
                if self.rng.bool() {
                    proxy.cut(Cut::Both);
                }
            }
            Delay => {
                proxy.set(Mode::Delay(Duration::from_millis(self.rng.u64(20..150))));
                a_moment(&mut self.rng, 1_000..5_000).await;
            }
            _ => {
                // The name of a queue in an array, which of all that a host says only a settlement
                // with follow-ups does.
                proxy.reset_at(b"\0\0\0\x04sink", self.kind == SettlementReplyLost);
                for _ in 0..50 {
                    a_moment(&mut self.rng, 50..100).await;
                    if proxy.has_sprung() {
                        break;
                    }
                }
                proxy.disarm();
            }
        }
        proxy.set(Mode::Pass);
        if self.kind == Silence {
            assert!(world.session(&name).await > session);
        }
        world.over(hit);
    }

    async fn befall_postgres(&mut self, world: &World) {
        let mut server = world.server().await;
        let hit = world.begin(self.kind, None);
        match self.kind {
            PostgresCrash => {
                server.crash().await;
                a_moment(&mut self.rng, 0..1_500).await;
                server.start_again().await;
            }
            PostgresPanic => {
                let pid = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'
                    AND pid <> pg_backend_pid() AND application_name LIKE 'host session %' LIMIT 1";
                let pid = world.number(&format!("coalesce(({pid}), pg_backend_pid())")).await;
                let pid = nix::unistd::Pid::from_raw(pid as i32);
                let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
            }
            BackendsTerminated => {
                // Its own reply is lost with the others'.
                if let Some(client) = world.connect().await {
                    let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                        WHERE datname = current_database() AND pid <> pg_backend_pid()";
                    let _ = client.batch_execute(all).await;
                }
            }
            _ => {
                let Some(disk) = &world.disk else { return world.over(hit) };
                let ballast = disk.join("ballast");
                tokio::task::spawn_blocking({
                    let ballast = ballast.clone();
                    move || fill(&ballast)
                })
                .await
                .expect("fill the disk");
                a_moment(&mut self.rng, 500..3_000).await;
                std::fs::remove_file(&ballast).expect("empty the disk");
            }
        }
        wait_until("Postgres is back", async || {
            if !server.runs() {
                server.start_again().await;
            }
            world.connect().await.is_some()
        })
        .await;
        world.over(hit);
    }

    async fn operate(&mut self, world: &World) {
        let hit = world.begin(self.kind, None);
        let handler = if self.rng.bool() { "default" } else { "audit" };
        match self.kind {
            Deploy => super::deploy(world, handler, self.rng.u32(..)).await,
            RollBack => {
                // None to go back to, or no Postgres: no matter.
                world
                    .operate(&["rollback", "--queue", "work", "--name", handler, "--no-wait"])
                    .await;
            }
            Pause => {
                world.operate(&["queue", "pause", "work"]).await;
                a_moment(&mut self.rng, 500..3_000).await;
                world.operate_patiently(&["queue", "resume", "work"], "nothing to do").await;
            }
            DeadRetried => {
                world.operate(&["dead", "retry", "work", "--all"]).await;
            }
            DeadPurged => world.run(super::account::PURGE).await,
            _ => come_and_go(world, &mut self.rng).await,
        }
        world.over(hit);
    }
}

/// Writes until there is no room.
fn fill(path: &std::path::Path) {
    let mut file = std::fs::File::create(path).expect("a file");
    let zeros = vec![0; 1 << 20];
    let mut piece = zeros.len();
    while piece > 0 {
        // A short write is told by the next one's error.
        if file.write_all(&zeros[..piece]).is_err() {
            piece /= 2;
        }
    }
}

/// A queue that has the same name each time, and messages of another type.
async fn come_and_go(world: &World, rng: &mut Rng) {
    let payload = if rng.bool() { "text" } else { "jsonb" };
    let wasm = plugin("misbehave");
    let wasm = wasm.to_str().expect("a path that is text");
    let number = -i64::from(rng.u32(1..1 << 30)) * 1_000;
    // Only one at a time: of two, one would drop the other's.
    let _one = world.passing.lock().await;
    let create = ["queue", "create", "passing", "--payload", payload];
    world.operate_patiently(&create, "exists").await;
    let deploy = ["deploy", "--queue", "passing", wasm, "--no-wait", "--config", "version=passing"];
    world.operate_patiently(&deploy, "nothing to do").await;
    let insert = format!(
        "INSERT INTO queue.passing (payload) SELECT jsonb_build_object(
             'do', 'watch', 'ms', 5, 'queue', 'sink', 'text', ({number} - i)::text)::{payload}
         FROM generate_series(0, 999) i"
    );
    if let Some(client) = world.connect().await
        && client.batch_execute(&insert).await.is_ok()
    {
        let come = format!(
            "SELECT count(*) FROM queue.sink WHERE split_part(payload, ' ', 1)::bigint BETWEEN {number} - 999 AND {number}"
        );
        wait_until("some of a passing queue's messages are handled", async || {
            world.number(&come).await > 0
        })
        .await;
    }
    world.operate_patiently(&["queue", "drop", "passing", "--force"], "no queue").await;
}
