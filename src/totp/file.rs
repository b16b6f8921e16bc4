//! The file of enrolments: whole or not at all, and never taken for empty.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::code::RECOVERY_CODES;
use super::{Hidden, Secret};
use crate::config::Name;
use crate::replaced::replace;
use crate::store::room::Room;

/// Its name in the state directory.
pub const FILE: &str = "totp.json";
/// The longest file, in bytes: as many enrolments as there may be.
const LONGEST: u64 = 32 << 20;
const VERSION: u8 = 1;
const WRITING: &str = "writing the enrolments for one-time codes";

/// Why enrolments are not known, or not kept.
#[derive(Debug, thiserror::Error)]
pub enum TotpFileError {
    /// The file cannot be read.
    #[error(
        "the enrolments for one-time codes in {path} cannot be read: {source}; without them no code could be checked"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others can read what codes are made from.
    #[error(
        "{path} can be used by others than its owner (mode {mode:04o}), and whoever has read it can make codes: chmod 600 it, and enroll everybody anew"
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not what was written.
    #[error(
        "the enrolments for one-time codes in {path} are not whole: {reason}. Put the file right, or remove it and enroll again: until then nobody takes a role that requires a code"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; nothing of what is in it.
        reason: String,
    },
    /// It could not be written.
    #[error("the enrolments for one-time codes in {path} cannot be written: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// One identity's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Enrolment {
    pub(super) identity: Name,
    /// Base32.
    pub(super) secret: Hidden,
    pub(super) since: Timestamp,
    pub(super) by: String,
    /// Of the newest code that was accepted. That one and older ones are not accepted again.
    pub(super) last_step: u64,
    /// SHA-256, hex, of the recovery codes that are left.
    pub(super) recovery: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u8,
    enrolments: Vec<Enrolment>,
}

/// Where enrolments are kept.
#[derive(Debug)]
pub struct TotpFile {
    path: PathBuf,
    room: Room,
}

/// What a file holds.
#[derive(Debug)]
pub struct Found(pub(super) Vec<Enrolment>);

impl TotpFile {
    /// Reads it. That there is none means that nobody was ever enrolled.
    ///
    /// # Errors
    ///
    /// Whatever is not a whole file of enrolments that only the daemon can read.
    pub fn open(state_dir: &Path, room: Room) -> Result<(Self, Found), TotpFileError> {
        let path = state_dir.join(FILE);
        let found = match File::open(&path) {
            Ok(file) => read(&path, file)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(TotpFileError::Read { path, source }),
        };
        Ok((Self { path, room }, Found(found)))
    }

    /// Takes the place of what is on disk, for good. Blocks.
    pub(super) fn put(&self, enrolments: Vec<Enrolment>) -> Result<(), TotpFileError> {
        let written = Written {
            version: VERSION,
            enrolments,
        };
        self.room
            .with_room(WRITING, || replace(&self.path, &written))
            .map_err(|source| TotpFileError::Write {
                path: self.path.clone(),
                source,
            })
    }
}

fn read(path: &Path, file: File) -> Result<Vec<Enrolment>, TotpFileError> {
    let unread = |source| TotpFileError::Read {
        path: path.to_owned(),
        source,
    };
    let meta = file.metadata().map_err(unread)?;
    if meta.mode() & 0o077 != 0 {
        return Err(TotpFileError::TooOpen {
            path: path.to_owned(),
            mode: meta.mode() & 0o7777,
        });
    }
    let damaged = |reason: String| TotpFileError::Damaged {
        path: path.to_owned(),
        reason,
    };
    if meta.len() > LONGEST {
        return Err(damaged("it is too long".to_owned()));
    }
    // Whole from the start: a buffer that grows leaves copies behind that nobody wipes.
    let capacity = usize::try_from(meta.len()).unwrap_or(0).saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(LONGEST).read_to_end(&mut bytes).map_err(unread)?;
    let written: Written = serde_json::from_slice(&bytes).map_err(|error| {
        // Its own words may repeat what it met.
        damaged(format!(
            "line {}, column {} is not as it was written",
            error.line(),
            error.column()
        ))
    })?;
    if written.version != VERSION {
        return Err(damaged(format!(
            "it is of version {}, and this program writes {VERSION}",
            written.version
        )));
    }
    let mut names = BTreeSet::new();
    for enrolment in &written.enrolments {
        let name = &enrolment.identity;
        if !names.insert(name) {
            return Err(damaged(format!("{name} is in it twice")));
        }
        if Secret::parse(enrolment.secret.expose()).is_err() {
            return Err(damaged(format!("the secret of {name} is none")));
        }
        if enrolment.recovery.len() > RECOVERY_CODES {
            return Err(damaged(format!("{name} has too many recovery codes")));
        }
    }
    Ok(written.enrolments)
}
