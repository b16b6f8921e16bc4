//! The threads that touch the disk for all recordings of a daemon.
//!
//! One writes: whoever records hands bytes over and waits until they have reached the kernel. A disk that
//! hangs holds up this thread and those who wait for it, and nobody else. The other one syncs what was
//! written, many recordings in one round, so that a power cut loses at most the last [`SYNC_EVERY`].

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc as std_mpsc};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::layout::{self, new_file, sync_directory};
use crate::store::{Lines, StoreError};

/// The longest that written bytes wait for the next sync to begin.
pub(super) const SYNC_EVERY: Duration = Duration::from_millis(250);

/// Appends under way at once; more wait their turn.
const QUEUE: usize = 256;

/// A recording that is being written.
#[derive(Debug)]
pub(super) struct Target {
    directory: PathBuf,
    files: Mutex<Files>,
    dirty: AtomicBool,
    failure: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Files {
    cast: Appended,
    /// Made by the first request: a session without one pays nothing for it.
    requests: Option<Appended>,
    /// The directory does not have the name of every file on disk yet.
    unnamed: bool,
}

#[derive(Clone, Debug)]
struct Appended {
    file: Arc<File>,
    /// Bytes that are there for certain; what a failed write left behind is cut off.
    length: u64,
}

impl Appended {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self.file).write_all(bytes)
    }

    fn cut(&self) {
        // Half a line may be there. Where even this fails, recovery cuts it off.
        drop(self.file.set_len(self.length));
    }
}

impl Files {
    fn write(&mut self, lines: &Lines, directory: &std::path::Path) -> io::Result<()> {
        if !lines.requests.is_empty() && self.requests.is_none() {
            self.requests = Some(Appended {
                file: Arc::new(new_file(&directory.join(layout::REQUESTS))?),
                length: 0,
            });
            self.unnamed = true;
        }
        // The index first: what it lacks nobody would miss on the timeline, but not the other way round.
        let requests = self
            .requests
            .as_ref()
            .filter(|_| !lines.requests.is_empty());
        let written = requests
            .map_or(Ok(()), |file| file.write(&lines.requests))
            .and_then(|()| match lines.cast.is_empty() {
                true => Ok(()),
                false => self.cast.write(&lines.cast),
            });
        if let Err(error) = written {
            self.cast.cut();
            if let Some(requests) = requests {
                requests.cut();
            }
            return Err(error);
        }
        let grown =
            |file: &mut Appended, by: usize| file.length = file.length.saturating_add(by as u64);
        grown(&mut self.cast, lines.cast.len());
        if let Some(requests) = &mut self.requests {
            grown(requests, lines.requests.len());
        }
        Ok(())
    }
}

impl Target {
    pub(super) fn new(directory: PathBuf, cast: File, length: u64) -> Self {
        Self {
            directory,
            files: Mutex::new(Files {
                cast: Appended {
                    file: Arc::new(cast),
                    length,
                },
                requests: None,
                unnamed: false,
            }),
            dirty: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    /// Returns when all of it survives a power cut.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.check()?;
        self.sync_files().map_err(|error| self.fail(error))
    }

    fn sync_files(&self) -> io::Result<()> {
        let (cast, requests, unnamed) = {
            // Not held while the disk works: that would hold up the writing thread, and so everybody.
            let mut files = self.files();
            let requests = files.requests.as_ref().map(|it| Arc::clone(&it.file));
            let unnamed = std::mem::take(&mut files.unnamed);
            (Arc::clone(&files.cast.file), requests, unnamed)
        };
        cast.sync_data()?;
        if let Some(requests) = requests {
            requests.sync_data()?;
        }
        if unnamed {
            sync_directory(&self.directory)?;
        }
        Ok(())
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
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

    fn write(&self, lines: &Lines) -> Result<(), StoreError> {
        self.check()?;
        let written = self.files().write(lines, &self.directory);
        written.map_err(|error| self.fail(error))
    }
}

#[derive(Debug)]
struct Append {
    target: Arc<Target>,
    lines: Lines,
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

    /// Returns when `lines` have reached the kernel.
    pub(super) async fn append(&self, target: Arc<Target>, lines: Lines) -> Result<(), StoreError> {
        let (done, written) = oneshot::channel();
        let append = Append {
            target,
            lines,
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
        let mut result = append.target.write(&append.lines);
        if result.is_ok()
            && !append.target.dirty.swap(true, Ordering::AcqRel)
            && dirty.send(Arc::clone(&append.target)).is_err()
        {
            // Nobody would sync it: the promise cannot be kept, so it is not made.
            result = Err(StoreError::WriterGone);
        }
        // Before the answer, so that who gets it may use the memory again.
        drop(append.lines);
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
            if target.check().is_ok()
                && let Err(error) = target.sync()
            {
                tracing::error!(%error, "a recording could not be synced; its session ends with the next event");
            }
        }
    }
}
