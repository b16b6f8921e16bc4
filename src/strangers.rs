//! What strangers do, in numbers: who is not let in, and what is not told one by one. A flood must not become a flood of records.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::audit::{Audit, Event};
use crate::clock::{self, Clock};
use crate::server::{Source, Turnstile};

/// Events about strangers that may be told one by one at once,
const BURST: u32 = 600;
/// and from then on one in each of these.
const EACH: Duration = Duration::from_secs(1);
/// How often the rest is summed up.
const SUMMED_UP_EVERY: Duration = Duration::from_secs(60);
/// Sources that are told apart between two summaries. The rest are counted all the same.
const MOST_SOURCES: usize = 4096;
/// The busiest of them, by name.
const BUSIEST: usize = 5;

/// Why a connection was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// `admission.deny`, or not in `admission.allow`.
    Denied,
    /// Its source is under a penalty.
    Penalty,
    /// Too many from its source are not proven.
    PerSource,
    /// Too many are not proven.
    Startups,
    /// There are `limits.maxConnections`.
    Full,
    /// A listed proxy did not say in time and in form for whom it came.
    Proxy,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Denied,
        Self::Penalty,
        Self::PerSource,
        Self::Startups,
        Self::Full,
        Self::Proxy,
    ];

    /// As metrics and events name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Penalty => "penalty",
            Self::PerSource => "per_source",
            Self::Startups => "startups",
            Self::Full => "full",
            Self::Proxy => "proxy",
        }
    }
}

/// The numbers, and what may be told. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Strangers(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    /// Turned away since the start.
    all: [u64; Reason::ALL.len()],
    /// Since the last summary.
    since: [u64; Reason::ALL.len()],
    /// Events that were not told one by one, by name, since the last summary.
    untold: BTreeMap<&'static str, u64>,
    untold_ever: u64,
    by_source: HashMap<Source, u64>,
    unproven: u32,
    refused_sources: usize,
    spent: Spent,
}

/// Which part of [`BURST`] is used up.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    events: u32,
    since: Option<Instant>,
}

/// What happened since the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many were turned away, by reason; no zeros.
    pub turned_away: BTreeMap<&'static str, u64>,
    /// Events that were not told one by one, by name.
    pub untold: BTreeMap<&'static str, u64>,
    /// From how many sources, 4096 at most.
    pub sources: usize,
    /// The busiest of these, the busiest first, five at most.
    pub busiest: Vec<Busy>,
}

/// A source and how often it was met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Busy {
    /// The address or network.
    pub source: String,
    /// How often it was turned away or did what was not told.
    pub times: u64,
}

impl Strangers {
    /// Counts connections from one source that were not let in.
    pub(crate) fn were_turned_away(&self, source: Source, reason: Reason, times: u64) {
        let mut counts = self.counts();
        let Counts { all, since, .. } = &mut *counts;
        let mut total = 0;
        for numbers in [since, all] {
            if let Some(number) = numbers.get_mut(reason as usize) {
                *number = number.saturating_add(times);
                total = *number;
            }
        }
        counts.met(source, times);
        drop(counts);
        // The first, and then ever more rarely.
        let before = total.saturating_sub(times);
        if total.checked_ilog2() != before.checked_ilog2() {
            tracing::warn!(%source, reason = reason.as_str(), total, "connections are turned away");
        }
    }

    /// Whether an event about somebody unproven may be told by itself. Otherwise it is counted under its name.
    pub(crate) fn may_tell(&self, name: &'static str, source: Source) -> bool {
        let mut counts = self.counts();
        let may = counts.spent.spend(clock::monotonic());
        if !may {
            let untold = counts.untold.entry(name).or_default();
            *untold = untold.saturating_add(1);
            counts.untold_ever = counts.untold_ever.saturating_add(1);
            counts.met(source, 1);
        }
        may
    }

    /// Whoever was told of is none: what that took is given back.
    pub(crate) fn was_none(&self) {
        let mut counts = self.counts();
        counts.spent.events = counts.spent.events.saturating_sub(1);
    }

    /// Connections on which nobody was proven, and sources under a penalty, when the last connection came or went.
    pub fn standing(&self) -> (u32, usize) {
        let counts = self.counts();
        (counts.unproven, counts.refused_sources)
    }

    /// How many were turned away since the start, by reason.
    pub fn totals(&self) -> Vec<(Reason, u64)> {
        let all = self.counts().all;
        Reason::ALL.into_iter().zip(all).collect()
    }

    /// How many events were not told one by one since the start.
    pub fn untold(&self) -> u64 {
        self.counts().untold_ever
    }

