//! Recordings in a local directory: `recordings/YYYY/MM/DD/ULID/`, with `session.cast`, with the
//! first request to the cluster `requests.jsonl`, and once closed `manifest.json`. The day is that of the id, UTC. Directories are 0700, files 0600.

mod layout;
mod recover;
mod sink;
#[cfg(test)]
mod tests;
mod walk;
mod writer;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;

pub use recover::{Interrupted, recover};

use self::layout::Layout;
use self::sink::FsSink;
use self::writer::Writer;
use super::{RecordingSink, RecordingStore, Span, StoreError, Stored};
use crate::session::SessionId;

/// A manifest is some kilobytes; what is larger than this was not written by us.
const MAX_MANIFEST: u64 = 16 << 20;

/// Threads that may wait for the disk at once to open and close recordings. A disk that hangs takes these,
/// and whoever opens a recording waits; the rest of the daemon has the other threads.
const SLOW_OPERATIONS: usize = 16;

/// A store in a local directory.
#[derive(Debug)]
pub struct FsStore {
    layout: Arc<Layout>,
    /// Started by the first recording: those who only read need no thread.
    writer: OnceLock<Arc<Writer>>,
    starting: Mutex<()>,
    slow: Arc<Semaphore>,
}

impl FsStore {
    /// The store under `state_dir`. Nothing is touched yet.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            layout: Arc::new(Layout::new(state_dir)),
            writer: OnceLock::new(),
            starting: Mutex::new(()),
            slow: Arc::new(Semaphore::new(SLOW_OPERATIONS)),
        }
    }

    fn writer(&self) -> Result<Arc<Writer>, StoreError> {
        if let Some(writer) = self.writer.get() {
            return Ok(Arc::clone(writer));
        }
        let _only_one = self
            .starting
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(writer) = self.writer.get() {
            return Ok(Arc::clone(writer));
        }
        let writer = Arc::new(Writer::start()?);
        Ok(Arc::clone(self.writer.get_or_init(|| writer)))
    }
}

#[async_trait]
impl RecordingStore for FsStore {
    async fn create(
        &self,
        id: SessionId,
        header: Bytes,
    ) -> Result<Arc<dyn RecordingSink>, StoreError> {
        let writer = self.writer()?;
        let layout = Arc::clone(&self.layout);
        let header_bytes = header.len() as u64;
        let file = slowly(&self.slow, move || layout.create(id, &header)).await?;
        Ok(Arc::new(FsSink::new(
            self.layout.directory(id),
            file,
            header_bytes,
            writer,
            Arc::clone(&self.slow),
        )))
    }

    async fn open(&self, id: SessionId) -> Result<Stored, StoreError> {
        let layout = Arc::clone(&self.layout);
        let (manifest, cast, cast_bytes, requests) = slowly(&self.slow, move || {
            // The manifest first: a recording sealed between the two reads is then still shown as live,
            // never a manifest with less cast than it speaks of.
            let directory = layout.directory(id);
            let manifest = read_manifest(&directory.join(layout::MANIFEST))?;
            let path = directory.join(layout::CAST);
            let doing = || format!("reading {}", path.display());
            let cast = File::open(&path).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => StoreError::NotFound(id),
                _ => StoreError::io(doing(), error),
            })?;
            let cast_bytes = cast
                .metadata()
                .map_err(|error| StoreError::io(doing(), error))?
                .len();
            let requests = open_if_there(&directory.join(layout::REQUESTS))?;
            Ok((manifest, cast, cast_bytes, requests))
        })
        .await?;
        Ok(Stored {
            manifest,
            cast: Box::new(tokio::fs::File::from_std(cast)),
            cast_bytes,
            requests: requests.map(|file| Box::new(tokio::fs::File::from_std(file)) as _),
        })
    }

    async fn list(&self, span: Span) -> Result<Vec<SessionId>, StoreError> {
        let layout = Arc::clone(&self.layout);
        slowly(&self.slow, move || walk::list(&layout, span)).await
    }
}

fn read_manifest(path: &Path) -> Result<Option<Bytes>, StoreError> {
    let Some(file) = open_if_there(path)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.take(MAX_MANIFEST)
        .read_to_end(&mut bytes)
        .map_err(|error| StoreError::io(format!("reading {}", path.display()), error))?;
    Ok(Some(Bytes::from(bytes)))
}

fn open_if_there(path: &Path) -> Result<Option<File>, StoreError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io(format!("reading {}", path.display()), error)),
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
