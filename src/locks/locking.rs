//! Locks in force, and the same on disk.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Lock, LockFile, LockFileError, Locks, MOST, Target};
use crate::config::watch::InForce;

/// What locks and unlocks.
#[derive(Debug)]
pub struct Locking {
    /// One write at a time.
    file: Arc<Mutex<LockFile>>,
    in_force: InForce,
}

/// Why something is not locked, or will not stay so.
#[derive(Debug, thiserror::Error)]
pub enum NotLocked {
    /// It is in force now, and was not kept.
    #[error("it is locked now, but a restart of the daemon would unlock it: {0}")]
    UntilRestart(#[source] LockFileError),
    /// It is locked as before.
    #[error("it stays locked: {0}")]
    StaysLocked(#[source] LockFileError),
    /// There are too many.
    #[error(
        "there are {MOST} locks already: unlock some, or lock less at once (a source, a role, a cluster)"
    )]
    TooMany,
    /// The write died, which is a defect of this program.
    #[error(
        "writing the locks died: what is in force now may not be what is kept; restart the daemon and look"
    )]
    Died,
}

impl Locking {
    /// Puts the locks of a file in force.
    pub fn begin(file: LockFile, locks: Locks, in_force: InForce) -> Self {
        in_force.change_locks(|_| locks);
        Self {
            file: Arc::new(Mutex::new(file)),
            in_force,
        }
    }

    /// Locks at once. What was locked already is locked as this says from now on. [`Locking::keep`] comes next: a disk that is
    /// full or hangs must not keep anybody in.
    ///
    /// # Errors
    ///
    /// If there are too many.
    pub fn lock(&self, lock: Lock, now: Timestamp) -> Result<(), NotLocked> {
        let mut too_many = false;
        self.in_force.change_locks(|locks| {
            let changed = locks.with(lock, now);
            too_many = changed.0.len() > MOST;
            if too_many { locks.clone() } else { changed }
        });
        match too_many {
            true => Err(NotLocked::TooMany),
            false => Ok(()),
        }
    }

    /// Has what is locked outlive the daemon.
    ///
    /// # Errors
    ///
    /// If the disk does not take it. It is locked all the same.
    pub async fn keep(&self) -> Result<(), NotLocked> {
        let file = Arc::clone(&self.file).lock_owned().await;
        let locks = self.in_force.config().locks.clone();
        put(file, locks).await?.map_err(NotLocked::UntilRestart)
    }

    /// Unlocks for good, and then at once.
    ///
    /// # Errors
    ///
    /// If the disk does not take it; then it stays locked.
    pub async fn unlock(&self, on: &Target, now: Timestamp) -> Result<(), NotLocked> {
        let file = Arc::clone(&self.file).lock_owned().await;
        let locks = self.in_force.config().locks.without(on, now);
        put(file, locks).await?.map_err(NotLocked::StaysLocked)?;
        self.in_force.change_locks(|locks| locks.without(on, now));
        Ok(())
    }
}

/// Off the runtime's threads. Who gives up waiting does not stop it.
async fn put(
    file: OwnedMutexGuard<LockFile>,
    locks: Locks,
) -> Result<Result<(), LockFileError>, NotLocked> {
    tokio::task::spawn_blocking(move || file.put(&locks))
        .await
        .map_err(|_| NotLocked::Died)
}
