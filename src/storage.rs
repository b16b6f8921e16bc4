//! Watches over where recordings lie: says once that it has failed and once that it has recovered, ends what cannot be
//! recorded, and warns before.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::audit::Event;
use crate::monitor::Monitor;
use crate::store::Space;
use crate::store::room::{Measure, Room, Trouble};

/// How often the disk is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many percent below the mark a warning is over: at the mark itself it would come and go.
const OVER: u8 = 2;

/// Before anything else is written: on a full disk that would fail.
pub(crate) async fn begin(room: &Room) {
    let room = room.clone();
    // Without it there is just less room.
    drop(tokio::task::spawn_blocking(move || room.begin()).await);
}

/// Keeps back what can be kept back once the daemon has all that it needs to run; the rest is when there is room.
pub(crate) async fn keep(room: &Room, reserve: u64) {
    let kept = room.clone();
    // A thread that ended has kept nothing back, and the next look does.
    drop(tokio::task::spawn_blocking(move || kept.keep(reserve)).await);
    let reserved = room.reserved();
    if reserved < reserve {
        tracing::warn!(
            "{reserved} bytes are kept back for the end of sessions, and not {reserve}: the disk has no more room"
        );
    }
}

/// Runs until it is dropped.
pub(crate) async fn watch(monitor: Arc<Monitor>) {
    // Side by side: a disk that hangs when it is looked at must not keep a session open.
    tokio::join!(tell(&monitor), look(&monitor));
}

async fn tell(monitor: &Monitor) {
    let Some(mut changes) = monitor.room.changes() else {
        return;
    };
    let mut told = None;
    loop {
        let trouble = *changes.borrow_and_update();
        match (trouble, told) {
            (Some(trouble), _) => {
                end_sessions(monitor, trouble);
                if let Some((told, _)) = &mut told {
                    *told = trouble;
                } else {
                    told = Some((trouble, monitor.clock.now()));
                    let reason = trouble.to_string();
                    let event = Event::StorageFailed { trouble, reason };
                    monitor.audit.tell(event).await;
                }
            }
            (None, Some((trouble, since))) => {
                told = None;
                tracing::warn!("recordings can be stored again");
                let event = Event::StorageRecovered { trouble, since };
                monitor.audit.tell(event).await;
            }
            (None, None) => {}
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn end_sessions(monitor: &Monitor, trouble: Trouble) {
    monitor.live.cut_where(|_, _, grant| {
        (!(grant.rescue() && trouble == Trouble::NoSpace))
            .then(|| format!("{trouble}, and nothing runs unrecorded"))
    });
}

async fn look(monitor: &Monitor) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let recordings = monitor.config().bastion.recordings.clone();
        let room = monitor.room.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let space = room.space();
            room.keep(recordings.reserve);
            space
        });
        let Ok(space) = looked.await else { continue };
        match space {
            Some(Ok(space)) => warn(monitor, &space, recordings.warn_at).await,
            Some(Err(error)) => tracing::warn!("looking at the disk of the recordings: {error}"),
            None => return,
        }
    }
}

async fn warn(monitor: &Monitor, space: &Space, mark: u8) {
    for what in Measure::ALL {
        let used_percent = match what {
            Measure::Bytes => space.bytes_used(),
            Measure::Inodes => space.inodes_used(),
        };
        let mark = match monitor.room.is_low(what) {
            true => mark.saturating_sub(OVER),
            false => mark,
        };
        let low = used_percent >= mark;
        if !monitor.room.set_low(what, low) || !low {
            continue;
        }
        let what = what.as_str();
        tracing::warn!("{used_percent}% of the {what} of the recordings' disk are used");
        let event = Event::StorageLow {
            what,
            used_percent,
            bytes_free: space.bytes_free,
            inodes_free: space.inodes.map(|inodes| inodes.free),
        };
        monitor.audit.tell(event).await;
    }
}
