//! Brings closed recordings to the bucket, for as long as it takes.
//!
//! What is to be shipped is found on the disk: every recording that is closed, and of which `book` does not say that the
//! bucket has it. So nothing is forgotten by a restart, and nothing local goes before the bucket has acknowledged it and
//! its digest was checked. A server that is gone ends nothing; the queue grows, and one event says so.

mod behind;
mod book;
mod digest;
mod error;
mod queue;
#[cfg(test)]
mod tests;
mod upload;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

pub use error::ShipError;
pub use queue::{Pace, Waiting};

use self::behind::Behind;
use self::book::Book;
use self::queue::Queue;
use self::upload::{on_disk, ship};
use super::s3::Bucket;
use super::settled::settled;
use super::{FsStore, RecordingStore, Span, StoreError};
use crate::audit::{Audit, Event};
use crate::clock::Clock;
use crate::session::SessionId;
use crate::supervise::Supervisor;

/// What shipping is called where it is told that it died.
pub const TASK: &str = "shipping";

/// Recordings on their way at once: each takes memory for one part.
const AT_ONCE: usize = 4;
/// How often the disk is looked at for what was closed meanwhile.
const SCAN: Duration = Duration::from_secs(10);

/// Between two looks, however soon something is due.
const SHORTEST: Duration = Duration::from_millis(100);

/// Ships.
#[derive(Debug)]
pub struct Shipper {
    local: FsStore,
    bucket: Arc<Bucket>,
    book: Book,
    keep_local: Option<Duration>,
    clock: Arc<dyn Clock>,
    audit: Audit,
    supervisor: Supervisor,
    started: Timestamp,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    /// What the bucket has, and since when; of those that are here too.
    acknowledged: BTreeMap<SessionId, Timestamp>,
    /// What is on its way out must not come back.
    deleting: BTreeSet<SessionId>,
    behind: Behind,
}

impl Shipper {
    /// Looks at what is known on disk. Nothing is shipped before [`Self::run`].
    pub async fn open(
        state_dir: &Path,
        local: FsStore,
        bucket: Arc<Bucket>,
        keep_local: Option<Duration>,
        clock: Arc<dyn Clock>,
        audit: Audit,
        pace: Pace,
    ) -> Result<Self, ShipError> {
        let book = Book::new(state_dir);
        let acknowledged = on_disk(&book, acknowledged).await?;
        let started = clock.now();
        let state = State {
            queue: Queue::new(pace),
            acknowledged,
            deleting: BTreeSet::new(),
            behind: Behind::since(started),
        };
        Ok(Self {
            local,
            bucket,
            book,
            keep_local,
            clock,
            supervisor: Supervisor::new(audit.clone()),
            audit,
            started,
            state: Mutex::new(state),
        })
    }

