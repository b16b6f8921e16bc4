//! The threads that touch the disk for all recordings of a daemon.
//!
//! One writes: whoever records hands bytes over and waits until they have reached the kernel. A disk that
//! hangs holds up this thread and those who wait for it, and nobody else. The other one syncs what was
//! written, all recordings in one round: see [`super::rounds`].
//!
//! To hand over a few bytes and to be woken takes longer than to write them, and a request waits for it: so a few are
//! written on the spot, by a task that gives its thread's other work away first.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::block_in_place;

use super::rounds::Rounds;
pub(super) use super::target::{Append, Target};
use crate::store::StoreError;

/// Appends under way at once; more wait their turn.
const QUEUE: usize = 256;
/// Most bytes that are written on the spot. More take long enough for two threads to share the work.
const FEW: u64 = 2 * 1024;
/// Tasks that write on the spot at once: as many threads as a disk that hangs can hold up beside our own.
const ON_THE_SPOT: usize = 4;

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
    on_the_spot: Semaphore,
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
        Ok(Self {
            jobs,
            rounds,
            on_the_spot: Semaphore::new(ON_THE_SPOT),
        })
    }

    /// Returns when what is appended has reached the kernel.
    pub(super) async fn append(
        &self,
        target: Arc<Target>,
        append: Append,
    ) -> Result<(), StoreError> {
        let bytes = append.bytes();
        // Nobody waits for a checkpoint, and many come at the end of a round.
        if matches!(append, Append::Lines(_))
            && bytes <= FEW
            && has_other_threads()
            && let Ok(_place) = self.on_the_spot.try_acquire()
            && self.rounds.try_reserve(bytes)
        {
            return block_in_place(|| write(&target, &append, &self.rounds));
        }
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
        rounds.reserve(job.append.bytes());
        let result = write(&job.target, &job.append, rounds);
        // Before the answer, so that who gets it may use the memory again.
        drop(job.append);
        // Who no longer waits, no longer needs the answer; a failure is also kept in the target.
        drop(job.done.send(result));
    }
}

fn write(target: &Arc<Target>, append: &Append, rounds: &Rounds) -> Result<(), StoreError> {
    let result = target.write(append);
    // Also after a failure: some of it may be there.
    rounds.written(target, append.bytes());
    result
}

/// Whether another thread takes over what this one has to do, while it waits for a disk.
fn has_other_threads() -> bool {
    Handle::try_current().is_ok_and(|here| here.runtime_flavor() == RuntimeFlavor::MultiThread)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use super::super::layout::Begun;
    use super::*;
    use crate::store::room::Room;
    use crate::store::{Lines, Part};

    /// A recording on a disk that takes nothing until the other end is read.
    fn hanging() -> (Arc<Target>, File) {
        let (disk, file) = rustix::pipe::pipe().unwrap();
        let size = rustix::pipe::fcntl_getpipe_size(&file).unwrap();
        let cast = File::from(file);
        std::io::Write::write_all(&mut &cast, &vec![0; size]).unwrap();
        (target(cast), File::from(disk))
    }

    fn target(cast: File) -> Arc<Target> {
        let begun = Begun {
            cast,
            checkpoints: File::options().append(true).open("/dev/null").unwrap(),
            note_bytes: 0,
        };
        let room = Room::default();
        Arc::new(Target::new(
            "/nowhere".into(),
            begun,
            0,
            Part::Requests,
            room,
        ))
    }

    fn line(bytes: usize) -> Append {
        Append::Lines(Lines {
            cast: vec![b'x'; bytes].into(),
            requests: Default::default(),
        })
    }

    #[test]
    fn a_disk_that_hangs_holds_up_nobody_who_has_nothing_to_write() {
        // A single thread, which everything else would wait for.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let root = tempfile::tempdir().unwrap();
        let writer = Arc::new(Writer::start(root.path()).unwrap());
        let (target, disk) = hanging();
        // More of them than write on the spot: the rest queue.
        let waiting: Vec<_> = (0..3 * ON_THE_SPOT)
            .map(|_| {
                let (writer, target) = (Arc::clone(&writer), Arc::clone(&target));
                runtime.spawn(async move { writer.append(target, line(10)).await })
            })
            .collect();
        for _ in 0..5 {
            let (moves, moved) = std::sync::mpsc::channel();
            runtime.spawn(async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                moves.send(()).unwrap();
            });
            // Not by the runtime's clock, which would stand still with its only thread.
            let moved = moved.recv_timeout(Duration::from_secs(20));
            moved.expect("the loop does not wait for the disk");
        }
        runtime.block_on(async {
            assert!(waiting.iter().all(|write| !write.is_finished()));
            assert_eq!(writer.on_the_spot.available_permits(), 0);
            drop(OwnedFd::from(disk));
            for write in waiting {
                // Nobody reads any more: told to everyone.
                assert!(write.await.unwrap().is_err());
            }
            assert_eq!(writer.on_the_spot.available_permits(), ON_THE_SPOT);
        });
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_is_written_on_the_spot_counts_as_unsynced() {
        let root = tempfile::tempdir().unwrap();
        let writer = Writer::start(root.path()).unwrap();
        let file = root.path().join("cast");
        let cast = File::options()
            .append(true)
            .create(true)
            .open(&file)
            .unwrap();
        let target = target(cast);
        for bytes in [1, FEW as usize, FEW as usize + 1] {
            writer
                .append(Arc::clone(&target), line(bytes))
                .await
                .unwrap();
        }
        let written = std::fs::metadata(&file).unwrap().len();
        assert_eq!(written, 2 * FEW + 2);
        assert!(writer.rounds.unsynced() > 0);
        writer.synced(&target).await.unwrap();
        assert_eq!(writer.rounds.unsynced(), 0);
    }
}
