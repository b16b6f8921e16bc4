//! Who was turned away, in numbers, until the daemon has been told.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::protocol::Counted;
use crate::server::{Source, Turnstile};
use crate::strangers::Reason;

/// Sources that are told apart between two reports. The rest count under the last of these.
pub(super) const SOURCES: usize = 1024;

/// How soon one report may follow another.
const EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: Mutex<Counts>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    turned_away: HashMap<(Source, Reason), u64>,
    unproven: u32,
    refused_sources: usize,
    told: Option<(u32, usize)>,
}

impl Turnstile for Tally {
    fn turned_away(&self, source: Source, reason: Reason) {
        let mut counts = self.counts();
        let full = counts.turned_away.len() >= SOURCES;
        let key = (source, reason);
        let key = match full && !counts.turned_away.contains_key(&key) {
            // Where it came from is lost in the crowd; how many came is not.
            true => (Source::FIRST, reason),
            false => key,
        };
        let times = counts.turned_away.entry(key).or_default();
        *times = times.saturating_add(1);
        drop(counts);
        self.changed.notify_one();
    }

    fn stand(&self, unproven: u32, refused_sources: usize) {
        let mut counts = self.counts();
        counts.unproven = unproven;
        counts.refused_sources = refused_sources;
        let news = counts.told != Some((unproven, refused_sources));
        drop(counts);
        if news {
            self.changed.notify_one();
        }
    }
}

impl Tally {
    /// Waits until there is something to report, and for a while after the last report.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
        tokio::time::sleep(EVERY).await;
    }

    /// What there is to report.
    pub(super) fn take(&self) -> Counted {
        let mut counts = self.counts();
        counts.told = Some((counts.unproven, counts.refused_sources));
        Counted {
            turned_away: std::mem::take(&mut counts.turned_away)
                .into_iter()
                .map(|((source, reason), times)| (source, reason, times))
                .collect(),
            unproven: counts.unproven,
            refused_sources: counts.refused_sources,
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
