//! The files of one recording that is being written.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::layout::{Begun, new_file, sync_directory};
use crate::store::room::Room;
use crate::store::{Lines, Part, StoreError};

/// What is done here, for whoever reads of an error.
const WRITING: &str = "writing a recording";

/// A recording that is being written.
#[derive(Debug)]
pub(super) struct Target {
    directory: PathBuf,
    files: Mutex<Files>,
    /// It is in line for the next sync.
    dirty: AtomicBool,
    failure: Mutex<Option<String>>,
    room: Room,
}

/// What is added to a recording.
#[derive(Debug)]
pub(super) enum Append {
    Lines(Lines),
    Checkpoint(Bytes),
}

impl Append {
    pub(super) fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Lines(Lines { cast, requests }) => cast.len().saturating_add(requests.len()),
            Self::Checkpoint(note) => note.len(),
        };
        bytes as u64
    }
}

#[derive(Debug)]
struct Files {
    cast: Appended,
    /// Made by the first request: a session without one pays nothing for it.
    requests: Option<Appended>,
    checkpoints: Appended,
    /// The directory does not have the name of every file on disk yet.
    unnamed: bool,
    /// What the request index is.
    index: Part,
}

#[derive(Clone, Debug)]
struct Appended {
    file: Arc<File>,
    /// Bytes that are there for certain; what a failed write left behind is cut off.
    length: u64,
    /// Something was written since the last sync began.
    dirty: bool,
    /// What a failed write left behind could not be cut off: whatever followed it would be lost behind it.
    torn: bool,
}

impl Appended {
    fn new(file: File, length: u64) -> Self {
        Self {
            file: Arc::new(file),
            length,
            dirty: false,
            torn: false,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.torn {
            return Err(io::Error::other("half a line is in the way"));
        }
        self.dirty = true;
        (&*self.file).write_all(bytes)
    }

    fn grown(&mut self, bytes: &[u8]) {
        self.length = self.length.saturating_add(bytes.len() as u64);
    }

    fn cut(&mut self) {
        // Half a line may be there. Where even this fails, recovery cuts it off.
        self.torn = self.file.set_len(self.length).is_err();
    }
}

impl Files {
    fn write(&mut self, append: &Append, directory: &Path) -> io::Result<()> {
        match append {
            Append::Lines(lines) => self.write_lines(lines, directory),
            Append::Checkpoint(note) => {
                if let Err(error) = self.checkpoints.write(note) {
                    self.checkpoints.cut();
                    return Err(error);
                }
                self.checkpoints.grown(note);
                Ok(())
            }
        }
    }

    fn write_lines(&mut self, lines: &Lines, directory: &Path) -> io::Result<()> {
        let Lines { cast, requests } = lines;
        if !requests.is_empty() && self.requests.is_none() {
            let file = new_file(&directory.join(self.index.name()))?;
            self.requests = Some(Appended::new(file, 0));
            self.unnamed = true;
        }
        // The index first: what it lacks nobody would miss on the timeline, but not the other way round.
        let file = self.requests.as_mut().filter(|_| !requests.is_empty());
        let written = file
            .map_or(Ok(()), |file| file.write(requests))
            .and_then(|()| self.cast.write(cast));
        if let Err(error) = written {
            self.cast.cut();
            if let Some(requests) = &mut self.requests {
                requests.cut();
            }
            return Err(error);
        }
        self.cast.grown(cast);
        if let Some(file) = &mut self.requests {
            file.grown(requests);
        }
        Ok(())
    }
}

impl Target {
    pub(super) fn new(
        directory: PathBuf,
        begun: Begun,
        length: u64,
        index: Part,
        room: Room,
    ) -> Self {
        Self {
            directory,
            files: Mutex::new(Files {
                cast: Appended::new(begun.cast, length),
                requests: None,
                checkpoints: Appended::new(begun.checkpoints, begun.note_bytes),
                unnamed: false,
                index,
            }),
            dirty: AtomicBool::new(false),
            failure: Mutex::new(None),
            room,
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where its room comes from.
    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    pub(super) fn write(&self, append: &Append) -> Result<(), StoreError> {
        self.check()?;
        // What a failed write left behind is cut off, so it can be made again.
        let written = self
            .room
            .with_room(WRITING, || self.files().write(append, &self.directory));
        written.map_err(|error| self.fail(error))
    }

    /// Returns when all of it survives a power cut, whoever else is at it.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.sync_files(|_| true)
    }

    /// The same for what was written since the last round: what an earlier one took is not waited for.
    pub(super) fn sync_dirty(&self) -> Result<(), StoreError> {
        self.sync_files(|file| file.dirty)
    }

    fn sync_files(&self, wanted: impl Fn(&Appended) -> bool) -> Result<(), StoreError> {
        self.check()?;
        let (files, unnamed) = {
            // Not held while the disk works: that would hold up the writing thread, and so everybody.
            let mut files = self.files();
            let unnamed = std::mem::take(&mut files.unnamed);
            let Files {
                cast,
                requests,
                checkpoints,
                ..
            } = &mut *files;
            let mut picked = Vec::new();
            for file in requests.iter_mut().chain([cast, checkpoints]) {
                if wanted(file) {
                    picked.push(Arc::clone(&file.file));
                }
                file.dirty = false;
            }
            (picked, unnamed)
        };
        let synced =
            files
                .iter()
                .try_for_each(|file| file.sync_data())
                .and_then(|()| match unnamed {
                    true => sync_directory(&self.directory),
                    false => Ok(()),
                });
        synced.map_err(|error| self.fail(error))
    }

    /// Everything of it is being synced with everything else of its file system. Whether its directory, too, needs that.
    pub(super) fn synced_with_all(&self) -> bool {
        let mut files = self.files();
        files.cast.dirty = false;
        files.checkpoints.dirty = false;
        if let Some(requests) = &mut files.requests {
            requests.dirty = false;
        }
        std::mem::take(&mut files.unnamed)
    }

    /// That did not happen: its directory still needs it.
    pub(super) fn is_unnamed_again(&self) {
        self.files().unnamed = true;
    }

    /// Whether it was clean until now.
    pub(super) fn make_dirty(&self) -> bool {
        !self.dirty.swap(true, Ordering::AcqRel)
    }

    /// What is written from now on is for the next round.
    pub(super) fn make_clean(&self) {
        self.dirty.store(false, Ordering::Release);
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure
            .clone()
            .map_or(Ok(()), |why| Err(StoreError::Failed(why)))
    }

    pub(super) fn fail(&self, error: io::Error) -> StoreError {
        self.room.note_error(WRITING, &error);
        let error = StoreError::io(WRITING, error);
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert_with(|| error.to_string());
        error
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
