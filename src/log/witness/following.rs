//! One place that follows the log: the newest checkpoint is kept, and none waits behind it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::places::Place;
use super::{WitnessError, Witnesses};
use crate::audit::{Audit, Event};
use crate::clock::Clock;
use crate::log::Head;

/// After the first try that failed; twice as long after each further one.
const SOON: Duration = Duration::from_secs(1);
/// No longer than this.
const SELDOM: Duration = Duration::from_secs(5 * 60);
/// What a try that is under way has left when the log is closed: its last head must not be late.
const AT_THE_END: Duration = Duration::from_secs(1);

pub(super) struct Follower {
    pub(super) place: Place,
    pub(super) every: Duration,
    pub(super) audit: Audit,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) witnesses: Witnesses,
}

impl Follower {
    pub(super) async fn follow(self, mut heads: watch::Receiver<Arc<Head>>) {
        self.witnesses.begin(self.place.kind());
        let (mut kept, mut failed) = (None, 0_u32);
        loop {
            let is_last = heads.has_changed().is_err();
            let head = Arc::clone(&heads.borrow_and_update());
            if kept != Some(head.size()) {
                match self.try_to_keep(&head, &heads, is_last).await {
                    Ok(()) => {
                        (kept, failed) = (Some(head.size()), 0);
                        self.tell_kept(&head, is_last).await;
                    }
                    Err(error) => {
                        failed = failed.saturating_add(1);
                        self.tell_failed(&error, is_last).await;
                    }
                }
            }
            if is_last {
                return;
            }
            rest(&mut heads, self.every, failed).await;
        }
    }

    async fn try_to_keep(
        &self,
        head: &Arc<Head>,
        heads: &watch::Receiver<Arc<Head>>,
        is_last: bool,
    ) -> Result<(), WitnessError> {
        let mut over = heads.clone();
        let over = async {
            closed(&mut over).await;
            tokio::time::sleep(AT_THE_END).await;
        };
        tokio::select! {
            kept = self.place.keep(head) => kept,
            () = over, if !is_last => Err(WitnessError::Stopping),
        }
    }

    async fn tell_kept(&self, head: &Head, is_last: bool) {
        let place = self.place.kind();
        let Some(since) = self.witnesses.kept(place, head.size()) else {
            return;
        };
        tracing::info!("the log's checkpoints are kept again: {}", place.as_str());
        // The audit log is closed before the last head is there.
        if !is_last {
            let event = Event::WitnessRecovered { place, since };
            self.audit.tell(event).await;
        }
    }

    async fn tell_failed(&self, error: &WitnessError, is_last: bool) {
        let (place, reason) = (self.place.kind(), error.to_string());
        let is_first = self.witnesses.failed(place, &reason, self.clock.now());
        if is_last || is_first {
            tracing::error!(
                "the log's checkpoint was not kept: {}: {reason}",
                place.as_str()
            );
        } else {
            tracing::debug!(
                "the log's checkpoint was not kept: {}: {reason}",
                place.as_str()
            );
        }
        let is_stopping = is_last || matches!(error, WitnessError::Stopping);
        if is_first && !is_stopping {
            let event = Event::WitnessFailed {
                place,
                reason: &reason,
            };
            self.audit.tell(event).await;
        }
    }
}

/// Until there is something to do: a newer head, and no sooner than `every`; after a failure the time for another try; or the
/// end.
async fn rest(heads: &mut watch::Receiver<Arc<Head>>, every: Duration, failed: u32) {
    let pause = match failed {
        0 => every,
        failed => SOON
            .saturating_mul(1 << failed.saturating_sub(1).min(20))
            .min(SELDOM),
    };
    let mut over = heads.clone();
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = closed(&mut over) => return,
    }
    if failed == 0 {
        // An error means that it was closed, which the next look finds, too.
        drop(heads.changed().await);
    }
}

async fn closed(heads: &mut watch::Receiver<Arc<Head>>) {
    while heads.changed().await.is_ok() {}
}
