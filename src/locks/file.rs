//! The file of locks: whole or not at all, and never taken for empty.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Lock, Locks};
use crate::replaced::replace;
use crate::store::room::Room;

/// Its name in the state directory.
pub const FILE: &str = "locks.json";
/// The longest file, in bytes: as many locks as there may be, with the longest reasons, escaped.
const LONGEST: u64 = 8 << 20;
const VERSION: u8 = 1;
const WRITING: &str = "writing the locks";

/// Why the locks are not known, or not kept.
#[derive(Debug, thiserror::Error)]
pub enum LockFileError {
    /// The file cannot be read.
    #[error("the locks in {path} cannot be read: {source}; without them nobody is let in")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what was written.
    #[error(
        "the locks in {path} are not whole: {reason}; nobody is let in. Put the file right, or remove it and lock again what must be locked: the audit log has every `lock.set`"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It could not be written.
    #[error("the locks in {path} cannot be written: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u8,
    locks: Vec<Lock>,
}

/// Where locks are kept.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    room: Room,
}

impl LockFile {
    /// Reads it. That there is none means that nothing was ever locked.
    ///
    /// # Errors
    ///
    /// Whatever is not a whole file of locks: to go on without them would be to unlock.
    pub fn open(state_dir: &Path, room: Room) -> Result<(Self, Locks), LockFileError> {
        let path = state_dir.join(FILE);
        let locks = match File::open(&path) {
            Ok(file) => read(&path, file)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(LockFileError::Read { path, source }),
        };
        Ok((Self { path, room }, Locks::new(locks)))
    }

    /// Takes the place of what is on disk, for good. Blocks.
    pub(super) fn put(&self, locks: &Locks) -> Result<(), LockFileError> {
        let written = Written {
            version: VERSION,
            locks: locks.0.to_vec(),
        };
        self.room
            .with_room(WRITING, || replace(&self.path, &written))
            .map_err(|source| LockFileError::Write {
                path: self.path.clone(),
                source,
            })
    }
}

fn read(path: &Path, file: File) -> Result<Vec<Lock>, LockFileError> {
    let mut bytes = Vec::new();
    file.take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| LockFileError::Read {
            path: path.to_owned(),
            source,
        })?;
    let damaged = |reason: String| LockFileError::Damaged {
        path: path.to_owned(),
        reason,
    };
    if bytes.len() as u64 > LONGEST {
        return Err(damaged("it is too long".to_owned()));
    }
    let written: Written =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if written.version != VERSION {
        return Err(damaged(format!(
            "it is of version {}, and this program writes {VERSION}",
            written.version
        )));
    }
    Ok(written.locks)
}
