//! Tells the database how much of each handler fails, for `host status` and `host doctor`.

use std::collections::HashMap;

use tokio::sync::mpsc;

use host_core::health::failures::Report;
use host_core::id::{HandlerId, SessionId};
use host_queue::connect::Database;
use host_queue::inspect::failing;

/// Reports in one statement, at most.
const REPORTS_MAX: usize = 1_000;

/// Tells what comes, the newest of each handler. What comes meanwhile goes in the next statement.
pub(super) async fn report_failing(
    database: Database,
    session: SessionId,
    mut reports: mpsc::UnboundedReceiver<(HandlerId, Report)>,
) {
    let mut some = Vec::new();
    while reports.recv_many(&mut some, REPORTS_MAX).await > 0 {
        let newest: HashMap<_, _> = some.drain(..).collect();
        let newest: Vec<_> = newest.into_iter().collect();
        let told = async {
            let client = database.get().await?;
            client.ask(failing::report(&client, session, &newest)).await
        };
        // The next report says more.
        if let Err(error) = told.await {
            tracing::debug!(%error, "cannot report what fails");
        }
    }
}
