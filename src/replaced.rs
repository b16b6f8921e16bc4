//! Files that are there whole or as they were before.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Puts a JSON document in the file's place. When this returns, it survives a power cut. Blocks.
///
/// # Errors
///
/// If it could not be written; the file is then what it was.
pub(crate) fn replace<T: Serialize>(path: &Path, document: &T) -> io::Result<()> {
    let mut json = serde_json::to_vec(document)?;
    json.push(b'\n');
    write(path, &json)
}

/// As [`replace`], for bytes. Nobody else can read them, from the first one on.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
