//! Small documents beside the recordings, one for each that something is to be remembered of: `DIRECTORY/ULID.json`.
//!
//! Not within a recording's own directory: that is replaced as a whole when it is packed, and what lies in it is evidence.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use crate::replaced::replace;
use crate::session::SessionId;

/// The largest is that of an upload in ten thousand parts.
const MOST: u64 = 8 << 20;
const SUFFIX: &str = ".json";

/// A directory of documents. Blocks.
#[derive(Clone, Debug)]
pub(super) struct Papers(PathBuf);

impl Papers {
    /// Nothing is touched yet.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// The document of a recording; `None` if there is none, or none that is understood.
    pub(super) fn read<T: DeserializeOwned>(&self, id: SessionId) -> Result<Option<T>, StoreError> {
        let path = self.path(id);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
        match read {
            Ok(_) => match serde_json::from_slice(&bytes) {
                Ok(document) => Ok(Some(document)),
                Err(error) => {
                    tracing::warn!("{} is not understood: {error}", path.display());
                    Ok(None)
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("reading", &path, error)),
        }
    }

    /// When this returns, the document survives a power cut.
    pub(super) fn write<T: Serialize>(
        &self,
        id: SessionId,
        document: &T,
    ) -> Result<(), StoreError> {
        let path = self.path(id);
        self.put(&path, document)
            .map_err(|error| failed("writing", &path, error))
    }

    fn put<T: Serialize>(&self, path: &Path, document: &T) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Err(_) => {}
            Ok(()) => self.0.parent().map_or(Ok(()), sync)?,
        }
        replace(path, document)
    }

    /// When this returns, the document is gone for good. One that is not there is no error.
    pub(super) fn remove(&self, id: SessionId) -> Result<(), StoreError> {
        let path = self.path(id);
        match std::fs::remove_file(&path).and_then(|()| sync(&self.0)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("removing", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// The recordings that have one.
    pub(super) fn ids(&self) -> Result<BTreeSet<SessionId>, StoreError> {
        let listing = |error| failed("listing", &self.0, error);
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(listing(error)),
        };
        let mut ids = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(listing)?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            ids.extend(id.and_then(|id| SessionId::parse(id).ok()));
        }
        Ok(ids)
    }

    fn path(&self, id: SessionId) -> PathBuf {
        self.0.join(format!("{id}{SUFFIX}"))
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn failed(doing: &str, path: &Path, error: io::Error) -> StoreError {
    StoreError::io(format!("{doing} {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_document_is_private_whole_or_not_there() {
        let state = tempfile::tempdir().unwrap();
        let papers = Papers::new(state.path().join("papers"));
        let id = SessionId::new("2026-11-26T12:00:00Z".parse().unwrap());
        assert_eq!(papers.ids().unwrap(), BTreeSet::new());
        assert_eq!(papers.read::<String>(id).unwrap(), None);
        papers.remove(id).unwrap();

        papers.write(id, &"one").unwrap();
        papers.write(id, &"two").unwrap();
        assert_eq!(papers.read::<String>(id).unwrap().as_deref(), Some("two"));
        let path = papers.path(id);
        for (path, mode) in [(papers.0.as_path(), 0o700), (path.as_path(), 0o600)] {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode);
        }
        // As a crash leaves it.
        std::fs::write(path.with_extension("json.new"), "\"thr").unwrap();
        assert_eq!(papers.ids().unwrap(), BTreeSet::from([id]));
        papers.write(id, &"four").unwrap();
        assert_eq!(papers.read::<String>(id).unwrap().as_deref(), Some("four"));

        std::fs::write(&path, "{").unwrap();
        assert_eq!(papers.read::<String>(id).unwrap(), None);
        papers.remove(id).unwrap();
        assert_eq!(papers.ids().unwrap(), BTreeSet::new());
    }
}
