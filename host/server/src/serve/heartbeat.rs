//! The heartbeat of a session: it beats, ends sessions of dead hosts, and reconnects. It ends when
//! the session is over, or when a loop of this host stands still: a host that only beats would keep
//! its messages from the others.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use host_core::health::incident::{Incident, Over};
use host_core::health::liveness::{BEAT_EVERY, Observer, STOP_AFTER};
use host_core::health::progress::{Late, Progress};
use host_queue::connect::Database;
use host_queue::error::QueueError;
use host_queue::session::{Look, Session};

/// How often the beats of the hour before last are freed, and the changes of the catalog counted.
const TIDY_EVERY: Duration = Duration::from_mins(10);

/// How long a beat may take before its connection is held for dead. With the time that a new one
/// may take, less than [`STOP_AFTER`].
const BEAT_WITHIN: Duration = Duration::from_secs(4);

/// How long a beat may wait for what is done beside it.
const BURY_WITHIN: Duration = Duration::from_secs(3);

/// A session's heartbeat.
pub(super) struct Heartbeat {
    /// The session's own pool.
    database: Database,
    session: Session,
    /// Lives longer than a session: what a host has seen, it knows.
    observer: Arc<Mutex<Observer>>,
    beat: i64,
    incident: Incident,
    progress: Progress,
    /// The run of the server that was seen last.
    server: String,
    /// What is late, as the log and the other hosts know.
    late: Option<String>,
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SessionEnd {
    /// Another host has ended it: its leases are others' now.
    Ended,
    /// No beat got through for so long that another host will.
    Silent,
    /// A loop of this host stands still.
    StandsStill(Late),
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("it was ended by another host"),
            Self::Silent => f.write_str("it could not beat"),
            Self::StandsStill(late) => write!(f, "{late}"),
        }
    }
}

impl Heartbeat {
    pub(super) fn new(
        database: Database,
        session: Session,
        observer: Arc<Mutex<Observer>>,
        progress: Progress,
    ) -> Self {
        Self {
            database,
            session,
            observer,
            beat: 0,
            incident: Incident::default(),
            progress,
            server: String::new(),
            late: None,
        }
    }

    /// Beats until the session is over. Says each change of the catalog.
    pub(super) async fn run(mut self, catalog_version: watch::Sender<i64>) -> SessionEnd {
        let mut last_beat = Instant::now();
        let mut tidy_at = Instant::now();
        let mut ticks = tokio::time::interval(BEAT_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.progress.look(Instant::now());
            let late = self.progress.late();
            if let Some(standing) = late.clone().filter(Late::stands_still) {
                return self.over(SessionEnd::StandsStill(standing));
            }
            self.note(late);
            let began = Instant::now();
            let left = STOP_AFTER.saturating_sub(last_beat.elapsed());
            match tokio::time::timeout(left, self.beat_once()).await {
                Ok(Ok(look)) => {
                    if !look.live.iter().any(|s| s.session == self.session.id()) {
                        return self.over(SessionEnd::Ended);
                    }
                    last_beat = Instant::now();
                    if let Some(Over { lasted, times }) = self.incident.calm(last_beat) {
                        tracing::info!(?lasted, times, "beats get through again");
                    }
                    if tokio::time::timeout(BURY_WITHIN, self.bury(&look)).await.is_err() {
                        tracing::warn!("cannot end a dead session: the database does not answer");
                    }
                    // After a crash or a failover a version that is known may be another.
                    let server = std::mem::replace(&mut self.server, look.server);
                    let changed = self.server != server;
                    // Only a change wakes those who wait for one.
                    catalog_version.send_if_modified(|v| {
                        std::mem::replace(v, look.catalog_version) != look.catalog_version
                            || changed
                    });
                    if tidy_at <= last_beat {
                        tidy_at = last_beat + TIDY_EVERY;
                        // In the way, or no answer: next time.
                        let tidy = self.session.tidy();
                        let _ = tokio::time::timeout(BURY_WITHIN, tidy).await;
                    }
                }
                Ok(Err(QueueError::LeaseLost(_))) => return self.over(SessionEnd::Ended),
                Ok(Err(error)) => {
                    if self.incident.shows(error.kind(), Duration::ZERO, began, Instant::now()) {
                        tracing::warn!(%error, "cannot beat; trying again");
                    }
                }
                Err(_) => return self.over(SessionEnd::Silent),
            }
        }
    }

    /// Has the log and the other hosts know what is late.
    fn note(&mut self, late: Option<Late>) {
        match (&self.late, &late) {
            (None, Some(late)) => tracing::warn!("{late}"),
            (Some(_), None) => tracing::info!("all loops make progress again"),
            _ => {}
        }
        self.late = late.map(|late| late.to_string());
    }

    fn over(&self, end: SessionEnd) -> SessionEnd {
        tracing::error!(session = %self.session.id(), "the session is over: {end}");
        end
    }

    async fn beat_once(&mut self) -> Result<Look, QueueError> {
        self.beat += 1;
        let beat = self.session.beat(self.beat, self.late.as_deref());
        let beat = tokio::time::timeout(BEAT_WITHIN, beat).await;
        let silent = beat.is_err();
        match beat.unwrap_or_else(|_| Err(QueueError::Unavailable("no answer".into()))) {
            Err(error) if error.is_passing() => {
                tracing::debug!(%error, "the session's connection is lost; connecting again");
                self.session.rejoin(&self.database).await?;
                if silent {
                    // A new one answers: the others are as dead as this one was.
                    self.database.give_up();
                }
                self.session.beat(self.beat, self.late.as_deref()).await
            }
            done => done,
        }
    }

    /// Ends the sessions that are dead.
    async fn bury(&mut self, look: &Look) {
        let dead = {
            let mut observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
            observer.look(Instant::now(), &look.server, &look.live)
        };
        for dead in dead {
            if dead == self.session.id() {
                continue;
            }
            match self.session.bury(dead).await {
                Ok(Some(host)) => {
                    tracing::warn!(host, session = %dead, "a host is dead; its messages run elsewhere");
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(session = %dead, %error, "cannot end a dead session"),
            }
        }
    }
}
