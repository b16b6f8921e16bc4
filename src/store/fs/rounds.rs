//! Syncs in rounds: many recordings share one.
//!
//! A round begins [`PATIENCE`] after the first byte that needs it, or as soon as [`HURRY`] wait. A recording that is
//! alone has its files synced; where there are several, one `syncfs` takes all of their file system at once: a thousand
//! sessions cost as many syncs as two.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::target::Target;
use crate::clock;
use crate::store::StoreError;

/// From the first byte that is not on stable storage to the round that puts it there. With its own, and where that takes
/// longer with what is left of the one before it, that is under 250 ms where a sync takes under 100.
const PATIENCE: Duration = Duration::from_millis(150);

/// Bytes that make a round begin at once.
const HURRY: u64 = 4 << 20;

/// Bytes that may wait for stable storage; whoever has more to write, waits. This is what a power cut can take.
const MOST_UNSYNCED: u64 = 8 << 20;

#[derive(Debug)]
pub(super) struct Rounds {
    root: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    finished: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    dirty: Vec<Arc<Target>>,
    /// Since when the first of them is.
    since: Option<Instant>,
    /// Written since the last round began.
    fresh: u64,
    /// In the round that goes on.
    in_round: u64,
    /// Rounds that have begun.
    begun: u64,
    over: bool,
}

impl State {
    fn unsynced(&self) -> u64 {
        self.fresh.saturating_add(self.in_round)
    }
}

impl Rounds {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            state: Mutex::default(),
            changed: Condvar::new(),
            finished: watch::Sender::new(0),
        }
    }

    /// Waits until so many bytes more may be unsynced. One write alone may be larger than all that may wait.
    pub(super) fn wait_for_room(&self, bytes: u64) {
        let mut state = self.lock();
        while state.unsynced() > 0 && state.unsynced().saturating_add(bytes) > MOST_UNSYNCED {
            state = self.wait(state);
        }
    }

    /// Puts a recording in line for the next round.
    pub(super) fn written(&self, target: &Arc<Target>, bytes: u64) {
        let mut state = self.lock();
        let hurry = state.fresh < HURRY;
        state.fresh = state.fresh.saturating_add(bytes);
        let first = target.make_dirty();
        if first {
            state.since.get_or_insert_with(clock::monotonic);
            state.dirty.push(Arc::clone(target));
        }
        if first && state.dirty.len() == 1 || hurry && state.fresh >= HURRY {
            self.changed.notify_all();
        }
    }

    /// Waits for a round that begins from now on.
    pub(super) async fn next(&self, target: &Arc<Target>) -> Result<(), StoreError> {
        let mut finished = self.finished.subscribe();
        let wanted = self.lock().begun.saturating_add(1);
        self.written(target, 0);
        finished
            .wait_for(|finished| *finished >= wanted)
            .await
            .map(drop)
            .map_err(|_| StoreError::WriterGone)
    }

    pub(super) fn end(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }

    /// Syncs until the end; what was written by then is synced, too.
    pub(super) fn run(&self) {
        let mut file_system = None;
        while let Some(targets) = self.take() {
            self.sync(&targets, &mut file_system);
            let finished = {
                let mut state = self.lock();
                state.in_round = 0;
                state.begun
            };
            self.changed.notify_all();
            self.finished.send_replace(finished);
        }
    }

    /// Begins a round when it is time.
    fn take(&self) -> Option<Vec<Arc<Target>>> {
        let mut state = self.lock();
        while state.dirty.is_empty() {
            if state.over {
                return None;
            }
            state = self.wait(state);
        }
        // From the first byte on, not from the end of the round before.
        let until = state.since.unwrap_or_else(clock::monotonic) + PATIENCE;
        loop {
            let left = until.saturating_duration_since(clock::monotonic());
            if left.is_zero() || state.fresh >= HURRY || state.over {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.in_round = std::mem::take(&mut state.fresh);
        state.begun = state.begun.saturating_add(1);
        state.since = None;
        let targets = std::mem::take(&mut state.dirty);
        for target in &targets {
            // Before the sync, not after: what is written meanwhile is for the next round.
            target.make_clean();
        }
        Some(targets)
    }

    fn sync(&self, targets: &[Arc<Target>], file_system: &mut Option<File>) {
        if let [_, _, ..] = targets {
            for target in targets {
                target.synced_with_all();
            }
            // Held open from the first time on: errors are told to who was there when they happened.
            let synced = match file_system {
                Some(file) => Ok(file),
                None => File::open(&self.root).map(|file| file_system.insert(file)),
            }
            .and_then(|file| Ok(rustix::fs::syncfs(file)?));
            if synced.is_ok() {
                return;
            }
            // Somebody's error. Whose, each file says.
        }
        for target in targets {
            let synced = match targets {
                [_] => target.sync_dirty(),
                _ => target.sync(),
            };
            if let Err(error) = synced {
                tracing::error!(%error, "a recording could not be synced; its session ends with the next event");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}
