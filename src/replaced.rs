//! A JSON document that lies in a file of its own, and is there whole or as it was before.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::Serialize;

/// Puts a document in the file's place. When this returns, it survives a power cut. Blocks.
///
/// # Errors
///
/// If it could not be written; the file is then what it was.
pub(crate) fn replace<T: Serialize>(path: &Path, document: &T) -> io::Result<()> {
    let mut json = serde_json::to_vec(document)?;
    json.push(b'\n');
    let draft = path.with_extension("json.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(&json)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
