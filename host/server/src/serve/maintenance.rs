//! What keeps one queue in order: what is due is promoted, what is settled is truncated, unique
//! keys that are free are forgotten. Every host does it for every queue; the database lets one at a
//! time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::dispatch::health::{Health, SharedConnections};
use crate::rest::{LOOK_ANYWAY_AFTER, QueueRest, look_anyway_after};
use host_core::health::incident::Incident;
use host_core::health::progress::Progress;
use host_core::name::QueueName;
use host_queue::admin::unique;
use host_queue::connect::Database;
use host_queue::error::QueueError;
use host_queue::maintenance::rotate::{
    Truncated, advance, rotation, truncate, truncate_history, truncate_schedule,
};
use host_queue::maintenance::schedule::{Promoted, promote};
use host_queue::statements::Statements;

/// Messages promoted in one transaction.
const PROMOTE_MAX: i32 = 2_000;
/// After a try that failed, so many times fewer: a trigger of somebody's may take long for each.
const PROMOTE_FEWER: i32 = 10;
/// But never fewer than these.
const PROMOTE_MIN: i32 = 20;
/// How often a look is taken at what there is to rotate.
const ROTATE_EVERY: Duration = Duration::from_secs(1);
/// Somebody who is in the way is not asked more often than this.
const IN_THE_WAY_MAX: Duration = Duration::from_secs(30);
/// Somebody who has been in the way for so long is named in the log, once.
const NAME_AFTER: Duration = Duration::from_mins(1);
/// Between two tries of what has failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How often the leaves of the schedule and of the history are looked through, and the unique keys.
const OTHERS_EVERY: Duration = Duration::from_secs(20);
/// How often the database's clock is asked whether a message is due: it may be set forward.
const CLOCK_EVERY: Duration = Duration::from_mins(1);
/// How often an idle queue is asked whether its full partition is old enough to be followed.
const FULL_AGAIN: Duration = Duration::from_secs(15);
/// Unique keys forgotten in one transaction.
const FORGET_MAX: i32 = 2_000;

/// One queue's maintenance.
pub(super) struct Maintenance {
    pub(super) database: Database,
    pub(super) queue: QueueName,
    pub(super) statements: Arc<Statements>,
    pub(super) schedule_changed: Arc<Notify>,
    pub(super) rest: Arc<QueueRest>,
    pub(super) poll_max: Duration,
    pub(super) shared_connections: SharedConnections,
    pub(super) progress: Progress,
}

/// A leaf that could not be truncated.
#[derive(Default)]
struct HeldPartition {
    since: Option<Instant>,
    ask_at: Option<Instant>,
    wait: Duration,
    named: bool,
}

/// When to look through the schedule, the history and the unique keys. What is to go there goes by
/// time, so a queue at rest is looked through as well, less and less often.
struct Others {
    at: Instant,
    wait: Duration,
}

/// What a round of rotation has left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Something that can go on at once.
    More,
    /// Nothing before this time, if nothing happens to the queue.
    Until(Instant),
}

impl Left {
    /// There will be something at this time.
    fn by(self, at: Instant) -> Self {
        match self {
            Self::More => Self::More,
            Self::Until(until) => Self::Until(until.min(at)),
        }
    }
}

impl Maintenance {
    /// Goes on until dropped.
    pub(super) async fn run(self) {
        tokio::join!(self.promote(), self.rotate());
    }

