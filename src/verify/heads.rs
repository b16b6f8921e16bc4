//! The heads of the log that manifests carry: each recording that is left is a witness of the log.

use std::collections::BTreeMap;

use super::Verdict;
use crate::log::{Head, LogError, LogReader};
use crate::session::SessionId;

/// Those that were found in manifests. Keeps some hundred bytes for each.
#[derive(Debug, Default)]
pub struct Heads {
    by_size: BTreeMap<(u64, [u8; 32]), Carried>,
}

#[derive(Debug)]
struct Carried {
    head: Head,
    /// The first manifest that it was found in.
    by: SessionId,
    /// In how many it is.
    manifests: u64,
}

/// What came of holding a log against them.
#[derive(Debug, Default)]
pub struct Held {
    /// Manifests whose head fits.
    pub manifests: u64,
    /// How many leaves the newest of these heads covers.
    pub newest: Option<u64>,
    /// What does not fit.
    pub problems: Vec<LogError>,
}

impl Heads {
    /// Takes in what a recording carries.
    pub fn add(&mut self, verdict: &Verdict) {
        let Some(head) = &verdict.log_head else {
            return;
        };
        let carried = self
            .by_size
            .entry((head.size(), *head.root()))
            .or_insert_with(|| Carried {
                head: head.clone(),
                by: verdict.session,
                manifests: 0,
            });
        carried.manifests = carried.manifests.saturating_add(1);
    }

    /// How many leaves the newest covers.
    pub fn newest(&self) -> Option<u64> {
        self.by_size.keys().next_back().map(|(size, _)| *size)
    }

    /// Holds a log against all of them. Of those that do not fit, the newest that is ahead of the log and the oldest that is of
    /// another history are named: the others follow from these. Blocks.
    pub fn hold(&self, log: &LogReader) -> Held {
        let mut held = Held::default();
        let (mut ahead, mut other) = (Unfit::default(), Unfit::default());
        for carried in self.by_size.values() {
            // Of another instance, whose log this is not.
            if carried.head.origin() != log.head().origin() {
                continue;
            }
            match log.check_head(&carried.head, "a head in a manifest") {
                Ok(()) => {
                    held.manifests = held.manifests.saturating_add(carried.manifests);
                    held.newest = Some(carried.head.size());
                }
                Err(LogError::RolledBack { .. }) => ahead.add(carried, true),
                Err(LogError::Forked { .. }) => other.add(carried, false),
                Err(error) => {
                    held.problems.push(error);
                    return held;
                }
            }
        }
        for unfit in [ahead, other] {
            let place = unfit.place();
            let named = unfit.named.map(|it| log.check_head(&it.head, &place));
            held.problems.extend(named.and_then(Result::err));
        }
        held
    }
}

/// Heads that do not fit for the same reason.
#[derive(Default)]
struct Unfit<'a> {
    named: Option<&'a Carried>,
    manifests: u64,
}

impl<'a> Unfit<'a> {
    fn add(&mut self, carried: &'a Carried, newest: bool) {
        self.manifests = self.manifests.saturating_add(carried.manifests);
        if newest || self.named.is_none() {
            self.named = Some(carried);
        }
    }

    fn place(&self) -> String {
        let by = self.named.map(|it| it.by.to_string()).unwrap_or_default();
        match self.manifests {
            0 | 1 => format!("the head in the manifest of {by}"),
            more => format!("the head in the manifest of {by}, one of {more} that say so,"),
        }
    }
}