    /// What happened since the last summary; `None` if nothing did.
    pub fn summary(&self) -> Option<Summary> {
        let (since, untold, by_source) = {
            let mut counts = self.counts();
            (
                std::mem::take(&mut counts.since),
                std::mem::take(&mut counts.untold),
                std::mem::take(&mut counts.by_source),
            )
        };
        let counted = Reason::ALL.into_iter().zip(since);
        let turned_away: BTreeMap<_, _> = counted
            .filter(|(_, times)| *times > 0)
            .map(|(reason, times)| (reason.as_str(), times))
            .collect();
        if turned_away.is_empty() && untold.is_empty() {
            return None;
        }
        Some(Summary {
            turned_away,
            untold,
            sources: by_source.len(),
            busiest: busiest(by_source),
        })
    }

    /// Sums up what there is to sum up, each minute, until it is dropped.
    pub(crate) async fn keep_summing_up(self, audit: Audit, clock: Arc<dyn Clock>) {
        loop {
            let since = clock.now();
            tokio::time::sleep(SUMMED_UP_EVERY).await;
            self.sum_up(&audit, since).await;
        }
    }

    /// Puts the numbers since then on record, if there are any.
    pub(crate) async fn sum_up(&self, audit: &Audit, since: jiff::Timestamp) {
        if let Some(summary) = self.summary() {
            let event = Event::StrangersSummedUp {
                since,
                turned_away: &summary.turned_away,
                untold: &summary.untold,
                sources: summary.sources,
                busiest: &summary.busiest,
            };
            audit.tell(event).await;
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turnstile for Strangers {
    fn turned_away(&self, source: Source, reason: Reason) {
        self.were_turned_away(source, reason, 1);
    }

    fn stand(&self, unproven: u32, refused_sources: usize) {
        let mut counts = self.counts();
        counts.unproven = unproven;
        counts.refused_sources = refused_sources;
    }
}

impl Counts {
    fn met(&mut self, source: Source, more: u64) {
        let known = self.by_source.contains_key(&source);
        if known || self.by_source.len() < MOST_SOURCES {
            let times = self.by_source.entry(source).or_default();
            *times = times.saturating_add(more);
        }
    }
}

impl Spent {
    /// Whether there is something left to spend.
    fn spend(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let back = now.saturating_duration_since(since).as_secs() / EACH.as_secs().max(1);
        if back > 0 {
            let back = u32::try_from(back).unwrap_or(u32::MAX);
            self.events = self.events.saturating_sub(back);
            self.since = Some(since + EACH.saturating_mul(back));
        }
        let may = self.events < BURST;
        if may {
            self.events += 1;
        }
        may
    }
}

fn busiest(by_source: HashMap<Source, u64>) -> Vec<Busy> {
    let mut all: Vec<(Source, u64)> = by_source.into_iter().collect();
    all.sort_unstable_by(|(a, more), (b, less)| less.cmp(more).then(a.cmp(b)));
    let first = all.into_iter().take(BUSIEST);
    first
        .map(|(source, times)| Busy {
            source: source.to_string(),
            times,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Admission;

    fn source(number: u32) -> Source {
        let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + number);
        Source::of(address.into(), &Admission::default())
    }

    #[test]
    fn a_summary_tells_numbers_and_is_bounded() {
        let strangers = Strangers::default();
        assert_eq!(strangers.summary(), None);
        for number in 0..100_000 {
            strangers.turned_away(source(number % 10_000), Reason::Penalty);
        }
        for _ in 0..50 {
            strangers.turned_away(source(1), Reason::Startups);
        }
        let summary = strangers.summary().unwrap();
        let numbers: Vec<_> = summary.turned_away.into_iter().collect();
        assert_eq!(numbers, [("penalty", 100_000), ("startups", 50)]);
        assert_eq!((summary.sources, summary.busiest.len()), (4096, 5));
        let first = summary.busiest.first().unwrap();
        assert_eq!((first.source.as_str(), first.times), ("10.0.0.1", 60));
        assert_eq!(strangers.summary(), None);
        let total: u64 = strangers.totals().iter().map(|(_, times)| times).sum();
        assert_eq!(total, 100_050);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_events_are_told_one_by_one_and_the_rest_in_numbers() {
        let strangers = Strangers::default();
        let told = |times: u32| {
            (0..times)
                .filter(|_| strangers.may_tell("x", source(7)))
                .count()
        };
        assert_eq!(told(100_000), 600);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(told(100), 10);
        // Who proves to be somebody leaves room for another.
        strangers.was_none();
        assert_eq!(told(100), 1);
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert_eq!(told(1000), 600);
        let untold = 100_000 - 600 + 90 + 99 + 400;
        assert_eq!(strangers.untold(), untold);
        let summary = strangers.summary().unwrap();
        assert_eq!(summary.untold.get("x"), Some(&untold));
        assert_eq!(summary.sources, 1);
        assert!(summary.turned_away.is_empty());
    }
}
