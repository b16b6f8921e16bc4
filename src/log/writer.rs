//! The thread that writes the log: many leaves, one sync, one signature.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::disk::Disk;
use super::head::Head;
use super::layout::{self, CHECKPOINT, TAIL};
use super::scan::{Scanned, scan};
use super::tail::{head_line, header, push_leaf};
use super::tree::{Tile, Tree, WIDTH, leaf_hash};
use super::{Leaf, LogError, Position};
use crate::clock::{self, Clock};
use crate::lane::{Next, Receiver};
use crate::signing::Signing;

/// Leaves that share one sync.
pub(super) const MOST_AT_ONCE: usize = 1024;
/// How often `checkpoint` and the tiles at the right edge follow the tail, while there is anything new.
const PUBLISH_EVERY: Duration = Duration::from_secs(10);
/// How long to wait before a failed signature or bundle is tried again by itself.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Space that the tail has ahead of it, so that sessions can still be sealed when the disk is full.
const RESERVE: u64 = 512 << 10;
/// Leaves that wait in memory for bundles that cannot be written. Beyond them nothing more is taken.
const MOST_UNBUNDLED: usize = 64 * WIDTH;

/// What a task asks of the thread.
#[derive(Debug)]
pub(super) enum Ask {
    /// To put a leaf on stable storage.
    Append {
        leaf: Vec<u8>,
        done: oneshot::Sender<Result<Position, LogError>>,
    },
    /// To publish and to end.
    Close { done: oneshot::Sender<()> },
}

#[derive(Debug)]
pub(super) struct Writer {
    directory: PathBuf,
    disk: Disk,
    signing: Signing,
    tree: Tree,
    file: File,
    /// Length of the tail up to its last whole line.
    length: u64,
    /// What is beyond `length` must go before anything is appended: a write or a sync failed.
    torn: bool,
    /// Up to here the tail's space is its own.
    reserved: u64,
    /// The tail's first leaf.
    first: u64,
    /// The tail's leaves, for the next bundles.
    leaves: Vec<Vec<u8>>,
    /// Full tiles that are not on disk yet.
    tiles: Vec<Tile>,
    heads: watch::Sender<Arc<Head>>,
    /// What `checkpoint` covers, the partial tiles that lie beside it, and when that was.
    published: (Option<u64>, Vec<PathBuf>, Instant),
    /// Not before then is what failed tried again.
    again: Instant,
    /// Held as long as this lives.
    _lock: File,
}

impl Writer {
    /// Opens the log, or begins it; cuts off what a crash left, takes in what no head covers yet, and signs.
    pub(super) fn open(
        directory: &Path,
        signing: Signing,
        clock: &dyn Clock,
        disk: Disk,
    ) -> Result<Self, LogError> {
        crate::signing::private_directory(directory)
            .map_err(LogError::io(directory, "making it"))?;
        let lock = lock(directory)?;
        let found = match scan(directory, signing.keys(), &mut |_, _| Ok(()))? {
            Some(found) => found,
            None => begin(directory, &disk)?,
        };
        let path = directory.join(TAIL);
        let file = File::options()
            .read(true)
            .append(true)
            .open(&path)
            .map_err(LogError::io(&path, "opening"))?;
        let head = match found.head {
            Some(head) => head,
            // Nothing was ever signed: it has just been begun, or that is where a crash ended it.
            None => Head::sign(&signing, 0, Tree::default().root())?,
        };
        let previous = found.key.filter(|key| key != signing.key());
        let unsigned = head.size() < found.tree.size();
        let mut writer = Self {
            directory: directory.to_owned(),
            disk,
            signing,
            tree: found.tree,
            file,
            length: found.readable,
            torn: found.unreadable > 0,
            reserved: 0,
            first: found.first,
            leaves: found.tail,
            tiles: found.tiles,
            heads: watch::Sender::new(Arc::new(head)),
            published: (found.published, Vec::new(), clock::monotonic()),
            again: clock::monotonic(),
            _lock: lock,
        };
        if writer.torn {
            tracing::warn!(
                "the log {}: its last {} bytes were never finished, and are cut off",
                directory.display(),
                found.unreadable
            );
        }
        writer.mend()?;
        if let Some(previous) = previous {
            let at = clock.now();
            let note = writer.signing.sign_succession(&previous, at)?;
            let leaf = Leaf::Key {
                at,
                key: writer.signing.key().clone(),
                previous,
                note: note.as_str().to_owned(),
            };
            writer.commit(vec![leaf.to_bytes()?])?;
        } else if unsigned || writer.tree.size() == 0 {
            // What is there now may never have been synced by who wrote it.
            writer.sync()?;
            writer.sign()?;
        }
        writer.bundle()?;
        writer.publish()?;
        Ok(writer)
    }

    pub(super) fn heads(&self) -> watch::Receiver<Arc<Head>> {
        self.heads.subscribe()
    }

