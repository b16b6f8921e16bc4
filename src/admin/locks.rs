//! Locks: each acts first and is told then; what unlocks is told first.

use std::sync::Arc;

use jiff::SignedDuration;

use super::Reply;
use crate::audit::Event;
use crate::locks::{Lock, Target, check_reason};
use crate::monitor::Monitor;
use crate::revoke;

/// What is locked now.
pub(super) fn standing(monitor: &Monitor) -> Vec<Lock> {
    let now = monitor.clock.now();
    monitor.config().locks.standing(now).cloned().collect()
}

pub(super) async fn lock(
    monitor: &Arc<Monitor>,
    who: &str,
    on: Target,
    seconds: Option<u64>,
    reason: String,
) -> Reply {
    if let Err(error) = check_reason(&reason) {
        return Reply::Error(error.to_string());
    }
    let now = monitor.clock.now();
    let until = match seconds {
        None => None,
        Some(seconds) => {
            let end = i64::try_from(seconds)
                .ok()
                .and_then(|seconds| now.checked_add(SignedDuration::from_secs(seconds)).ok());
            match end {
                Some(end) => Some(end),
                None => return Reply::Error("no calendar has that many seconds".to_owned()),
            }
        }
    };
    let lock = Lock {
        on,
        until,
        reason,
        since: now,
        by: who.to_owned(),
    };
    // Otherwise whoever enforces could be first, and what it takes back would not be told here.
    let _enforcing = monitor.taking_back.try_lock();
    if let Err(error) = monitor.locking.lock(lock.clone(), now) {
        return Reply::Error(error.to_string());
    }
    monitor.codes.forget_locked(&lock.on);
    let config = monitor.config();
    let sessions = monitor.end_what_is_not_allowed(&config);
    let kept = monitor.locking.keep().await;
    let not_kept = kept.err().map(|error| error.to_string());
    let credentials = revoke::no_longer_allowed(monitor, &config).await;
    let event = Event::LockSet {
        lock: &lock,
        sessions,
        credentials: credentials.len(),
        not_kept: not_kept.as_deref(),
    };
    monitor.audit.tell(event).await;
    Reply::Locked {
        lock,
        credentials,
        sessions,
        not_kept,
    }
}

pub(super) async fn unlock(monitor: &Monitor, who: &str, on: &Target) -> Reply {
    let now = monitor.clock.now();
    let Some(lock) = monitor.config().locks.on(on, now).cloned() else {
        return Reply::Unlocked(false);
    };
    let event = Event::LockLifted { lock: &lock, who };
    if let Err(error) = monitor.audit.emit(event).await {
        return Reply::Error(format!("it stays locked: {error}"));
    }
    match monitor.locking.unlock(on, now).await {
        Ok(()) => Reply::Unlocked(true),
        Err(error) => Reply::Error(error.to_string()),
    }
}
