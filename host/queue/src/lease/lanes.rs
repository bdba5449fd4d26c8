//! Leases of queues with lanes by key: several lanes in one round trip, each with a lease of its
//! own.

use futures_util::future::join;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::fetch::fetch_lanes;
use super::granted::Granted;
use super::{DEATHS_MAX, LeaseRequest, Taken, Wait, open};
use crate::connect::Pooled;
use crate::error::QueueError;
use crate::statements::Statements;
use host_core::id::SessionId;
use host_core::settlement::Ledger;

/// Leases from lanes that are free, from `first` on.
pub(super) async fn lease_lanes(
    client: &Pooled,
    statements: &Statements,
    session: SessionId,
    r: LeaseRequest,
    first: u16,
) -> Result<Taken, QueueError> {
    let lease_statement = client.prepare_cached(&statements.lease_lanes).await?;
    let fetch_statement = client.prepare_cached(&statements.fetch_lanes).await?;
    let token = Uuid::new_v4();
    let messages_max = r.messages_max.cast_signed();
    let bytes_max = r.bytes_max.cast_signed();
    let first = i32::from(first);
    let leases_max = r.leases_max.cast_signed();
    let params: [&(dyn ToSql + Sync); 9] = [
        &r.handler.get(),
        &session.get(),
        &r.seq,
        &token,
        &messages_max,
        &bytes_max,
        &first,
        &leases_max,
        &DEATHS_MAX,
    ];
    // The fetch is sent before the lease has answered: it goes by numbers that are ours.
    let (rows, fetched) = join(
        client.query(&lease_statement, &params),
        fetch_lanes(client, &fetch_statement, session, r.seq, r.handler, leases_max),
    )
    .await;
    let rows = rows?;
    let mut fetched = fetched?;
    let mut found = Taken::default();
    for (at, row) in rows.iter().enumerate() {
        let granted = Granted(row);
        // The last row is of no lease.
        let Some((id, count)) = granted.lease()? else {
            found.more = granted.more()?;
            let wait = granted.wait()?;
            if statements.in_order {
                found.wait = wait;
            } else if let Some(time) = wait.filter(|_| !found.more) {
                let until_settled = granted.until_settled()?;
                found.limit = Some(Wait { time, until_settled, others_may_start: true });
            }
            break;
        };
        let (ledger, at) = if statements.in_order {
            (Ledger::in_order(id, token, count, granted.more()?), at)
        } else {
            found.last_lane = Some(granted.lane()?);
            (Ledger::new(id, token, count), (granted.seq()? - r.seq) as usize)
        };
        let its = fetched.get_mut(at).map(std::mem::take).unwrap_or_default();
        let lease = ledger.lease();
        match open(ledger, its) {
            Ok(lease) => found.leases.push(lease),
            // It is a stray now. The others are in good hands.
            Err(error) => tracing::warn!(%lease, %error, "cannot read a lease; taking it over"),
        }
    }
    Ok(found)
}
