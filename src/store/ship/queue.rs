//! What waits, and when it is tried again. Remembers nothing that could not be found out again from the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::session::SessionId;

/// A recording that the bucket does not have yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Which one.
    pub session: SessionId,
    /// When it was closed.
    pub since: Timestamp,
    /// How often it was tried in vain since the daemon started.
    pub tries: u32,
    /// Why the last try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How long it is waited after a failure: twice as long each time, from `first` to `most`, of which a random part between
/// half and all of it, so that daemons do not come back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// After the first failure.
    pub first: Duration,
    /// After many.
    pub most: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            most: Duration::from_secs(300),
        }
    }
}

impl Pace {
    fn after(self, failures: u32, jitter: f64) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1_u32 << failures.saturating_sub(1).min(20));
        doubled
            .min(self.most)
            .mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    pace: Pace,
    waiting: BTreeMap<SessionId, Entry>,
    /// Under way now.
    shipping: BTreeSet<SessionId>,
    /// Failures in a row that are the server's, and until when nothing is tried because of them.
    outage: u32,
    pause: Option<Timestamp>,
}

#[derive(Debug)]
struct Entry {
    waiting: Waiting,
    next: Option<Timestamp>,
}

impl Queue {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            waiting: BTreeMap::new(),
            shipping: BTreeSet::new(),
            outage: 0,
            pause: None,
        }
    }

    pub(super) fn add(&mut self, session: SessionId, since: Timestamp) {
        self.waiting.entry(session).or_insert_with(|| Entry {
            waiting: Waiting {
                session,
                since,
                tries: 0,
                reason: None,
            },
            next: None,
        });
    }

    pub(super) fn holds(&self, session: SessionId) -> bool {
        self.waiting.contains_key(&session)
    }

    /// The oldest that may be tried now. While the server fails, only one at a time.
    pub(super) fn take(&mut self, now: Timestamp, at_once: usize) -> Option<SessionId> {
        let at_once = if self.outage > 0 { 1 } else { at_once };
        if self.shipping.len() >= at_once || self.is_later(self.pause, now) {
            return None;
        }
        let due = |entry: &Entry| !self.is_later(entry.next, now);
        let (session, _) = self
            .waiting
            .iter()
            .find(|(session, entry)| !self.shipping.contains(*session) && due(entry))?;
        let session = *session;
        self.shipping.insert(session);
        Some(session)
    }

    /// How long it is until something may be tried; `None` if nothing waits.
    pub(super) fn next(&self, now: Timestamp) -> Option<Duration> {
        let wait = |moment: Option<Timestamp>| {
            moment.map_or(Duration::ZERO, |moment| clock::remaining(moment, now))
        };
        let soonest = self.waiting.values().map(|entry| wait(entry.next)).min()?;
        Some(soonest.max(wait(self.pause)))
    }

    /// A clock that was set back must not make anybody wait longer than they ever would.
    fn is_later(&self, moment: Option<Timestamp>, now: Timestamp) -> bool {
        let most = SignedDuration::try_from(self.pace.most).unwrap_or(SignedDuration::MAX);
        moment.is_some_and(|moment| now < moment && moment.duration_since(now) <= most)
    }

    pub(super) fn shipped(&mut self, session: SessionId) {
        self.waiting.remove(&session);
        self.shipping.remove(&session);
        self.outage = 0;
        self.pause = None;
    }

    pub(super) fn failed(
        &mut self,
        session: SessionId,
        reason: String,
        outage: bool,
        now: Timestamp,
        jitter: f64,
    ) {
        self.shipping.remove(&session);
        let later = |wait: Duration| {
            let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
            now.saturating_add(wait).ok()
        };
        if outage {
            self.outage = self.outage.saturating_add(1);
            self.pause = later(self.pace.after(self.outage, jitter));
        }
        if let Some(entry) = self.waiting.get_mut(&session) {
            entry.waiting.tries = entry.waiting.tries.saturating_add(1);
            entry.waiting.reason = Some(reason);
            entry.next = later(self.pace.after(entry.waiting.tries, jitter));
        }
    }

    /// What was taken, and of which nobody said what came of it.
    pub(super) fn under_way(&self) -> Vec<SessionId> {
        self.shipping.iter().copied().collect()
    }

    /// Is not to be shipped any more: it was deleted.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.waiting.remove(&session);
        self.shipping.remove(&session);
    }

    /// Oldest first.
    pub(super) fn list(&self) -> Vec<Waiting> {
        let entries = self.waiting.values();
        entries.map(|entry| entry.waiting.clone()).collect()
    }

    /// What has waited the longest.
    pub(super) fn oldest(&self) -> Option<Waiting> {
        let entries = self.waiting.values();
        entries
            .map(|entry| &entry.waiting)
            .min_by_key(|waiting| waiting.since)
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn queue(count: usize) -> (Queue, Vec<SessionId>) {
        let mut queue = Queue::new(Pace::default());
        let begun = at("2026-11-26T10:00:00Z");
        let later = |n: usize| {
            let by = SignedDuration::from_secs(i64::try_from(n).unwrap());
            begun.saturating_add(by).unwrap()
        };
        let ids: Vec<SessionId> = (0..count).map(|n| SessionId::new(later(n))).collect();
        for id in &ids {
            queue.add(*id, begun);
        }
        (queue, ids)
    }

    #[test]
    fn waits_grow_to_a_bound_and_are_never_all_the_same() {
        let pace = Pace::default();
        let seconds = |failures, jitter| pace.after(failures, jitter).as_secs_f64();
        assert_eq!(seconds(1, 0.0), 0.5);
        assert_eq!(seconds(1, 1.0), 1.0);
        assert_eq!(seconds(4, 1.0), 8.0);
        assert_eq!(seconds(100, 1.0), 300.0);
        assert_eq!(seconds(u32::MAX, 0.0), 150.0);
    }

    #[test]
    fn the_oldest_go_first_and_only_so_many_at_once() {
        let (mut queue, ids) = queue(4);
        let now = at("2026-11-26T11:00:00Z");
        assert_eq!(queue.take(now, 2), Some(ids[0]));
        assert_eq!(queue.take(now, 2), Some(ids[1]));
        assert_eq!(queue.take(now, 2), None);
        queue.shipped(ids[0]);
        assert_eq!(queue.take(now, 2), Some(ids[2]));
        assert_eq!(queue.list().len(), 3);
    }

    #[test]
    fn an_outage_stops_everything_and_is_probed_by_one() {
        let (mut queue, ids) = queue(3);
        let now = at("2026-11-26T11:00:00Z");
        for id in &ids[..2] {
            assert_eq!(queue.take(now, 2), Some(*id));
        }
        for id in &ids[..2] {
            queue.failed(*id, "gone".into(), true, now, 1.0);
        }
        assert_eq!(queue.take(now, 2), None);
        let later = now.saturating_add(SignedDuration::from_secs(3)).unwrap();
        let probe = queue.take(later, 2).unwrap();
        assert_eq!(queue.take(later, 2), None, "one is enough to ask");
        queue.shipped(probe);
        assert!(queue.take(later, 2).is_some());
        assert!(queue.take(later, 2).is_some());
    }

    #[test]
    fn one_that_fails_by_itself_holds_up_no_other() {
        let (mut queue, ids) = queue(2);
        let now = at("2026-11-26T11:00:00Z");
        assert_eq!(queue.take(now, 1), Some(ids[0]));
        queue.failed(ids[0], "conflict".into(), false, now, 1.0);
        assert_eq!(queue.take(now, 1), Some(ids[1]));
        assert_eq!(queue.list()[0].reason.as_deref(), Some("conflict"));
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nothing() {
        let (mut queue, ids) = queue(1);
        let now = at("2026-11-26T11:00:00Z");
        queue.take(now, 1).unwrap();
        queue.failed(ids[0], "gone".into(), true, now, 1.0);
        assert_eq!(queue.take(at("2026-11-25T11:00:00Z"), 1), Some(ids[0]));
    }
}
