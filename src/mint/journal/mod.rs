//! What was begun in a cluster and is not undone yet, on disk before it is begun.
//!
//! `stateDir/leases.jsonl`: one JSON record a line, appended and synced. After a crash it names exactly
//! what is left behind, so that the daemon needs no right to list Secrets and touches nobody else's.

mod book;
mod file;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

pub(super) use book::{Book, Intent, Issued, Means, Record};

use crate::store::room::Room;

/// Appends in flight; each is some 300 bytes. A full queue makes callers wait.
const QUEUE: usize = 1024;

/// Why something could not be written down (and is therefore not done).
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// Another daemon has it.
    #[error("{path}: in use: another daemon runs on this state directory")]
    InUse {
        /// The lock.
        path: PathBuf,
    },
    /// Others could read or change it.
    #[error("{path}: mode {mode:04o}: the journal must be the daemon's alone: chmod 0600")]
    Exposed {
        /// The journal.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It could not be read or written.
    #[error("{path}: {doing}: {source}")]
    Io {
        /// The journal.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The operating system's word.
        source: Arc<std::io::Error>,
    },
    /// It is far larger than it can get.
    #[error("{path}: larger than {limit} bytes: this is not the lease journal")]
    TooLong {
        /// The journal.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// The disk does not answer.
    #[error("the lease journal was not written in time: does the disk of stateDir answer?")]
    Slow,
    /// The thread that writes it is gone.
    #[error("the lease journal is closed")]
    Closed,
}

/// The journal, open for appending. Dropping it waits for what was appended.
#[derive(Debug)]
pub(super) struct Journal {
    to_writer: Option<mpsc::Sender<Append>>,
    writer: Option<std::thread::JoinHandle<()>>,
}

/// Records on their way to the disk, together.
#[derive(Debug)]
struct Append {
    records: Vec<Record>,
    done: oneshot::Sender<Result<(), JournalError>>,
}

/// What was found on opening.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What is open.
    pub(super) book: Book,
    /// Lines that could not be read, kept beside the journal.
    pub(super) damaged: usize,
}

impl Journal {
    /// Opens or creates the journal, compacts it, and says what it holds.
    pub(super) fn open(state_dir: &Path, room: Room) -> Result<(Self, Found), JournalError> {
        let (mut file, found) = file::JournalFile::open(state_dir, room)?;
        let (to_writer, appends) = mpsc::channel(QUEUE);
        let path = file.path().to_owned();
        let writer = std::thread::Builder::new()
            .name("lease-journal".to_owned())
            .spawn(move || write(&mut file, appends))
            .map_err(|source| JournalError::Io {
                path,
                doing: "starting its writer",
                source: Arc::new(source),
            })?;
        let journal = Self {
            to_writer: Some(to_writer),
            writer: Some(writer),
        };
        Ok((journal, found))
    }

    /// Returns when a record is on disk, and does not wait for a disk that hangs. A record given up may be written yet.
    pub(super) async fn record_by(
        &self,
        record: Record,
        deadline: tokio::time::Instant,
    ) -> Result<(), JournalError> {
        self.record_all_by(vec![record], deadline).await
    }

    /// As [`Journal::record_by`], for all of them or none.
    pub(super) async fn record_all_by(
        &self,
        records: Vec<Record>,
        deadline: tokio::time::Instant,
    ) -> Result<(), JournalError> {
        match tokio::time::timeout_at(deadline, self.record(records)).await {
            Ok(result) => result,
            Err(_) => Err(JournalError::Slow),
        }
    }

    /// Appends records; returns when they are on disk.
    async fn record(&self, records: Vec<Record>) -> Result<(), JournalError> {
        let (done, written) = oneshot::channel();
        self.to_writer
            .as_ref()
            .ok_or(JournalError::Closed)?
            .send(Append { records, done })
            .await
            .map_err(|_| JournalError::Closed)?;
        written.await.map_err(|_| JournalError::Closed)?
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.to_writer = None;
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
    }
}

/// Takes whatever waits, writes it at once and syncs once: sessions that start together share a sync.
fn write(file: &mut file::JournalFile, mut appends: mpsc::Receiver<Append>) {
    while let Some(first) = appends.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < QUEUE
            && let Ok(next) = appends.try_recv()
        {
            batch.push(next);
        }
        let result = file.append(batch.iter().flat_map(|append| &append.records));
        for append in batch {
            // Who asked may have gone away meanwhile.
            drop(append.done.send(result.clone()));
        }
    }
}

#[cfg(test)]
impl Journal {
    /// One that nothing can be written to any more.
    pub(super) fn closed() -> Self {
        Self {
            to_writer: None,
            writer: None,
        }
    }
}

#[cfg(test)]
mod tests;
