//! The file of sign-ons: whole or not at all, and never taken for empty.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::SignOn;
use super::store::MOST;
use crate::replaced::replace;
use crate::store::room::Room;

/// Its name in the state directory.
pub const FILE: &str = "sign-ons.json";
/// The longest file, in bytes.
const LONGEST: u64 = 64 << 20;
const VERSION: u8 = 1;
const WRITING: &str = "writing the sign-ons";

/// Why sign-ons are not known, or not kept.
#[derive(Debug, thiserror::Error)]
pub enum SignOnFileError {
    /// The file cannot be read.
    #[error("the sign-ons in {path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others could have written what lets somebody in.
    #[error(
        "{path} can be used by others than its owner (mode {mode:04o}): chmod 600 it, and remove what you do not know of from it"
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not what was written.
    #[error(
        "the sign-ons in {path} are not whole: {reason}. Remove the file, and everybody signs in anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It could not be written.
    #[error("the sign-ons in {path} cannot be written: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    version: u8,
    sign_ons: Vec<SignOn>,
}

/// Where sign-ons are kept.
#[derive(Debug)]
pub struct SignOnFile {
    path: PathBuf,
    room: Room,
}

/// What a file holds.
#[derive(Debug)]
pub struct Found(pub(super) Vec<SignOn>);

impl SignOnFile {
    /// Reads it. That there is none means that nobody has signed on yet.
    ///
    /// # Errors
    ///
    /// Whatever is not a whole file of sign-ons that only the daemon can write.
    pub fn open(state_dir: &Path, room: Room) -> Result<(Self, Found), SignOnFileError> {
        let path = state_dir.join(FILE);
        let found = match File::open(&path) {
            Ok(file) => read(&path, file)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(SignOnFileError::Read { path, source }),
        };
        Ok((Self { path, room }, Found(found)))
    }

    /// Takes the place of what is on disk, for good. Blocks.
    pub(super) fn put(&self, sign_ons: Vec<SignOn>) -> Result<(), SignOnFileError> {
        let written = Written {
            version: VERSION,
            sign_ons,
        };
        self.room
            .with_room(WRITING, || replace(&self.path, &written))
            .map_err(|source| SignOnFileError::Write {
                path: self.path.clone(),
                source,
            })
    }
}

fn read(path: &Path, file: File) -> Result<Vec<SignOn>, SignOnFileError> {
    let unread = |source| SignOnFileError::Read {
        path: path.to_owned(),
        source,
    };
    let meta = file.metadata().map_err(unread)?;
    if meta.mode() & 0o077 != 0 {
        return Err(SignOnFileError::TooOpen {
            path: path.to_owned(),
            mode: meta.mode() & 0o7777,
        });
    }
    let damaged = |reason: String| SignOnFileError::Damaged {
        path: path.to_owned(),
        reason,
    };
    if meta.len() > LONGEST {
        return Err(damaged("it is too long".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).map_err(unread)?;
    let written: Written =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if written.version != VERSION {
        return Err(damaged(format!(
            "it is of version {}, and this program writes {VERSION}",
            written.version
        )));
    }
    if written.sign_ons.len() > MOST {
        return Err(damaged(format!("there are more than {MOST} in it")));
    }
    let mut keys = BTreeSet::new();
    for sign_on in &written.sign_ons {
        if !keys.insert(&sign_on.fingerprint) {
            return Err(damaged(format!("{} is in it twice", sign_on.fingerprint)));
        }
        // A group of another source's would be a word that this provider cannot give.
        let own = format!("oidc/{}:", sign_on.provider);
        if let Some(group) = sign_on
            .groups
            .iter()
            .find(|group| !group.as_str().starts_with(&own))
        {
            return Err(damaged(format!(
                "{group} is not a group of {}",
                sign_on.provider
            )));
        }
    }
    Ok(written.sign_ons)
}
