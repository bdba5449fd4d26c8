//! Messages that another host has in hand when the measured time begins, and keeps for all of it: a
//! session of the benchmark's own that leases and beats, and runs nothing. Never settles.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::BenchError;
use host_core::health::liveness::BEAT_EVERY;
use host_core::id::SessionId;
use host_queue::bench::BenchQueue;
use host_queue::connect::Database;
use host_queue::session::{self, Session};

/// A session that keeps what it has leased.
pub(crate) struct Leased {
    session: SessionId,
    /// Dead as soon as this has ended.
    beating: JoinHandle<()>,
}

impl Leased {
    /// Leases so many messages, which must be there while no host leases. `None`: none was asked
    /// for.
    pub(crate) async fn take(
        database: &Database,
        queue: &BenchQueue,
        messages: u64,
    ) -> Result<Option<Self>, BenchError> {
        if messages == 0 {
            return Ok(None);
        }
        // Nobody listens to what it is told.
        let (woken, _) = mpsc::channel(1);
        let session = Session::begin(database, "bench", woken).await?;
        let id = session.id();
        let beating = tokio::spawn(async move {
            for beat in 1.. {
                if session.beat(beat, None).await.is_err() {
                    return;
                }
                tokio::time::sleep(BEAT_EVERY).await;
            }
        });
        let leased = Self { session: id, beating };
        queue.lease(&*database.get().await?, id, messages).await?;
        Ok(Some(leased))
    }

    /// Leaves what it has to the hosts.
    pub(crate) async fn give_up(self, database: &Database) -> Result<(), BenchError> {
        session::end(database, self.session).await?;
        Ok(())
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        self.beating.abort();
    }
}
