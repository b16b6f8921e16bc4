//! Recordings in a local directory: `recordings/YYYY/MM/DD/ULID/`, with the files that [`crate::store::Part`] names. The day is that of
//! the id, UTC. Directories are 0700, files 0600.

mod files;
mod layout;
mod left;
mod recover;
mod remove;
mod replace;
mod rounds;
mod sink;
mod target;
#[cfg(test)]
mod tests;
mod walk;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use async_trait::async_trait;
use tokio::sync::Semaphore;

pub use recover::{InLog, Interrupted, recover, unpacked, unsealed};

use self::files::FsFiles;
use self::layout::Layout;
use self::sink::FsSink;
use self::writer::{Target, Writer};
use super::room::Room;
use super::{Beginning, RecordingSink, RecordingStore, Space, Span, StoreError, StoredFiles};
use crate::session::SessionId;

/// Threads that may wait for the disk at once to open and close recordings. A disk that hangs takes these,
/// and whoever opens a recording waits; the rest of the daemon has the other threads.
const SLOW_OPERATIONS: usize = 16;

/// A store in a local directory. Clones are the same one.
#[derive(Clone, Debug)]
pub struct FsStore {
    layout: Arc<Layout>,
    writer: Arc<LazyWriter>,
    slow: Arc<Semaphore>,
    room: Room,
}

/// Started by the first recording: those who only read need no thread.
#[derive(Debug, Default)]
struct LazyWriter {
    started: OnceLock<Arc<Writer>>,
    starting: Mutex<()>,
}

impl FsStore {
    /// The store under `state_dir`. Nothing is touched yet.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            layout: Arc::new(Layout::new(state_dir)),
            writer: Arc::default(),
            slow: Arc::new(Semaphore::new(SLOW_OPERATIONS)),
            room: Room::default(),
        }
    }

    /// The same, with room that is given up for what is written, once there is no other.
    pub fn with_room(self, room: Room) -> Self {
        Self { room, ..self }
    }

    /// Whether a copy of a recording can be written beside it without taking the last room from those that are written.
    pub(crate) async fn has_room_for_another(&self, id: SessionId) -> Result<bool, StoreError> {
        if self.room.trouble().is_some() {
            return Ok(false);
        }
        let directory = self.layout.directory(id);
        slowly(&self.slow, move || {
            let failed =
                |error| StoreError::io(format!("looking at {}", directory.display()), error);
            let mut bytes = 0_u64;
            for entry in std::fs::read_dir(&directory).map_err(failed)? {
                let about = entry.and_then(|entry| entry.metadata()).map_err(failed)?;
                bytes = bytes.saturating_add(about.len());
            }
            let space = Space::at(&directory).map_err(failed)?;
            Ok(space.can_take(bytes))
        })
        .await
    }

    /// Where a recording lies.
    pub(crate) fn directory(&self, id: SessionId) -> PathBuf {
        self.layout.directory(id)
    }

    /// An empty directory for what a recording is to be replaced by; what an earlier attempt left is removed.
    pub(crate) fn draft(&self, id: SessionId) -> Result<PathBuf, StoreError> {
        replace::draft(&self.layout, id)
    }

    /// Writes files that must not be there yet. When this returns, they survive a power cut.
    pub(crate) async fn write_new(&self, files: Vec<(PathBuf, Vec<u8>)>) -> Result<(), StoreError> {
        slowly(&self.slow, move || {
            files.iter().try_for_each(|(path, bytes)| {
                layout::write_new(path, bytes)
                    .map(drop)
                    .map_err(|error| StoreError::io(format!("writing {}", path.display()), error))
            })
        })
        .await
    }

    /// Puts what was drafted in a recording's place, at once. When this returns, that survives a power cut.
    /// What was there lies where this says, until it is discarded.
    pub(crate) async fn replace(&self, id: SessionId, draft: &Path) -> Result<PathBuf, StoreError> {
        let layout = Arc::clone(&self.layout);
        let draft = draft.to_owned();
        slowly(&self.slow, move || replace::replace(&layout, id, &draft)).await
    }

    /// Removes what was replaced, or a draft that came to nothing. What is left, the next start removes.
    pub(crate) async fn discard(&self, directory: PathBuf) -> Result<(), StoreError> {
        slowly(&self.slow, move || replace::discard(&directory)).await
    }

    /// How often recordings were put on stable storage while they went on: all of them at once count once.
    pub fn syncs(&self) -> u64 {
        self.writer.started.get().map_or(0, |writer| writer.syncs())
    }

    fn writer(&self) -> Result<Arc<Writer>, StoreError> {
        let LazyWriter { started, starting } = &*self.writer;
        if let Some(writer) = started.get() {
            return Ok(Arc::clone(writer));
        }
        let _only_one = starting
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(writer) = started.get() {
            return Ok(Arc::clone(writer));
        }
        let writer = Arc::new(Writer::start(self.layout.root())?);
        Ok(Arc::clone(started.get_or_init(|| writer)))
    }
}

#[async_trait]
impl RecordingStore for FsStore {
    async fn create(
        &self,
        id: SessionId,
        beginning: Beginning,
    ) -> Result<Arc<dyn RecordingSink>, StoreError> {
        let writer = self.writer()?;
        let layout = Arc::clone(&self.layout);
        let length = beginning.cast.len() as u64;
        let requests = beginning.requests;
        let room = self.room.clone();
        let begun = slowly(&self.slow, move || {
            room.with_room_in_store("opening a recording", || layout.create(id, &beginning))
        })
        .await?;
        let directory = self.layout.directory(id);
        let target = Target::new(directory, begun, length, requests, self.room.clone());
        Ok(Arc::new(FsSink::new(
            target,
            writer,
            Arc::clone(&self.slow),
        )))
    }

    async fn open(&self, id: SessionId) -> Result<Box<dyn StoredFiles>, StoreError> {
        let directory = self.layout.directory(id);
        let slow = Arc::clone(&self.slow);
        let files = slowly(&slow.clone(), move || FsFiles::open(id, directory, slow)).await?;
        Ok(Box::new(files))
    }

    async fn list(&self, span: Span) -> Result<Vec<SessionId>, StoreError> {
        let layout = Arc::clone(&self.layout);
        slowly(&self.slow, move || walk::list(&layout, span)).await
    }
}

/// Runs what waits for the disk on a thread where waiting is allowed.
async fn slowly<T: Send + 'static>(
    slow: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let permit = Arc::clone(slow)
        .acquire_owned()
        .await
        .map_err(|_| StoreError::WriterGone)?;
    tokio::task::spawn_blocking(move || {
        // Held by the work, not by who waits for it: a waiter that goes away frees no thread.
        let _permit = permit;
        work()
    })
    .await
    .map_err(|_| StoreError::WriterGone)?
}

/// The same for work that is done one piece at a time.
async fn slowly_once<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| StoreError::WriterGone)?
}
