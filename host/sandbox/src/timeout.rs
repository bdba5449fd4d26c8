//! What stops a guest after its timeout.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::task::unconstrained;
use tokio::time::sleep_until;

use super::meter::{Meter, Metered};
use host_core::policy::outcome::Failure;

/// Stops a call after its timeout, and meters its time on a processor. This stops a guest that
/// waits in a call of the host. A guest that computes is interrupted by the engine's tick. The call
/// stays where it is pinned: moving its state takes longer than a quick guest.
pub(super) fn within_timeout<'a, T>(
    timeout: Duration,
    meter: &'a Meter,
    started: Instant,
    call: impl Future<Output = Result<T, Failure>> + Unpin + 'a,
) -> impl Future<Output = Result<T, Failure>> + 'a {
    let mut metered = Metered::new(meter, call);
    let mut timer = None;
    poll_fn(move |cx| {
        if let Poll::Ready(called) = metered.poll_unpin(cx) {
            return Poll::Ready(called);
        }
        // Made for a call that waits: most do not. It rings also if the guest has used up its
        // task's budget.
        let ring = || Box::pin(unconstrained(sleep_until((started + timeout).into())));
        timer.get_or_insert_with(ring).poll_unpin(cx).map(|()| Err(Failure::Timeout(timeout)))
    })
}
