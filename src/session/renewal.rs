//! Keeps the credential of an open session alive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::audit::Event;
use crate::clock;
use crate::config::CredentialTtl;
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
    ttl: CredentialTtl,
) -> String {
    if let Acting::Impersonating(_) = lease.acting() {
        // There is nothing that ends before the session does.
        return std::future::pending().await;
    }
    // Of the token that is in use. A newer one that could not be recorded is none.
    let mut expires = lease.expires();
    loop {
        sleep(until_renewal(expires, monitor.clock.now(), ttl)).await;
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

/// Two thirds through a token's remaining life, but not more often than every five seconds. By a clock that is behind it would
/// have more left than it was given.
fn until_renewal(expires: Timestamp, now: Timestamp, ttl: CredentialTtl) -> Duration {
    let left = clock::remaining(expires, now).min(Duration::from_secs(ttl.as_secs().into()));
    (left * 2 / 3).max(Duration::from_secs(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_behind_lets_no_token_end() {
        let ttl = CredentialTtl::from_secs(900).unwrap();
        let expires: Timestamp = "2026-01-01T12:15:00Z".parse().unwrap();
        let at = |now: &str| until_renewal(expires, now.parse().unwrap(), ttl).as_secs();
        assert_eq!(at("2026-01-01T12:00:00Z"), 600);
        assert_eq!(at("2026-01-01T11:00:00Z"), 600);
        assert_eq!(at("2026-01-01T12:09:00Z"), 240);
        assert_eq!(at("2026-01-01T13:00:00Z"), 5);
    }
}