    /// Serves until the last handle is gone, or it is told to close.
    pub(super) fn run(mut self, asks: &Receiver<Ask>) {
        let closed = loop {
            match asks.next(self.next_chore()) {
                Next::Item(Ask::Append { leaf, done }) => {
                    if let Some(closed) = self.batch(leaf, done, asks) {
                        break Some(closed);
                    }
                }
                Next::Item(Ask::Close { done }) => break Some(done),
                Next::Nothing => {
                    self.chores(true);
                    continue;
                }
                Next::Closed => break None,
            }
            self.chores(false);
        };
        if let Err(error) = self.sync().and_then(|()| self.publish()) {
            tracing::warn!("{error}");
        }
        // The next one may open it as soon as it is told.
        drop(self);
        if let Some(done) = closed {
            // Who no longer waits for the end needs no word of it.
            done.send(()).ok();
        }
    }

    /// Takes whatever waits and writes it together. Answers with who wants an end of it.
    fn batch(
        &mut self,
        leaf: Vec<u8>,
        done: oneshot::Sender<Result<Position, LogError>>,
        asks: &Receiver<Ask>,
    ) -> Option<oneshot::Sender<()>> {
        let (mut leaves, mut waiting, mut closed) = (vec![leaf], vec![done], None);
        while leaves.len() < MOST_AT_ONCE {
            match asks.waiting() {
                Some(Ask::Append { leaf, done }) => {
                    leaves.push(leaf);
                    waiting.push(done);
                }
                Some(Ask::Close { done }) => {
                    closed = Some(done);
                    break;
                }
                None => break,
            }
        }
        let result = self.commit(leaves);
        for (at, done) in (0_u64..).zip(waiting) {
            let position = result
                .clone()
                .map(|first| Position(first.saturating_add(at)));
            // Who asked may have gone away meanwhile.
            drop(done.send(position));
        }
        closed
    }

    /// Puts leaves on stable storage, then signs the head over them. Answers with the first one's position.
    fn commit(&mut self, leaves: Vec<Vec<u8>>) -> Result<u64, LogError> {
        if self.leaves.len() >= MOST_UNBUNDLED {
            self.bundle()?;
        }
        self.mend()?;
        let mut lines = Vec::new();
        for leaf in &leaves {
            push_leaf(&mut lines, leaf);
        }
        self.append(&lines)?;
        self.sync()?;
        let first = self.tree.size();
        for leaf in leaves {
            self.tiles.extend(self.tree.push(leaf_hash(&leaf)));
            self.leaves.push(leaf);
        }
        self.sign()?;
        Ok(first)
    }

    /// Signs the head of the tree as it is, all of which is on stable storage. The head itself follows with the next
    /// sync: who holds it can prove what it says.
    fn sign(&mut self) -> Result<(), LogError> {
        let head = Head::sign(&self.signing, self.tree.size(), self.tree.root())?;
        self.mend()?;
        self.append(head_line(head.note().as_str()).as_bytes())?;
        self.heads.send_replace(Arc::new(head));
        Ok(())
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), LogError> {
        self.torn = true;
        self.disk
            .append(&self.file, lines)
            .map_err(LogError::io(&self.directory.join(TAIL), "writing"))?;
        self.torn = false;
        self.length = self.length.saturating_add(lines.len() as u64);
        Ok(())
    }

    /// On an error the last lines do not count.
    fn sync(&mut self) -> Result<(), LogError> {
        let synced = self.disk.sync(&self.file);
        synced.map_err(LogError::io(&self.directory.join(TAIL), "syncing"))
    }

