//! A recording in a directory, for reading.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::io::Errno;
use tokio::sync::Semaphore;

use super::layout::MANIFEST_DRAFT;
use super::slowly;
use crate::session::SessionId;
use crate::store::{Part, StoreError, StoredFile, StoredFiles};

/// Names of what does not belong there that are told.
const MOST_STRANGERS: usize = 16;

/// Its directory, held open: a recording that is packed meanwhile is another directory under the same name, and what is
/// read here stays one and the same.
#[derive(Debug)]
pub(super) struct FsFiles {
    directory: Arc<OwnedFd>,
    path: PathBuf,
    slow: Arc<Semaphore>,
}

impl FsFiles {
    pub(super) fn open(
        id: SessionId,
        path: PathBuf,
        slow: Arc<Semaphore>,
    ) -> Result<Self, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, &path, flags, Mode::empty()) {
            Ok(directory) => Ok(Self {
                directory: Arc::new(directory),
                path,
                slow,
            }),
            Err(Errno::NOENT) => Err(StoreError::NotFound(id)),
            Err(error) => Err(failed(&path, error.into())),
        }
    }
}

#[async_trait]
impl StoredFiles for FsFiles {
    async fn read(&self, part: Part) -> Result<Option<StoredFile>, StoreError> {
        let directory = Arc::clone(&self.directory);
        let path = self.path.join(part.name());
        let opened = slowly(&self.slow, move || {
            // What somebody put there instead, a pipe say, is not waited for.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let file = match openat(&*directory, part.name(), flags, Mode::empty()) {
                Ok(file) => File::from(file),
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(failed(&path, error.into())),
            };
            let about = file.metadata().map_err(|error| failed(&path, error))?;
            if !about.is_file() {
                let error = io::Error::new(io::ErrorKind::InvalidData, "it is no file");
                return Err(failed(&path, error));
            }
            Ok(Some((file, about.len())))
        })
        .await?;
        Ok(opened.map(|(file, bytes)| StoredFile {
            bytes,
            reader: Box::new(tokio::fs::File::from_std(file)),
        }))
    }

    async fn strangers(&self) -> Result<Vec<String>, StoreError> {
        let directory = Arc::clone(&self.directory);
        let path = self.path.clone();
        slowly(&self.slow, move || {
            let mut strangers = Vec::new();
            let entries =
                Dir::read_from(&*directory).map_err(|error| failed(&path, error.into()))?;
            for entry in entries {
                let entry = entry.map_err(|error| failed(&path, error.into()))?;
                let name = entry.file_name().to_string_lossy();
                if !matches!(&*name, "." | ".." | MANIFEST_DRAFT) && Part::named(&name).is_none() {
                    strangers.push(name.into_owned());
                }
                if strangers.len() >= MOST_STRANGERS {
                    break;
                }
            }
            strangers.sort_unstable();
            Ok(strangers)
        })
        .await
    }
}

fn failed(path: &Path, error: io::Error) -> StoreError {
    StoreError::io(format!("reading {}", path.display()), error)
}
