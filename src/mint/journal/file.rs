//! The journal's file: appended, synced, compacted; good up to the last sync whatever fails.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Book, Found, JournalError, Record};

const NAME: &str = "leases.jsonl";

/// A thousand times what open leases take; more is another file.
const MAX_SIZE: u64 = 64 << 20;

/// Below this nothing is gained by compacting.
const COMPACT_FROM: u64 = 1 << 20;

/// Owned by the writer's thread.
#[derive(Debug)]
pub(super) struct JournalFile {
    directory: PathBuf,
    path: PathBuf,
    file: File,
    /// Up to here everything is on disk.
    synced: u64,
    /// What is beyond `synced` must go before anything is appended: a write or a sync failed.
    torn: bool,
    /// The file was renamed into place, but that is not on disk yet.
    unnamed: bool,
    book: Book,
    /// The size right after the last compaction.
    compacted: u64,
    /// Held as long as this lives.
    _lock: File,
}

impl JournalFile {
    pub(super) fn open(state_dir: &Path) -> Result<(Self, Found), JournalError> {
        let path = state_dir.join(NAME);
        let io = |doing| io_error(&path, doing);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(io("creating its directory"))?;
        let lock = lock(&state_dir.join("leases.lock"))?;
        let text = read(&path)?;
        let (book, damaged) = parse(&text);
        if !damaged.is_empty() {
            keep_aside(&state_dir.join("leases.damaged.jsonl"), &damaged)
                .map_err(io("keeping damaged lines aside"))?;
        }
        let found = Found {
            book: book.clone(),
            damaged: damaged.len(),
        };
        let (file, size) = rewrite(&path, &book).map_err(io("compacting"))?;
        sync_directory(state_dir).map_err(io("syncing its directory"))?;
        let journal = Self {
            directory: state_dir.to_owned(),
            path,
            file,
            synced: size,
            torn: false,
            unnamed: false,
            book,
            compacted: size,
            _lock: lock,
        };
        Ok((journal, found))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all records and syncs once. On an error none of them counts.
    pub(super) fn append<'a>(
        &mut self,
        records: impl Iterator<Item = &'a Record> + Clone,
    ) -> Result<(), JournalError> {
        self.mend()?;
        let mut lines = Vec::new();
        for record in records.clone() {
            push_line(&mut lines, record).map_err(io_error(&self.path, "writing"))?;
        }
        self.torn = true;
        self.file
            .write_all(&lines)
            .map_err(io_error(&self.path, "writing"))?;
        self.file
            .sync_data()
            .map_err(io_error(&self.path, "syncing"))?;
        self.torn = false;
        self.synced += lines.len() as u64;
        for record in records {
            self.book.apply(record);
        }
        self.compact_if_worth_it();
        Ok(())
    }

    /// After a failed write: back to what is surely there. A full disk is no reason to stay broken once it has room.
    fn mend(&mut self) -> Result<(), JournalError> {
        let io = |doing| io_error(&self.path, doing);
        if self.unnamed {
            sync_directory(&self.directory).map_err(io("syncing its directory"))?;
            self.unnamed = false;
        }
        if self.torn {
            self.file
                .set_len(self.synced)
                .map_err(io("cutting a torn line off"))?;
            self.file
                .seek(SeekFrom::Start(self.synced))
                .map_err(io("cutting a torn line off"))?;
            self.file.sync_data().map_err(io("syncing"))?;
            self.torn = false;
        }
        Ok(())
    }

    fn compact_if_worth_it(&mut self) {
        if self.synced < COMPACT_FROM || self.synced < self.compacted.saturating_mul(4) {
            return;
        }
        match rewrite(&self.path, &self.book) {
            Ok((file, size)) => {
                self.unnamed = true;
                self.file = file;
                self.synced = size;
                self.compacted = size;
            }
            // The old file is whole. Not to be tried again at every append.
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the lease journal could not be compacted");
                self.compacted = self.synced;
            }
        }
    }
}

fn lock(path: &Path) -> Result<File, JournalError> {
    use rustix::fs::{FlockOperation, flock};
    let file = private()
        .truncate(false)
        .open(path)
        .map_err(io_error(path, "opening"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::InUse {
            path: path.to_owned(),
        }),
        Err(error) => Err(io_error(path, "locking")(error.into())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, JournalError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error(path, "opening")(error)),
    };
    let mode = file.metadata().map_err(io_error(path, "opening"))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(JournalError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = Vec::new();
    file.take(MAX_SIZE + 1)
        .read_to_end(&mut text)
        .map_err(io_error(path, "reading"))?;
    if text.len() as u64 > MAX_SIZE {
        return Err(JournalError::TooLong {
            path: path.to_owned(),
            limit: MAX_SIZE,
        });
    }
    Ok(text)
}

/// A last line without its end was never synced, so nothing was begun by it. Any other line that cannot be read may
/// name something left behind: it is kept for a person to look at.
fn parse(text: &[u8]) -> (Book, Vec<&[u8]>) {
    let mut book = Book::default();
    let mut damaged = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else {
            break;
        };
        match serde_json::from_slice(line) {
            Ok(record) => book.apply(&record),
            Err(_) => damaged.push(line),
        }
    }
    (book, damaged)
}

fn keep_aside(path: &Path, lines: &[&[u8]]) -> std::io::Result<()> {
    let mut file = private().append(true).open(path)?;
    for line in lines {
        file.write_all(line)?;
        file.write_all(b"\n")?;
    }
    file.sync_all()
}

/// A new file beside the old one, synced, then renamed over it: at each moment one of them is whole. The directory is
/// the caller's to sync.
fn rewrite(path: &Path, book: &Book) -> std::io::Result<(File, u64)> {
    let new = path.with_extension("jsonl.new");
    let mut lines = Vec::new();
    for record in book.records() {
        push_line(&mut lines, &record)?;
    }
    let mut file = private().truncate(true).open(&new)?;
    file.write_all(&lines)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    Ok((file, lines.len() as u64))
}

fn sync_directory(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

fn push_line(lines: &mut Vec<u8>, record: &Record) -> std::io::Result<()> {
    serde_json::to_writer(&mut *lines, record)?;
    lines.push(b'\n');
    Ok(())
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

fn io_error(path: &Path, doing: &'static str) -> impl Fn(std::io::Error) -> JournalError + use<> {
    let path = path.to_owned();
    move |source| JournalError::Io {
        path: path.clone(),
        doing,
        source: Arc::new(source),
    }
}
