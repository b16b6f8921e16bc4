//! How keeping checkpoints goes at each place: for whoever asks the daemon.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A kind of place. There is one of each at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WitnessKind {
    /// A file.
    File,
    /// The daemon's own log.
    DaemonLog,
    /// A syslog daemon.
    Syslog,
    /// A server.
    Webhook,
}

impl WitnessKind {
    /// Its key in `spec.log.witness`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::DaemonLog => "daemonLog",
            Self::Syslog => "syslog",
            Self::Webhook => "webhook",
        }
    }
}

/// How it goes at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Where.
    pub place: WitnessKind,
    /// How many leaves the last checkpoint covers that was kept there by this run of the daemon.
    pub kept: Option<u64>,
    /// How often one could not be kept.
    pub failures: u64,
    /// Since when none can be kept, and why.
    pub failing: Option<Failing>,
}

/// A place that takes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failing {
    /// When the first try failed.
    pub since: Timestamp,
    /// How many have.
    pub tries: u32,
    /// Why the last one did.
    pub reason: String,
}

/// How it goes everywhere. Cheap to clone; clones see the same.
#[derive(Clone, Debug, Default)]
pub struct Witnesses(Arc<Mutex<BTreeMap<WitnessKind, Standing>>>);

impl Witnesses {
    /// By place.
    pub fn list(&self) -> Vec<Standing> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn begin(&self, place: WitnessKind) {
        self.with(place, |_| {});
    }

    /// Since when it was failing, if it was.
    pub(super) fn kept(&self, place: WitnessKind, leaves: u64) -> Option<Timestamp> {
        self.with(place, |standing| {
            standing.kept = Some(leaves);
            standing.failing.take().map(|failing| failing.since)
        })
    }

    /// Whether this is the first try that failed.
    pub(super) fn failed(&self, place: WitnessKind, reason: &str, now: Timestamp) -> bool {
        self.with(place, |standing| {
            standing.failures = standing.failures.saturating_add(1);
            let is_first = standing.failing.is_none();
            let failing = standing.failing.get_or_insert_with(|| Failing {
                since: now,
                tries: 0,
                reason: String::new(),
            });
            failing.tries = failing.tries.saturating_add(1);
            reason.clone_into(&mut failing.reason);
            is_first
        })
    }

    fn with<T>(&self, place: WitnessKind, change: impl FnOnce(&mut Standing) -> T) -> T {
        change(self.lock().entry(place).or_insert(Standing {
            place,
            kept: None,
            failures: 0,
            failing: None,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<WitnessKind, Standing>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
