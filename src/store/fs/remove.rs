//! Removes a recording from a directory: at once for readers, whatever comes between.

use std::io;

use super::layout::{Layout, sync_directory};
use super::{FsStore, replace, slowly, walk};
use crate::session::SessionId;
use crate::store::StoreError;

/// Prefix of the directory of a recording that is being removed.
const GONE: &str = ".gone-";

impl FsStore {
    /// Removes a recording for good. One that is not there is no error. Whether it may go is for the caller to know.
    pub async fn remove(&self, id: SessionId) -> Result<(), StoreError> {
        let layout = std::sync::Arc::clone(&self.layout);
        slowly(&self.slow, move || remove(&layout, id)).await
    }

    /// Removes what an earlier daemon had begun to remove.
    pub async fn finish_removals(&self) -> Result<(), StoreError> {
        let layout = std::sync::Arc::clone(&self.layout);
        slowly(&self.slow, move || finish(&layout)).await
    }
}

fn remove(layout: &Layout, id: SessionId) -> Result<(), StoreError> {
    let directory = layout.directory(id);
    let failed = |error| StoreError::io(format!("removing {}", directory.display()), error);
    let gone = directory.with_file_name(format!("{GONE}{id}"));
    match std::fs::rename(&directory, &gone) {
        Ok(()) => {
            directory
                .parent()
                .map_or(Ok(()), sync_directory)
                .map_err(failed)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    replace::forget(layout, id)?;
    match std::fs::remove_dir_all(&gone) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

fn finish(layout: &Layout) -> Result<(), StoreError> {
    for day in walk::days(layout.root())? {
        for name in walk::names(&day)? {
            let id = name.strip_prefix(GONE).map(SessionId::parse);
            if let Some(Ok(_)) = id {
                let path = day.join(&name);
                std::fs::remove_dir_all(&path).map_err(|error| {
                    StoreError::io(format!("removing {}", path.display()), error)
                })?;
            }
        }
    }
    Ok(())
}
