//! The journal's file: appended, synced, compacted; good up to the last sync whatever fails.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Book, Found, JournalError, Record};
use crate::store::room::Room;

const NAME: &str = "leases.jsonl";

/// What is done here, for whoever reads of an error.
const WRITING: &str = "writing the lease journal";

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
    /// Where there is no space, some of this is given up.
    room: Room,
    /// Held as long as this lives.
    _lock: File,
}

impl JournalFile {
    pub(super) fn open(state_dir: &Path, room: Room) -> Result<(Self, Found), JournalError> {
        let path = state_dir.join(NAME);
        let io = |doing| io_error(&path, doing);
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
        let (file, size) = room
            .with_room(WRITING, || rewrite(&path, &book))
            .map_err(io("compacting"))?;
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
            room,
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
        let mut lines = Vec::new();
        for record in records.clone() {
            push_line(&mut lines, record).map_err(io_error(&self.path, "writing"))?;
        }
        self.mend()?;
        self.write(&lines)?;
        self.synced += lines.len() as u64;
        for record in records {
            self.book.apply(record);
        }
        self.compact_if_worth_it();
        Ok(())
    }

    /// All of it, synced; what a failed attempt left is cut off before the next.
    fn write(&mut self, lines: &[u8]) -> Result<(), JournalError> {
        let (room, path) = (self.room.clone(), self.path.clone());
        let (mut doing, mut again) = ("writing", false);
        let written = room.with_room(WRITING, || {
            if std::mem::replace(&mut again, true) {
                self.file.set_len(self.synced)?;
                self.file.seek(SeekFrom::Start(self.synced))?;
            }
            self.torn = true;
            doing = "writing";
            self.file.write_all(lines)?;
            doing = "syncing";
            self.file.sync_data()?;
            self.torn = false;
            Ok(())
        });
        written.map_err(io_error(&path, doing))
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::book::tests::{intent, session};
    use super::*;

    fn open(directory: &Path) -> (JournalFile, Found) {
        JournalFile::open(directory, Room::default()).unwrap()
    }

    fn text(directory: &Path) -> String {
        std::fs::read_to_string(directory.join(NAME)).unwrap()
    }

    #[test]
    fn what_was_appended_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, found) = open(directory.path());
        assert!(found.book.open.is_empty());
        file.append([&intent(1), &intent(2)].into_iter()).unwrap();
        file.append(
            [&Record::Released {
                session: session(1),
            }]
            .into_iter(),
        )
        .unwrap();
        drop(file);
        let (file, found) = open(directory.path());
        assert_eq!(found.book.open.keys().collect::<Vec<_>>(), [&session(2)]);
        assert_eq!(found.damaged, 0);
        assert_eq!(
            text(directory.path()).lines().count(),
            1,
            "compacted at start"
        );
        let mode = file.file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_torn_last_line_is_as_if_it_never_was() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, _) = open(directory.path());
        file.append([&intent(1), &intent(2)].into_iter()).unwrap();
        drop(file);
        let whole = text(directory.path());
        let first_line = whole.find('\n').unwrap() + 1;
        for cut in first_line..whole.len() {
            std::fs::write(directory.path().join(NAME), &whole[..cut]).unwrap();
            let (_file, found) = open(directory.path());
            assert_eq!(found.book.open.len(), 1, "cut at {cut}");
            assert_eq!(found.damaged, 0);
        }
    }

    #[test]
    fn a_damaged_line_is_kept_aside_and_the_others_count() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, _) = open(directory.path());
        file.append([&intent(1), &intent(2)].into_iter()).unwrap();
        drop(file);
        let damaged = text(directory.path()).replacen("intent", "inXent", 1);
        std::fs::write(directory.path().join(NAME), damaged).unwrap();
        let (_file, found) = open(directory.path());
        assert_eq!((found.book.open.len(), found.damaged), (1, 1));
        let aside = std::fs::read_to_string(directory.path().join("leases.damaged.jsonl")).unwrap();
        assert!(aside.contains("inXent"), "{aside}");
    }

    #[test]
    fn a_second_daemon_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (file, _) = open(directory.path());
        let error = JournalFile::open(directory.path(), Room::default())
            .err()
            .unwrap();
        assert!(matches!(error, JournalError::InUse { .. }), "{error}");
        drop(file);
        drop(open(directory.path()));
    }

    #[test]
    fn a_journal_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()));
        let path = directory.path().join(NAME);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = JournalFile::open(directory.path(), Room::default())
            .err()
            .unwrap();
        assert!(
            matches!(error, JournalError::Exposed { mode: 0o640, .. }),
            "{error}"
        );
    }

    #[test]
    fn after_a_failed_write_nothing_is_lost_and_it_mends_itself() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, _) = open(directory.path());
        file.append([&intent(1)].into_iter()).unwrap();
        // A handle that cannot write, as a full disk would have it; and half a line that made it to the disk.
        let good = file.file.try_clone().unwrap();
        file.file = File::open(directory.path().join(NAME)).unwrap();
        assert!(file.append([&intent(2)].into_iter()).is_err());
        assert!(
            file.append([&intent(3)].into_iter()).is_err(),
            "still broken"
        );
        (&good).write_all(b"{\"record\":\"int").unwrap();
        file.file = good;
        file.append([&intent(4)].into_iter()).unwrap();
        drop(file);
        let (_file, found) = open(directory.path());
        assert_eq!(
            found.book.open.keys().collect::<Vec<_>>(),
            [&session(1), &session(4)]
        );
        assert_eq!(found.damaged, 0);
    }

    #[test]
    fn it_does_not_grow_with_the_number_of_sessions_that_were() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, _) = open(directory.path());
        file.append([&intent(0)].into_iter()).unwrap();
        for batch in 0..40 {
            let records: Vec<Record> = (0..200)
                .flat_map(|n| {
                    let n = 1 + batch * 200 + n;
                    [
                        intent(n),
                        Record::Released {
                            session: session(n),
                        },
                    ]
                })
                .collect();
            file.append(records.iter()).unwrap();
        }
        assert!(
            file.synced < COMPACT_FROM + (1 << 19),
            "{} bytes",
            file.synced
        );
        file.append([&intent(9_999)].into_iter()).unwrap();
        drop(file);
        let (_file, found) = open(directory.path());
        assert_eq!(
            found.book.open.keys().collect::<Vec<_>>(),
            [&session(0), &session(9_999)]
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_in_the_file_can_be_read(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            let (book, damaged) = parse(&text);
            let lines = text.iter().filter(|byte| **byte == b'\n').count();
            proptest::prop_assert!(book.open.len() + damaged.len() <= lines);
        }
    }
}
