//! Deletes in the background what could not be deleted at once, until that is confirmed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::super::error::MintError;
use super::table::Place;
use super::{Inner, RELEASE_LIMIT};
use crate::clock::monotonic;

/// Between two rounds at one API server, doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Idle connections are kept for 90 s; a login should find one.
const WARM_EVERY: Duration = Duration::from_secs(45);

/// What is replaced on disk is taken up so soon: an authority or a token that follows another is there longer before the other goes.
const REFRESH_EVERY: Duration = Duration::from_secs(2);

/// The wall clock may jump: what expires by it is looked at no less often.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Until the leases are dropped. Each API server is dealt with alone: one that hangs holds up no other.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut sweeps: JoinSet<Option<Place>> = JoinSet::new();
    let mut swept: BTreeSet<Place> = BTreeSet::new();
    let mut warm = tokio::time::interval(WARM_EVERY);
    warm.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut refresh = tokio::time::interval(REFRESH_EVERY);
    refresh.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut refreshing = JoinSet::new();
    loop {
        let expired = inner.table().expire(inner.clock.now());
        inner.bury(expired.ended).await;
        let places = inner.table().due_places();
        for place in places {
            if inner.has_way_to(&place) && swept.insert(place.clone()) {
                sweeps.spawn(sweep(inner.clone(), place));
            }
        }
        let look = expired
            .next
            .map(|next| next.duration_since(inner.clock.now()))
            .and_then(|wait| Duration::try_from(wait).ok())
            .map_or(LOOK_EVERY, |wait| {
                wait.clamp(Duration::from_millis(10), LOOK_EVERY)
            });
        tokio::select! {
            () = inner.bell.notified() => {}
            () = tokio::time::sleep(look) => {}
            Some(done) = sweeps.join_next() => {
                match done {
                    Ok(Some(place)) => { swept.remove(&place); }
                    Ok(None) => {}
                    // A sweep that panicked: better to sweep twice at once than never again.
                    Err(error) => {
                        tracing::error!(%error, "taking leases back failed");
                        swept.clear();
                    }
                }
            }
            _ = refresh.tick() => {
                while refreshing.try_join_next().is_some() {}
                let now = inner.clock.now();
                // One that hangs holds up no other.
                for upstream in inner.upstreams().present.values() {
                    refreshing.spawn(upstream.clone().refresh(now));
                }
            }
            _ = warm.tick() => {
                let upstreams: Vec<_> = inner.upstreams().present.values().cloned().collect();
                // Where we sign ourselves, the daemon asks nothing in its own name.
                for upstream in upstreams.into_iter().filter(|one| one.audience().is_none()) {
                    sweeps.spawn(async move {
                        upstream.warm().await;
                        None
                    });
                }
            }
        }
    }
}

/// Deletes what is due at one API server; ends when nothing is.
async fn sweep(inner: Arc<Inner>, place: Place) -> Option<Place> {
    let mut pause = FIRST_PAUSE;
    loop {
        let due = inner.table().due_at(&place);
        let before = due.len();
        if before == 0 || !inner.has_way_to(&place) {
            return Some(place);
        }
        for session in due {
            match inner.delete(session, monotonic() + RELEASE_LIMIT).await {
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%session, %error, "a lease could not be taken back; it will be tried again");
                    if is_away(&error) {
                        break;
                    }
                }
            }
        }
        let left = inner.table().due_at(&place).len();
        if left == 0 {
            return Some(place);
        }
        pause = if left < before { FIRST_PAUSE } else { pause };
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Whether the others will fare no better.
fn is_away(error: &MintError) -> bool {
    !matches!(
        error,
        MintError::Forbidden { .. } | MintError::Refused { .. } | MintError::BadAnswer { .. }
    ) || error.is_temporary()
}

impl Inner {
    /// Whether a connection is configured under that name; a cluster that is not is kept in the journal.
    fn has_way_to(&self, (cluster, server): &Place) -> bool {
        let upstreams = self.upstreams();
        upstreams.present.contains_key(cluster)
            || upstreams.retired.iter().any(|upstream| {
                upstream.cluster() == cluster
                    && upstream.built().is_some_and(|api| api.server() == server)
            })
    }
}