    /// After a failed write: back to what is surely there. A full disk is no reason to stay broken once it has room.
    fn mend(&mut self) -> Result<(), LogError> {
        if self.torn {
            let io = LogError::io(
                &self.directory.join(TAIL),
                "cutting off what was not finished",
            );
            self.disk.cut(&self.file, self.length).map_err(&io)?;
            self.disk.sync(&self.file).map_err(&io)?;
            self.torn = false;
            self.reserved = 0;
        }
        if self.reserved < self.length.saturating_add(RESERVE / 2) {
            let end = self.length.saturating_add(RESERVE);
            // Where a filesystem cannot, a full disk is as it is everywhere else.
            if let Err(error) = fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, end) {
                tracing::debug!("no space is reserved for the log: {error}");
            }
            self.reserved = end;
        }
        Ok(())
    }

    fn next_chore(&self) -> Option<Duration> {
        let (published, _, at) = &self.published;
        if self.heads.borrow().size() < self.tree.size() || self.leaves.len() >= WIDTH {
            return Some(TRY_AGAIN);
        }
        (*published != Some(self.tree.size()))
            .then(|| PUBLISH_EVERY.saturating_sub(clock::monotonic() - *at))
    }

    /// What can be done after the answers, or when nobody asks.
    fn chores(&mut self, idle: bool) {
        let unsigned = self.heads.borrow().size() < self.tree.size();
        // While somebody asks, their own leaves bring a head with them.
        let mut done = if unsigned && idle {
            self.sign()
        } else {
            Ok(())
        };
        let now = clock::monotonic();
        if self.leaves.len() >= WIDTH && self.again <= now {
            done = done.and_then(|()| self.bundle());
            done = done.and_then(|()| self.publish());
        } else if self.next_chore().is_some_and(|wait| wait.is_zero()) {
            done = done.and_then(|()| self.publish());
        }
        if let Err(error) = done {
            tracing::error!("{error}");
            self.published.2 = now;
            self.again = now + TRY_AGAIN;
        }
    }

    /// Makes full bundles and tiles of the tail's leaves, and the tail shorter by them.
    fn bundle(&mut self) -> Result<(), LogError> {
        let full = self.leaves.len() / WIDTH;
        let (true, Some(leaves)) = (full > 0, self.leaves.get(..full * WIDTH)) else {
            return Ok(());
        };
        let put = |path: PathBuf, bytes: &[u8]| {
            self.disk
                .put_deep(&self.directory, &path, bytes)
                .map_err(LogError::io(&path, "writing"))
        };
        let index = self.first / WIDTH as u64;
        for (index, leaves) in (index..).zip(leaves.chunks(WIDTH)) {
            let bytes = layout::bundle(leaves.iter().map(Vec::as_slice));
            put(layout::entries_path(&self.directory, index, WIDTH), &bytes)?;
        }
        for tile in &self.tiles {
            put(
                layout::tile_path(&self.directory, tile),
                &layout::tile_bytes(tile),
            )?;
        }
        self.shorten(full * WIDTH)
    }

    /// A new tail without its first leaves, which bundles hold now. It begins with a head, if one covers the rest.
    fn shorten(&mut self, by: usize) -> Result<(), LogError> {
        let first = self.first.saturating_add(by as u64);
        let mut lines = header(first).into_bytes();
        for leaf in self.leaves.iter().skip(by) {
            push_leaf(&mut lines, leaf);
        }
        {
            let head = self.heads.borrow();
            if head.size() == self.tree.size() {
                lines.extend_from_slice(head_line(head.note().as_str()).as_bytes());
            }
        }
        let path = self.directory.join(TAIL);
        self.file = self
            .disk
            .put(&path, &lines)
            .map_err(LogError::io(&path, "writing"))?;
        // From here on this is the tail, whatever the next sync says; a crash leaves the one or the other.
        self.length = lines.len() as u64;
        self.torn = false;
        self.reserved = 0;
        self.first = first;
        self.leaves.drain(..by);
        self.tiles.clear();
        self.disk
            .sync_directory(&self.directory)
            .map_err(LogError::io(&self.directory, "syncing"))
    }

    /// Lets `checkpoint` and the tiles at the right edge follow: for readers who know tlog-tiles and no tail.
    fn publish(&mut self) -> Result<(), LogError> {
        let head = Arc::clone(&self.heads.borrow());
        self.published.2 = clock::monotonic();
        if head.size() != self.tree.size() || self.published.0 == Some(head.size()) {
            return Ok(());
        }
        let mut put = Vec::new();
        let width = self.leaves.len() % WIDTH;
        if self.leaves.len() >= WIDTH {
            // Its bundles are not there yet.
            return Ok(());
        }
        if width > 0 {
            let index = self.first / WIDTH as u64;
            let bytes = layout::bundle(self.leaves.iter().map(Vec::as_slice));
            put.push((layout::entries_path(&self.directory, index, width), bytes));
        }
        for tile in self.tree.partial() {
            put.push((
                layout::tile_path(&self.directory, &tile),
                layout::tile_bytes(&tile),
            ));
        }
        let checkpoint = self.directory.join(CHECKPOINT);
        for (path, bytes) in &put {
            self.disk
                .directories(&self.directory, path)
                .and_then(|()| self.disk.put(path, bytes))
                .map_err(LogError::io(path, "writing"))?;
        }
        self.disk
            .put(&checkpoint, head.note().as_str().as_bytes())
            .map_err(LogError::io(&checkpoint, "writing"))?;
        let paths: Vec<PathBuf> = put.into_iter().map(|(path, _)| path).collect();
        for old in std::mem::take(&mut self.published.1) {
            if !paths.contains(&old) {
                self.disk
                    .remove(&old)
                    .map_err(LogError::io(&old, "removing"))?;
            }
        }
        self.published = (Some(head.size()), paths, clock::monotonic());
        Ok(())
    }
}

/// A log without leaves.
fn begin(directory: &Path, disk: &Disk) -> Result<Scanned, LogError> {
    let path = directory.join(TAIL);
    let line = header(0);
    disk.put(&path, line.as_bytes())
        .and_then(|_| disk.sync_directory(directory))
        .map_err(LogError::io(&path, "writing"))?;
    Ok(Scanned {
        tree: Tree::default(),
        head: None,
        key: None,
        published: None,
        first: 0,
        tail: Vec::new(),
        tiles: Vec::new(),
        readable: line.len() as u64,
        unreadable: 0,
    })
}

fn lock(directory: &Path) -> Result<File, LogError> {
    let io = LogError::io(directory, "locking");
    let file = File::open(directory).map_err(&io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(LogError::InUse {
            directory: directory.to_owned(),
        }),
        Err(error) => Err(io(error.into())),
    }
}
