//! Space that is kept back: files of a fixed size, each of which also holds an inode.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::Trouble;
use crate::store::Space;

/// Files of the reserve: what is given up at once is an eighth of them. So a recording that needs a directory and its
/// files finds inodes too.
const FILES: u64 = 64;
const AT_ONCE: usize = 8;
/// How much must be free, whatever was given up, before a full disk counts as one that is not.
const LEAST_FREE: u64 = 1 << 20;
/// The same for inodes, besides those that were given up.
const LEAST_INODES: u64 = 64;
/// So many looks in a row must find a disk in order that had errors, or refused writes: one that comes and goes would be told
/// of each time.
const STEADY: u32 = 3;

#[derive(Debug)]
pub(super) struct Reserve {
    directory: PathBuf,
    /// Numbers and sizes of the files that are there, once somebody has looked.
    files: Option<Vec<(u64, u64)>>,
    /// The size of one.
    size: u64,
    /// Files and bytes that were given up and not taken back since.
    given: (u64, u64),
    /// Looks in a row that found everything in order.
    good: u32,
}

impl Reserve {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            directory: state_dir.join("reserve"),
            files: None,
            size: 0,
            given: (0, 0),
            good: 0,
        }
    }

    /// Bytes that are kept back.
    pub(super) fn bytes(&self) -> u64 {
        let files = self.files.as_deref().unwrap_or_default();
        files.iter().map(|(_, size)| size).sum()
    }

    /// Bytes that are given up at once.
    pub(super) fn portion(&self) -> u64 {
        self.size.saturating_mul(AT_ONCE as u64)
    }

    /// Removes some of the files. Whether there were any.
    pub(super) fn give_up(&mut self) -> bool {
        let directory = self.directory.clone();
        let (mut count, mut bytes) = (0_u64, 0_u64);
        let Ok(files) = self.known() else {
            return false;
        };
        // What somebody else took away is not there to be given up: then the next ones are.
        while count == 0 && !files.is_empty() {
            let first = files.len().saturating_sub(AT_ONCE);
            for (number, size) in files.split_off(first) {
                match std::fs::remove_file(directory.join(number.to_string())) {
                    Ok(()) => {
                        count = count.saturating_add(1);
                        bytes = bytes.saturating_add(size);
                    }
                    Err(error) => tracing::warn!("giving up part of the reserve: {error}"),
                }
            }
        }
        let (all, all_bytes) = self.given;
        self.given = (all.saturating_add(count), all_bytes.saturating_add(bytes));
        count > 0
    }

    /// Makes the reserve `bytes` large, as far as as much stays free as is kept back. While there is `trouble`, only once
    /// that seems to be over; whether it is.
    pub(super) fn fill(&mut self, bytes: u64, trouble: Option<Trouble>) -> io::Result<bool> {
        if trouble == Some(Trouble::NoSpace) && !self.is_enough()? {
            return Ok(false);
        }
        let good = self.good.saturating_add(1);
        self.good = 0;
        self.take(bytes)?;
        let Some(trouble) = trouble else {
            return Ok(false);
        };
        try_out(&self.directory.join("probe"))?;
        if trouble != Trouble::NoSpace && good < STEADY {
            self.good = good;
            return Ok(false);
        }
        self.given = (0, 0);
        Ok(true)
    }

    /// Whether the reserve can be made whole, and as much again is free then. What sessions leave that end for it is
    /// not enough: the disk would be full again with the next ones.
    fn is_enough(&self) -> io::Result<bool> {
        let (files, bytes) = self.given;
        let whole = bytes.saturating_add(self.bytes());
        let bytes = bytes.saturating_add(whole).max(LEAST_FREE);
        let inodes = files.saturating_add(LEAST_INODES);
        let space = Space::at(self.directory.parent().unwrap_or(&self.directory))?;
        Ok(space.bytes_free >= bytes && space.inodes.is_none_or(|there| there.free >= inodes))
    }

    fn take(&mut self, bytes: u64) -> io::Result<()> {
        if !self.directory.exists() {
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(&self.directory)?;
            self.files = None;
        }
        let size = bytes.div_ceil(FILES);
        self.size = size;
        let directory = self.directory.clone();
        let files = self.known()?;
        // Of another configuration.
        let (fit, unfit) = files
            .iter()
            .partition(|(number, there)| *there == size && *number < FILES);
        *files = fit;
        let unfit: Vec<(u64, u64)> = unfit;
        for (number, _) in unfit {
            std::fs::remove_file(directory.join(number.to_string()))?;
        }
        for number in 0..FILES {
            if files.iter().any(|(there, _)| *there == number) {
                continue;
            }
            let space = Space::at(&directory)?;
            let kept = size.saturating_mul(files.len() as u64);
            if space.bytes_free < kept.saturating_add(size.saturating_mul(2))
                || space.inodes.is_some_and(|inodes| inodes.free < FILES)
            {
                break;
            }
            set_aside(&directory.join(number.to_string()), size)?;
            files.push((number, size));
        }
        Ok(())
    }

    /// What is there, also from a daemon before this one.
    fn known(&mut self) -> io::Result<&mut Vec<(u64, u64)>> {
        if self.files.is_none() {
            let mut files = Vec::new();
            let entries = match std::fs::read_dir(&self.directory) {
                Ok(entries) => Some(entries),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            for entry in entries.into_iter().flatten() {
                let entry = entry?;
                let number = entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse().ok());
                if let Some(number) = number {
                    files.push((number, entry.metadata()?.size()));
                }
            }
            files.sort_unstable();
            self.size = files.first().map_or(self.size, |(_, size)| *size);
            self.files = Some(files);
        }
        Ok(self.files.get_or_insert_default())
    }
}

/// A file whose blocks are taken, all of them or none.
fn set_aside(path: &Path, size: u64) -> io::Result<()> {
    let file = new(path)?;
    let taken = fallocate(&file, FallocateFlags::empty(), 0, size)
        .map_err(io::Error::from)
        .and_then(|()| file.sync_all());
    taken.inspect_err(|_| drop(std::fs::remove_file(path)))
}

/// Whether a file can be written and synced.
fn try_out(path: &Path) -> io::Result<()> {
    let written = new(path).and_then(|mut file| {
        io::Write::write_all(&mut file, &[0; 4096])?;
        file.sync_all()
    });
    let removed = std::fs::remove_file(path);
    written.and(removed)
}

fn new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}