    async fn promote(&self) {
        let mut health = Health::of(self.queue.as_str(), "promotion", &self.shared_connections);
        let mut refusals = Incident::default();
        let watch = self.progress.watch(format!("the promotion of queue {}", self.queue));
        let mut messages_max = PROMOTE_MAX;
        let mut rest = self.rest.observe();
        loop {
            let began = Instant::now();
            let at_gates = watch.at_gates();
            rest.begin_look();
            let place = health.connection_turn().await;
            let promoted = promote(&self.database, &self.statements, messages_max).await;
            drop((place, at_gates));
            health.note("promote", promoted.as_ref().err(), began, Instant::now());
            if let Ok(Promoted { refused, why: Some(why), .. }) = &promoted
                && refusals.shows("refused", Duration::ZERO, began, Instant::now())
            {
                tracing::warn!(
                    queue = %self.queue, refused, why,
                    "messages that are due cannot be put on the queue; each try is an attempt"
                );
            }
            messages_max = match &promoted {
                // Step by step: a long backlog shall not stay with small transactions.
                Ok(promoted) if promoted.again => (messages_max * 2).min(PROMOTE_MAX),
                Ok(_) => PROMOTE_MAX,
                Err(_) => (messages_max / PROMOTE_FEWER).max(PROMOTE_MIN),
            };
            let wait = match promoted {
                Ok(promoted) if promoted.again => continue,
                Ok(promoted) => {
                    let may_rest = rest.may_rest() && !health.has_incident();
                    self.until_due(promoted.next_in, may_rest)
                }
                Err(_) => AFTER_FAILURE,
            };
            watch.round_after(wait);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // Something was put there; when it is due, the next promotion says.
                () = self.schedule_changed.notified() => {}
                _ = rest.stirred() => {}
            }
        }
    }

    /// How long the schedule needs no look, if the next message is due in that time.
    fn until_due(&self, next_in: Option<Duration>, may_rest: bool) -> Duration {
        match next_in {
            None if may_rest => look_anyway_after(),
            Some(due) if may_rest => due.min(CLOCK_EVERY),
            _ => next_in.map_or(self.poll_max, |due| due.min(self.poll_max)),
        }
    }

    async fn rotate(&self) {
        let mut held: [HeldPartition; 3] = Default::default();
        let mut others = Others { at: Instant::now(), wait: OTHERS_EVERY };
        let mut health = Health::of(self.queue.as_str(), "rotation", &self.shared_connections);
        let watch = self.progress.watch(format!("the rotation of queue {}", self.queue));
        let mut rest = self.rest.observe();
        let mut left = Left::More;
        loop {
            if left != Left::More {
                tokio::time::sleep(ROTATE_EVERY.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            }
            let began = Instant::now();
            let at_gates = watch.at_gates();
            let place = health.connection_turn().await;
            rest.begin_look();
            let rotated = self.rotate_once(&mut held, &mut others).await;
            drop((place, at_gates));
            health.note("rotate", rotated.as_ref().err(), began, Instant::now());
            if rotated.is_err() {
                tokio::time::sleep(AFTER_FAILURE).await;
            }
            left = rotated.unwrap_or(Left::Until(began));
            if let Left::Until(again) = left
                && rest.may_rest()
                && !health.has_incident()
            {
                let wait = again.saturating_duration_since(Instant::now());
                watch.round_after(wait);
                tokio::select! {
                    () = tokio::time::sleep(wait) => others.wait = (others.wait * 2).min(LOOK_ANYWAY_AFTER),
                    () = rest.disturbed() => others.wait = OTHERS_EVERY,
                }
            } else {
                others.wait = OTHERS_EVERY;
            }
        }
    }

    /// One round. Says what is left to do.
    async fn rotate_once(
        &self,
        held: &mut [HeldPartition; 3],
        others: &mut Others,
    ) -> Result<Left, QueueError> {
        let mut left = Left::Until(Instant::now() + look_anyway_after());
        let found = rotation(&self.database, &self.statements).await?;
        for partition in found.used {
            let state = &mut held[partition as usize % 3];
            if let Some(ask_at) = state.ask_at
                && Instant::now() < ask_at
            {
                left = left.by(ask_at);
                continue;
            }
            match truncate(&self.database, &self.statements, partition).await? {
                Truncated::Done => {
                    tracing::debug!(queue = %self.queue, partition, "partition truncated");
                    *state = HeldPartition::default();
                }
                Truncated::Counting => left = Left::More,
                Truncated::Held(why) => left = left.by(state.note(&self.queue, partition, &why)),
            }
        }
        if found.full {
            left = left.by(Instant::now() + FULL_AGAIN);
            match advance(&self.database, &self.statements).await? {
                None => tracing::debug!(queue = %self.queue, "next generation"),
                Some(why) => {
                    tracing::debug!(queue = %self.queue, %why, "the present generation stays");
                }
            }
        }
        if others.at <= Instant::now() {
            others.at = Instant::now() + others.wait;
            truncate_schedule(&self.database, &self.statements).await?;
            truncate_history(&self.database, &self.statements).await?;
            while unique::forget(&self.database, &self.statements, FORGET_MAX).await? == FORGET_MAX
            {
            }
        }
        Ok(left.by(others.at))
    }
}

impl HeldPartition {
    /// Notes why it stays. Returns when to try again.
    fn note(&mut self, queue: &QueueName, partition: i32, why: &str) -> Instant {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        // Each try makes those who come after it wait for up to 20 ms.
        self.wait = (self.wait * 2).clamp(ROTATE_EVERY, IN_THE_WAY_MAX);
        let ask_at = now + self.wait;
        self.ask_at = Some(ask_at);
        tracing::debug!(%queue, partition, why, "partition stays");
        if now - since >= NAME_AFTER && !self.named {
            self.named = true;
            tracing::warn!(%queue, partition, why, "a partition could not be truncated for a minute");
        }
        ask_at
    }
}
