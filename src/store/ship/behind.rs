//! Says once that the queue has fallen behind, and once that it has caught up.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::queue::Waiting;
use crate::audit::Event;
use crate::session::SessionId;

/// A recording that has waited for longer is worth a word.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

#[derive(Debug)]
pub(super) struct Behind {
    /// What had piled up before is not this daemon's delay.
    started: Timestamp,
    since: Option<Timestamp>,
    conflicts: BTreeSet<SessionId>,
}

impl Behind {
    pub(super) fn since(started: Timestamp) -> Self {
        Self {
            started,
            since: None,
            conflicts: BTreeSet::new(),
        }
    }

    /// What there is to say, if anything, of so many that wait.
    pub(super) fn judge(
        &mut self,
        waiting: usize,
        oldest: Option<Waiting>,
        now: Timestamp,
    ) -> Option<Event<'static>> {
        let patience = SignedDuration::try_from(PATIENCE).unwrap_or(SignedDuration::MAX);
        let late =
            oldest.filter(|oldest| now.duration_since(oldest.since.max(self.started)) > patience);
        match (late, self.since) {
            (Some(oldest), None) => {
                self.since = Some(now);
                Some(Event::ShippingBehind {
                    waiting,
                    oldest: oldest.session,
                    since: oldest.since,
                    reason: oldest.reason,
                })
            }
            (None, Some(since)) => {
                self.since = None;
                Some(Event::ShippingRecovered {
                    waiting,
                    seconds: u64::try_from(now.duration_since(since).as_secs()).unwrap_or(0),
                })
            }
            _ => None,
        }
    }

    /// Whether nobody has been told of this conflict yet.
    pub(super) fn first_conflict(&mut self, session: SessionId) -> bool {
        self.conflicts.insert(session)
    }
}
