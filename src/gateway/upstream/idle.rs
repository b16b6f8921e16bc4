//! The connections to an API server on which nothing is under way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::line::Line;
use crate::clock;

/// After which a connection that nobody uses is closed: before the API server does (90 s).
const IDLE: Duration = Duration::from_secs(60);
/// How often that is looked for, and for those which the API server has closed.
const SWEEP: Duration = Duration::from_secs(15);
/// As many connections as a busy moment leaves behind.
const MOST: usize = 64;

/// The connections.
#[derive(Default)]
pub(super) struct Idle(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    /// The one that rests for the longest time first.
    resting: VecDeque<(Line, Instant)>,
    swept: bool,
}

impl Idle {
    /// One that can be used.
    pub(super) fn take(&self) -> Option<Line> {
        loop {
            let (mut line, since) = self.lock().resting.pop_back()?;
            if since.elapsed() < IDLE && line.rests() {
                return Some(line);
            }
        }
    }

    /// Keeps a connection for the next request, if there can be one on it.
    pub(super) fn keep(self: &Arc<Self>, mut line: Line) {
        if !line.rests() {
            return;
        }
        let mut lines = self.lock();
        lines.resting.push_back((line, clock::monotonic()));
        let surplus = (lines.resting.len() > MOST).then(|| lines.resting.pop_front());
        let sweep = !std::mem::replace(&mut lines.swept, true);
        drop(lines);
        drop(surplus);
        if sweep {
            tokio::spawn(sweep_until_empty(Arc::downgrade(self)));
        }
    }

    /// Whether any are left.
    fn sweep(&self) -> bool {
        let mut lines = self.lock();
        let (stay, gone): (VecDeque<_>, Vec<_>) = std::mem::take(&mut lines.resting)
            .into_iter()
            .map(|(mut line, since)| {
                let stays = since.elapsed() < IDLE && line.rests();
                ((line, since), stays)
            })
            .fold(
                (VecDeque::new(), Vec::new()),
                |(mut stay, mut gone), (line, stays)| {
                    match stays {
                        true => stay.push_back(line),
                        false => gone.push(line),
                    }
                    (stay, gone)
                },
            );
        lines.resting = stay;
        lines.swept = !lines.resting.is_empty();
        let left = lines.swept;
        drop(lines);
        drop(gone);
        left
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let resting = self.lock().resting.len();
        f.debug_struct("Idle").field("resting", &resting).finish()
    }
}

async fn sweep_until_empty(idle: Weak<Idle>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        match idle.upgrade() {
            Some(idle) if idle.sweep() => {}
            _ => return,
        }
    }
}
