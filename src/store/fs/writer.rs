//! The threads that touch the disk for all recordings of a daemon.
//!
//! One writes: whoever records hands bytes over and waits until they have reached the kernel. A disk that
//! hangs holds up this thread and those who wait for it, and nobody else. The other one syncs what was
//! written, all recordings in one round: see [`super::rounds`].

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::rounds::Rounds;
pub(super) use super::target::{Append, Target};
use crate::store::StoreError;

/// Appends under way at once; more wait their turn.
const QUEUE: usize = 256;

#[derive(Debug)]
struct Job {
    target: Arc<Target>,
    append: Append,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// The way to the threads. They end when the last one is gone.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    rounds: Arc<Rounds>,
}

impl Writer {
    /// Starts the threads for recordings under `root`.
    pub(super) fn start(root: &Path) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let rounds = Arc::new(Rounds::new(root.to_owned()));
        let syncing = Arc::clone(&rounds);
        spawn("recording-sync", move || syncing.run())?;
        let writing = Arc::clone(&rounds);
        spawn("recording-write", move || {
            write_in_turn(queue, &writing);
            writing.end();
        })?;
        Ok(Self { jobs, rounds })
    }

    /// Returns when what is appended has reached the kernel.
    pub(super) async fn append(
        &self,
        target: Arc<Target>,
        append: Append,
    ) -> Result<(), StoreError> {
        let (done, written) = oneshot::channel();
        let job = Job {
            target,
            append,
            done,
        };
        self.jobs
            .send(job)
            .await
            .map_err(|_| StoreError::WriterGone)?;
        written.await.map_err(|_| StoreError::WriterGone)?
    }

    /// How often recordings were synced: a round counts once, however many there are in it.
    pub(super) fn syncs(&self) -> u64 {
        self.rounds.begun()
    }

    /// Returns when everything that was appended before survives a power cut.
    pub(super) async fn synced(&self, target: &Arc<Target>) -> Result<(), StoreError> {
        self.rounds.next(target).await?;
        target.check()
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|error| StoreError::io(format!("starting the thread {name}"), error))
}

fn write_in_turn(mut queue: mpsc::Receiver<Job>, rounds: &Rounds) {
    while let Some(job) = queue.blocking_recv() {
        let bytes = job.append.bytes();
        rounds.wait_for_room(bytes);
        let result = job.target.write(&job.append);
        // Also after a failure: some of it may be there.
        rounds.written(&job.target, bytes);
        // Before the answer, so that who gets it may use the memory again.
        drop(job.append);
        // Who no longer waits, no longer needs the answer; a failure is also kept in the target.
        drop(job.done.send(result));
    }
}
