//! A signed head: a checkpoint (c2sp.org/tlog-checkpoint) of this log.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::LogError;
use super::tree::Hash;
use crate::signing::{KeyName, Keys, PublicKey, SignedNote, Signing, SigningError};

/// A tree's size and root hash, signed by the log's own key.
#[derive(Clone, Debug)]
pub struct Head {
    note: SignedNote,
    size: u64,
    root: Hash,
}

impl Head {
    /// Signs the head of a tree.
    pub(super) fn sign(signing: &Signing, size: u64, root: Hash) -> Result<Self, SigningError> {
        let note = signing.sign_blocking(&text(signing.key().name(), size, root))?;
        Ok(Self { note, size, root })
    }

    /// Reads and verifies one. `place` is for messages, and so is `directory`.
    pub(super) fn read(
        directory: &Path,
        place: &str,
        note: &[u8],
        keys: &Keys,
    ) -> Result<Self, LogError> {
        let note = SignedNote::verify(note, keys).map_err(|source| LogError::Head {
            directory: directory.to_owned(),
            place: place.to_owned(),
            source,
        })?;
        let (size, root) = parse(&note).ok_or_else(|| LogError::NotACheckpoint {
            directory: directory.to_owned(),
            place: place.to_owned(),
            origin: note
                .by()
                .first()
                .map(|key| key.name().to_string())
                .unwrap_or_default(),
        })?;
        Ok(Self { note, size, root })
    }

    /// One that somebody else kept. `None`: it is not signed by one of `keys`, or is no checkpoint.
    pub fn kept(note: &[u8], keys: &Keys) -> Option<Self> {
        let note = SignedNote::verify(note, keys).ok()?;
        let (size, root) = parse(&note)?;
        Some(Self { note, size, root })
    }

    /// The signed note, as it is kept elsewhere.
    pub fn note(&self) -> &SignedNote {
        &self.note
    }

    /// How many leaves it covers.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root hash over them (RFC 6962, 2.1).
    pub fn root(&self) -> &[u8; 32] {
        &self.root.0
    }

    pub(super) fn hash(&self) -> Hash {
        self.root
    }

    /// Whose log it is of: the name of whoever signs there.
    pub fn origin(&self) -> &str {
        self.note.text().lines().next().unwrap_or_default()
    }

    /// Whether this key signed it.
    pub(super) fn is_by(&self, key: &PublicKey) -> bool {
        self.note.by().contains(key)
    }
}

/// The three lines of a checkpoint; ours has no others.
fn text(origin: &KeyName, size: u64, root: Hash) -> String {
    format!("{origin}\n{size}\n{}\n", STANDARD.encode(root.0))
}

/// A note that says what [`text`] writes, and in no other way.
fn parse(note: &SignedNote) -> Option<(u64, Hash)> {
    let mut lines = note.text().lines().skip(1);
    let size = lines.next()?.parse().ok()?;
    let root = STANDARD.decode(lines.next()?).ok()?;
    let root = Hash(root.try_into().ok()?);
    (text(note.by().first()?.name(), size, root) == note.text()).then_some((size, root))
}
