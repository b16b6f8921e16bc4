//! An OS uid of its own for each session, so that no session's process can touch another's.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::LaunchError;

/// The uids that are free.
#[derive(Clone, Debug)]
pub(super) struct Uids(Arc<Mutex<Pool>>);

#[derive(Debug)]
struct Pool {
    start: u32,
    count: u32,
    next: u32,
    taken: BTreeSet<u32>,
}

/// A uid in use; free again when dropped.
#[derive(Debug)]
pub(super) struct Uid {
    pub(super) uid: u32,
    pool: Uids,
}

impl Uids {
    pub(super) fn new(start: u32, count: u32) -> Self {
        Self(Arc::new(Mutex::new(Pool {
            start,
            count,
            next: 0,
            taken: BTreeSet::new(),
        })))
    }

    /// Takes the next free uid, round robin, so that one is reused as late as can be.
    pub(super) fn take(&self) -> Result<Uid, LaunchError> {
        let mut pool = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        for _ in 0..pool.count {
            let uid = pool.start.saturating_add(pool.next);
            pool.next = (pool.next + 1) % pool.count;
            if pool.taken.insert(uid) {
                return Ok(Uid {
                    uid,
                    pool: self.clone(),
                });
            }
        }
        Err(LaunchError::NoUid { count: pool.count })
    }
}

impl Drop for Uid {
    fn drop(&mut self) {
        let mut pool = self
            .pool
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        pool.taken.remove(&self.uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_sessions_share_a_uid_and_a_freed_one_returns() {
        let uids = Uids::new(100, 2);
        let a = uids.take().unwrap();
        let b = uids.take().unwrap();
        assert_ne!(a.uid, b.uid);
        assert!(matches!(uids.take(), Err(LaunchError::NoUid { count: 2 })));
        let freed = a.uid;
        drop(a);
        assert_eq!(uids.take().unwrap().uid, freed);
    }
}
