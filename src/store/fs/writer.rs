//! The threads that touch the disk for all recordings of a daemon.
//!
//! One writes: whoever records hands bytes over and waits until they have reached the kernel. A disk that
//! hangs holds up this thread and those who wait for it, and nobody else. The other one syncs what was
//! written, many recordings in one round, so that a power cut loses at most the last [`SYNC_EVERY`].

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::store::StoreError;

/// The longest that written bytes wait for the next sync to begin.
pub(super) const SYNC_EVERY: Duration = Duration::from_millis(250);

/// Appends under way at once; more wait their turn.
const QUEUE: usize = 256;

/// A cast that is being written.
#[derive(Debug)]
pub(super) struct Target {
    file: File,
    /// Bytes that are there for certain; what a failed write left behind is cut off.
    length: Mutex<u64>,
    dirty: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl Target {
    pub(super) fn new(file: File, length: u64) -> Self {
        Self {
            file,
            length: Mutex::new(length),
            dirty: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    pub(super) fn sync_all(&self) -> Result<(), StoreError> {
        self.check()?;
        self.file.sync_all().map_err(|error| self.fail(error))
    }

    fn check(&self) -> Result<(), StoreError> {
        let failure = self
            .failure
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        failure
            .clone()
            .map_or(Ok(()), |why| Err(StoreError::Failed(why)))
    }

    fn fail(&self, error: std::io::Error) -> StoreError {
        let error = StoreError::io("writing a recording", error);
        let mut failure = self
            .failure
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        failure.get_or_insert_with(|| error.to_string());
        error
    }

    fn write(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.check()?;
        let mut length = self
            .length
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        match (&self.file).write_all(bytes) {
            Ok(()) => {
                *length = length.saturating_add(bytes.len() as u64);
                Ok(())
            }
            Err(error) => {
                // Half a line may be there. Where even this fails, recovery cuts it off.
                drop(self.file.set_len(*length));
                Err(self.fail(error))
            }
        }
    }
}

#[derive(Debug)]
struct Append {
    target: Arc<Target>,
    bytes: Bytes,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// The way to the writing thread.
#[derive(Debug)]
pub(super) struct Writer {
    appends: mpsc::Sender<Append>,
}

impl Writer {
    pub(super) fn start() -> Result<Self, StoreError> {
        let (appends, queue) = mpsc::channel(QUEUE);
        // Unbounded by type, bounded in fact: a recording is in it at most once.
        let (dirty, to_sync) = std_mpsc::channel();
        spawn("recording-sync", move || sync_rounds(&to_sync))?;
        spawn("recording-write", move || write_in_turn(queue, &dirty))?;
        Ok(Self { appends })
    }

    /// Returns when `bytes` have reached the kernel.
    pub(super) async fn append(&self, target: Arc<Target>, bytes: Bytes) -> Result<(), StoreError> {
        let (done, written) = oneshot::channel();
        let append = Append {
            target,
            bytes,
            done,
        };
        self.appends
            .send(append)
            .await
            .map_err(|_| StoreError::WriterGone)?;
        written.await.map_err(|_| StoreError::WriterGone)?
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|error| StoreError::io(format!("starting the thread {name}"), error))
}

fn write_in_turn(mut queue: mpsc::Receiver<Append>, dirty: &std_mpsc::Sender<Arc<Target>>) {
    while let Some(append) = queue.blocking_recv() {
        let mut result = append.target.write(&append.bytes);
        if result.is_ok()
            && !append.target.dirty.swap(true, Ordering::AcqRel)
            && dirty.send(Arc::clone(&append.target)).is_err()
        {
            // Nobody would sync it: the promise cannot be kept, so it is not made.
            result = Err(StoreError::WriterGone);
        }
        // Before the answer, so that who gets it may use the memory again.
        drop(append.bytes);
        // Who no longer waits, no longer needs the answer; a failure is also kept in the target.
        drop(append.done.send(result));
    }
}

fn sync_rounds(to_sync: &std_mpsc::Receiver<Arc<Target>>) {
    while let Ok(first) = to_sync.recv() {
        std::thread::sleep(SYNC_EVERY);
        for target in std::iter::once(first).chain(to_sync.try_iter()) {
            // Clean before the sync, not after: what is written meanwhile is for the next round.
            target.dirty.store(false, Ordering::Release);
            if let Err(error) = target.file.sync_data() {
                let error = target.fail(error);
                tracing::error!(%error, "a recording could not be synced; its session ends with the next event");
            }
        }
    }
}
