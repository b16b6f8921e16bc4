//! The private key as a file of the daemon's own, made at the first start.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use super::key::SecretKey;
use super::{KeyName, KeyText, PublicKey, Signer, SigningError};
use crate::config::secrets::read_secret;

/// Signs with a key that this process holds.
#[derive(Debug)]
pub struct FileSigner {
    key: SecretKey,
}

impl FileSigner {
    /// Reads a key file, after making sure that only the daemon and root can (0600).
    pub fn open(path: &Path) -> Result<Self, SigningError> {
        let text = read_secret(path).map_err(|error| SigningError::Secret(Arc::new(error)))?;
        let key = SecretKey::parse(&text).map_err(|source| SigningError::Key {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { key })
    }
}

impl Signer for FileSigner {
    fn public_key(&self) -> &PublicKey {
        self.key.public()
    }

    fn sign(&self, text: &[u8]) -> Result<[u8; 64], SigningError> {
        self.key.sign(text).ok_or_else(|| SigningError::Lied {
            by: self.key.public().label(),
        })
    }
}

/// Makes a key file (0600), on stable storage when this returns. What is there is never overwritten.
pub fn create_key(path: &Path, name: &KeyName) -> Result<PublicKey, SigningError> {
    let text = KeyText::generate(name)?;
    private_file(path, text.private().as_bytes())
        .map_err(SigningError::io(path, "making the key"))?;
    Ok(text.public().clone())
}

/// Makes a file that only its owner can read, whole and on stable storage when this returns. What is there is never
/// overwritten.
pub(crate) fn private_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut draft = std::ffi::OsString::from(".");
    draft.push(path.file_name().unwrap_or_default());
    draft.push(".new");
    let draft = path.with_file_name(draft);
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        // A link does not replace what is there, as a rename would.
        .and_then(|()| std::fs::hard_link(&draft, path))
        .and_then(|()| std::fs::remove_file(&draft))?;
    sync_parent(path)
}

/// Makes a directory for the daemon alone, if it is not there; its name is on stable storage when this returns.
pub(crate) fn private_directory(path: &Path) -> std::io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_parent(path)
}

pub(super) fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
