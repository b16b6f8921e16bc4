//! Which keys this instance has signed with, and since when: `stateDir/signing/keys`, a line each, only ever appended to.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::file::sync_parent;
use super::{Keys, PublicKey, SigningError};

const NAME: &str = "keys";
/// Ten thousand keys.
const MOST: u64 = 1 << 20;

/// A key, and since when it signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// When it was first used here.
    pub since: Timestamp,
    /// Which.
    pub key: PublicKey,
}

/// All keys that an instance has signed with, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    path: PathBuf,
    known: Vec<KnownKey>,
    /// Length of the file's whole lines; what is beyond was never finished.
    whole: u64,
}

impl History {
    /// Reads that of a state directory. Where there is none yet, it is empty.
    pub fn read(state_dir: &Path) -> Result<Self, SigningError> {
        let path = state_dir.join(super::open::DIRECTORY).join(NAME);
        let io = |doing| SigningError::io(&path, doing);
        let mut text = Vec::new();
        match OpenOptions::new().read(true).open(&path) {
            Ok(file) => file
                .take(MOST)
                .read_to_end(&mut text)
                .map_err(io("reading"))?,
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(io("opening")(error)),
        };
        let mut known = Vec::new();
        let mut whole = 0;
        for (at, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            // A key is used only once its line is on stable storage: what has no end was not used.
            let Some(content) = line.strip_suffix(b"\n") else {
                break;
            };
            known.push(parse(content).ok_or_else(|| SigningError::History {
                path: path.clone(),
                line: at.saturating_add(1),
            })?);
            whole += line.len() as u64;
        }
        Ok(Self { path, known, whole })
    }

    /// Oldest first; the last one signs, unless the configuration names another since.
    pub fn known(&self) -> &[KnownKey] {
        &self.known
    }

    /// For verifying.
    pub fn keys(&self) -> Keys {
        Keys::new(self.known.iter().map(|known| known.key.clone()))
    }

    /// Adds the key that signs from now on, if it does not already. On stable storage when this returns.
    pub(super) fn add(&mut self, key: &PublicKey, since: Timestamp) -> Result<(), SigningError> {
        if self.known.last().is_some_and(|last| last.key == *key) {
            return Ok(());
        }
        let io = |doing| SigningError::io(&self.path, doing);
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(io("opening"))?;
        file.set_len(self.whole)
            .map_err(io("cutting a torn line off"))?;
        let line = format!("{since} {}\n", key.vkey());
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_parent(&self.path))
            .map_err(io("writing"))?;
        self.whole += line.len() as u64;
        let key = key.clone();
        self.known.push(KnownKey { since, key });
        Ok(())
    }
}

fn parse(line: &[u8]) -> Option<KnownKey> {
    let (since, key) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    Some(KnownKey {
        since: since.parse().ok()?,
        key: PublicKey::parse(key).ok()?,
    })
}