    /// Ships until it is dropped. What is under way then is taken up again by the next daemon.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.round().await;
            let next = self.state().queue.next(self.clock.now());
            tokio::time::sleep(next.unwrap_or(SCAN).clamp(SHORTEST, SCAN)).await;
        }
    }

    /// Looks at the disk once and tries everything that is due.
    pub async fn round(self: &Arc<Self>) {
        self.take_back();
        if let Err(error) = self.scan().await {
            tracing::error!(%error, "the recordings to be shipped could not be looked at");
        }
        let mut under_way = JoinSet::new();
        let mut look = tokio::time::interval(SCAN);
        look.reset();
        loop {
            while let Some(session) = self.take() {
                let shipper = Arc::clone(self);
                under_way.spawn(async move { shipper.ship(session).await });
            }
            tokio::select! {
                ended = under_way.join_next() => match ended {
                    Some(Ok(())) => {}
                    // Its recording is taken back by the next round.
                    Some(Err(error)) => self.supervisor.died(TASK, error, None).await,
                    None => break,
                },
                _ = look.tick() => {
                    if let Err(error) = self.scan().await {
                        tracing::error!(%error, "the recordings to be shipped could not be looked at");
                    }
                }
            }
            self.tell().await;
        }
        self.tell().await;
        self.make_room().await;
    }

    /// Who counts and tells what dies of it.
    pub(crate) fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// What the bucket does not have yet, oldest first.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.state().queue.list()
    }

    /// Whether the bucket has all of a recording that is here, and that was checked.
    pub fn is_acknowledged(&self, session: SessionId) -> bool {
        self.state().acknowledged.contains_key(&session)
    }

    /// From now on a recording is not shipped any more: it is being deleted.
    pub fn deleting(&self, session: SessionId) {
        let mut state = self.state();
        state.queue.forget(session);
        state.deleting.insert(session);
    }

    /// Forgets a recording that is gone.
    pub async fn deleted(&self, session: SessionId) -> Result<(), ShipError> {
        self.forget(session).await?;
        self.state().deleting.remove(&session);
        Ok(())
    }

    async fn forget(&self, session: SessionId) -> Result<(), ShipError> {
        {
            let mut state = self.state();
            state.queue.forget(session);
            state.acknowledged.remove(&session);
        }
        on_disk(&self.book, move |book| book.remove(session)).await
    }

    async fn scan(&self) -> Result<(), StoreError> {
        for session in self.local.list(Span::default()).await? {
            let known = {
                let state = self.state();
                state.queue.holds(session)
                    || state.acknowledged.contains_key(&session)
                    || state.deleting.contains(&session)
            };
            if known {
                continue;
            }
            let files = match self.local.open(session).await {
                Ok(files) => files,
                // It went away between the list and the look.
                Err(StoreError::NotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            let now = self.clock.now();
            match settled(&*files, self.started, now).await {
                Ok(Some(manifest)) => self.state().queue.add(session, manifest.closed),
                Ok(None) => {}
                Err(error) => {
                    let mut state = self.state();
                    state.queue.add(session, session.opened());
                    state
                        .queue
                        .failed(session, error.to_string(), false, now, 1.0);
                }
            }
        }
        Ok(())
    }

    /// What an earlier round did not see the end of, whatever ended it, is tried again.
    fn take_back(&self) {
        let now = self.clock.now();
        let mut state = self.state();
        for session in state.queue.under_way() {
            let reason = "the last try was not seen to its end".to_owned();
            state.queue.failed(session, reason, false, now, jitter());
        }
    }

    fn take(&self) -> Option<SessionId> {
        let now = self.clock.now();
        self.state().queue.take(now, AT_ONCE)
    }

    async fn ship(&self, session: SessionId) {
        let result = self.try_to_ship(session).await;
        let now = self.clock.now();
        let Err(error) = result else {
            let mut state = self.state();
            state.queue.shipped(session);
            state.acknowledged.insert(session, now);
            return;
        };
        let reason = error.to_string();
        let is_first = {
            let mut state = self.state();
            state
                .queue
                .failed(session, reason.clone(), error.is_outage(), now, jitter());
            error.is_conflict() && state.behind.first_conflict(session)
        };
        tracing::warn!(%session, "not shipped yet: {reason}");
        if is_first {
            let event = Event::RecordingConflict { session, reason };
            self.audit.tell(event).await;
        }
    }

    async fn try_to_ship(&self, session: SessionId) -> Result<(), ShipError> {
        let files = self.local.open(session).await?;
        if settled(&*files, self.started, self.clock.now())
            .await?
            .is_none()
        {
            return Err(StoreError::NotFound(session).into());
        }
        ship(session, &*files, &self.bucket, &self.book, &self.clock).await
    }

    /// One event when the queue falls behind, one when it has caught up.
    async fn tell(&self) {
        let now = self.clock.now();
        let told = {
            let mut state = self.state();
            let waiting = state.queue.list().len();
            let oldest = state.queue.oldest();
            state.behind.judge(waiting, oldest, now)
        };
        if let Some(event) = told {
            self.audit.tell(event).await;
        }
    }

    /// Removes local copies whose time is over, once more making sure that the bucket has them.
    async fn make_room(&self) {
        let Some(keep) = self.keep_local else {
            return;
        };
        let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
        let now = self.clock.now();
        let over: Vec<SessionId> = self
            .state()
            .acknowledged
            .iter()
            .filter(|(_, since)| now.duration_since(**since) >= keep)
            .map(|(session, _)| *session)
            .collect();
        let deleting = self.state().deleting.clone();
        for session in over.into_iter().filter(|it| !deleting.contains(it)) {
            if let Err(error) = self.remove_local(session).await {
                tracing::warn!(%session, "its local copy stays: {error}");
                if error.is_outage() {
                    return;
                }
            }
        }
    }

    async fn remove_local(&self, session: SessionId) -> Result<(), ShipError> {
        let page = on_disk(&self.book, move |book| book.read(session)).await?;
        if !page.is_of_all() {
            tracing::warn!(%session, "what is known of its shipping is lost; the object store is asked again");
            return self.forget(session).await;
        }
        for (name, file) in &page.files {
            let Some(part) = super::Part::named(name) else {
                continue;
            };
            let key = self.bucket.key(session, part);
            let there = self.bucket.stat(&key).await?;
            if there.is_none_or(|stat| stat.bytes != file.bytes) {
                tracing::error!(%key, "the object store has lost what it had acknowledged; it is shipped again");
                return self.forget(session).await;
            }
        }
        self.local.remove(session).await?;
        self.forget(session).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The recordings of which the book says that the bucket has them. Blocks.
fn acknowledged(book: &Book) -> Result<BTreeMap<SessionId, Timestamp>, StoreError> {
    let mut found = BTreeMap::new();
    for session in book.ids()? {
        if let Some(since) = book.read(session)?.acknowledged {
            found.insert(session, since);
        }
    }
    Ok(found)
}

/// Those of the recordings under `state_dir` that the bucket has, by what is on disk: for who is not the daemon.
pub async fn acknowledged_on_disk(
    state_dir: &Path,
) -> Result<BTreeMap<SessionId, Timestamp>, ShipError> {
    on_disk(&Book::new(state_dir), acknowledged).await
}

/// From 0 to 1. Without randomness everybody waits the longest.
fn jitter() -> f64 {
    let mut byte = [0_u8; 1];
    match aws_lc_rs::rand::fill(&mut byte) {
        Ok(()) => f64::from(byte[0]) / 255.0,
        Err(_) => 1.0,
    }
}
