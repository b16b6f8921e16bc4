//! Keeps the credential of an open session alive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::audit::Event;
use crate::clock;
use crate::mint::{Acting, Lease, Minter};
use crate::monitor::Monitor;
use crate::recording::OpenRecording;

use super::steps;

/// Renews the lease while the session is open. Ends only when that has failed for good, with the reason.
pub(super) async fn renewals(
    monitor: &Monitor,
    lease: &mut Lease,
    in_use: &watch::Sender<Acting>,
    recording: &OpenRecording,
    renewing: &AtomicBool,
) -> String {
    if let Acting::Impersonating(_) = lease.acting() {
        // There is nothing that ends before the session does.
        return std::future::pending().await;
    }
    // Of the token that is in use. A newer one that could not be recorded is none.
    let mut expires = lease.expires();
    loop {
        sleep(until_renewal(expires, monitor.clock.now())).await;
        renewing.store(true, Ordering::Relaxed);
        let renewed = renew(monitor, lease, recording).await;
        renewing.store(false, Ordering::Relaxed);
        match renewed {
            Ok(()) => {
                expires = lease.expires();
                in_use.send_replace(lease.acting().clone());
            }
            Err(reason) if expires <= monitor.clock.now() => return reason,
            Err(reason) => tracing::warn!("session {}: {reason}; trying again", lease.session()),
        }
    }
}

async fn renew(
    monitor: &Monitor,
    lease: &mut Lease,
    recording: &OpenRecording,
) -> Result<(), String> {
    monitor.leases.renew(lease).await.map_err(|error| {
        format!(
            "its credential could not be renewed: {}",
            error.for_operator()
        )
    })?;
    let (session, jti, audit_id, expires) = (
        lease.session(),
        lease.jti(),
        lease.audit_id(),
        lease.expires(),
    );
    steps::on_record(
        monitor,
        Event::LeaseRenewed {
            session,
            jti,
            audit_id,
            expires,
        },
    )
    .await?;
    recording
        .lease(jti, audit_id, expires)
        .await
        .map_err(|error| format!("its renewed credential could not be recorded: {error}"))
}

/// Two thirds through a token's remaining life, but not more often than every five seconds.
fn until_renewal(expires: Timestamp, now: Timestamp) -> Duration {
    (clock::remaining(expires, now) * 2 / 3).max(Duration::from_secs(5))
}
