//! What is in the way while a benchmark runs. A run is good for nothing if it was not: each is
//! looked at before the measured time and after it. Never measures.

use std::time::{Duration, Instant};

use crate::error::BenchError;
use crate::options::Disturbance;
use host_queue::bench::{BenchQueue, HeldTransaction};
use host_queue::connect::{Database, Pooled};

/// How long the stuck handler may take to get its first message.
const STUCK_WITHIN: Duration = Duration::from_secs(30);

/// What is in the way, for as long as this lives.
#[derive(Default)]
pub(crate) struct Interference {
    held: Vec<HeldTransaction>,
    stuck: bool,
}

impl Interference {
    /// Gets in the way; returns when all of it is there.
    pub(crate) async fn begin(
        &mut self,
        database: &Database,
        client: &Pooled,
        queue: &BenchQueue,
        wanted: &[Disturbance],
    ) -> Result<(), BenchError> {
        for disturbance in wanted {
            match disturbance {
                Disturbance::Transaction(hold) => {
                    self.held.push(queue.hold(database, *hold).await?);
                }
                Disturbance::Handler => {
                    let started = Instant::now();
                    while !queue.is_stuck(client).await? {
                        if started.elapsed() > STUCK_WITHIN {
                            return Err(BenchError::NotHeld(disturbance.name()));
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    self.stuck = true;
                }
            }
        }
        Ok(())
    }

    /// Fails if a transaction is over that should not be.
    pub(crate) fn check(&self) -> Result<(), BenchError> {
        match self.held.iter().find(|held| held.has_ended()) {
            Some(held) => Err(BenchError::NotHeld(Disturbance::Transaction(held.hold()).name())),
            None => Ok(()),
        }
    }

    /// Looks once more, and gets out of the way.
    pub(crate) async fn end(
        &mut self,
        client: &Pooled,
        queue: &BenchQueue,
    ) -> Result<(), BenchError> {
        self.check()?;
        if self.stuck && !queue.is_stuck(client).await? {
            return Err(BenchError::NotHeld(Disturbance::Handler.name()));
        }
        self.clear();
        Ok(())
    }

    /// Gets out of the way.
    pub(crate) fn clear(&mut self) {
        self.held.clear();
        self.stuck = false;
    }
}
