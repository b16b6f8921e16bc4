//! The audit log's file: appended to, reopened when it was rotated away, never with half a line in its midst.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::AuditError;
use super::chain::{Link, link_of};
use crate::store::room::{Room, Trouble};

/// What is done here, for whoever reads of an error.
pub(super) const WRITING: &str = "writing the audit log";

/// Longest line that is looked for at the end of a file; ours are a thousandth of it.
const LONGEST_LINE: u64 = 16 << 20;

#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    /// `None`: a write failed, and what it left behind could not be taken back.
    file: Option<Arc<File>>,
    /// Where there is no space, some of this is given up.
    room: Room,
}

/// How a file ends.
#[derive(Debug, Default)]
pub(super) struct End {
    /// The last whole line's link, if it is one of ours.
    pub(super) link: Option<Link>,
    /// What comes after it: whoever wrote it died of it.
    pub(super) torn: Vec<u8>,
    /// That has no end.
    pub(super) open: bool,
}

impl LogFile {
    /// Opens it for appending (0600 when new).
    pub(super) fn open(path: &Path, room: Room) -> Result<(Self, End), AuditError> {
        let (file, end) = open_append(path, &room)?;
        let log = Self {
            path: path.to_owned(),
            file: Some(Arc::new(file)),
            room,
        };
        Ok((log, end))
    }

    /// Follows a rotation, and mends what a failed write left. Answers with how the file ends if it is another one.
    pub(super) fn ready(&mut self) -> Result<Option<End>, AuditError> {
        if let Some(file) = &self.file {
            let open = file
                .metadata()
                .map_err(|error| AuditError::write(&self.path, &error))?;
            // logrotate renames the file: whoever reads the path wants the new one.
            let same = std::fs::metadata(&self.path)
                .is_ok_and(|named| (named.dev(), named.ino()) == (open.dev(), open.ino()));
            if same {
                return Ok(None);
            }
        }
        let (file, end) = open_append(&self.path, &self.room)?;
        self.file = Some(Arc::new(file));
        Ok(Some(end))
    }

    /// Adds bytes to its end: all of them, or none. On a full disk `owed` ones take what is kept back for them.
    pub(super) fn append(&mut self, bytes: &[u8], owed: bool) -> Result<(), AuditError> {
        let failed = |error: &std::io::Error| AuditError::write(&self.path, error);
        let Some(file) = self.file.clone() else {
            return Err(AuditError::Closed);
        };
        let before = file.metadata().map_err(|error| failed(&error))?.len();
        let mut write = || {
            let Err(error) = (&*file).write_all(bytes) else {
                return Ok(());
            };
            if file.set_len(before).is_ok() {
                return Err(error);
            }
            // The next one looks at what is there, and nothing is written behind it before.
            self.file = None;
            Err(std::io::Error::other(error.to_string()))
        };
        let written = match owed {
            true => self.room.with_room(WRITING, write),
            false => self.room.without_reserve(WRITING, &mut write),
        };
        written.map_err(|error| failed(&error))
    }

    /// Whether it is known that no space is left but what is kept back.
    pub(super) fn is_full(&self) -> bool {
        self.room.trouble() == Some(Trouble::NoSpace)
    }

    /// For whoever syncs it.
    pub(super) fn handle(&self) -> Option<Arc<File>> {
        self.file.clone()
    }
}

fn open_append(path: &Path, room: &Room) -> Result<(File, End), AuditError> {
    let open = || {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let end = end_of(&file)?;
        Ok((file, end))
    };
    room.with_room(WRITING, open)
        .map_err(|error| AuditError::write(path, &error))
}

pub(super) fn end_of(file: &File) -> std::io::Result<End> {
    let length = file.metadata()?.len();
    let mut look = 64 << 10;
    loop {
        let from = length.saturating_sub(look);
        let mut bytes = vec![0; usize::try_from(length - from).unwrap_or(0)];
        file.read_exact_at(&mut bytes, from)?;
        let mut lines = bytes.rsplitn(4, |byte| *byte == b'\n');
        let (torn, last, before) = (lines.next(), lines.next(), lines.next());
        // The first of these lines is whole if there is something before it, or nothing to be.
        if lines.next().is_some() || from == 0 || look >= LONGEST_LINE {
            return Ok(End::of(torn.unwrap_or_default(), last, before));
        }
        look *= 16;
    }
}

impl End {
    /// Of the last three lines, of which the last one has no end (and is empty in a file that ends well).
    fn of(torn: &[u8], last: Option<&[u8]>, before: Option<&[u8]>) -> Self {
        let open = !torn.is_empty();
        let last_link = last.and_then(link_of);
        if open || last_link.is_some() {
            let torn = torn.to_vec();
            return Self {
                link: last_link,
                torn,
                open,
            };
        }
        Self {
            link: before.and_then(link_of),
            torn: last.unwrap_or_default().to_vec(),
            open,
        }
    }
}
