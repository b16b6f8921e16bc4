//! One directory in another's place.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::layout::{Layout, private_directory, sync_directory};
use crate::session::SessionId;
use crate::store::{Part, StoreError};

/// Prefix of what a recording is to be replaced by, and of what was replaced.
const DRAFT: &str = ".pack-";
/// Prefix of a recording that makes room, where two directories cannot change places.
const OLD: &str = ".old-";

/// An empty directory beside the recording.
pub(super) fn draft(layout: &Layout, id: SessionId) -> Result<PathBuf, StoreError> {
    let draft = beside(layout, id, DRAFT);
    let failed = |error| StoreError::io(format!("creating {}", draft.display()), error);
    remove(&draft)?;
    private_directory(&draft).map_err(failed)?;
    Ok(draft)
}

/// Puts it in the recording's place. Where the recording as it was lies then, for [`discard`].
pub(super) fn replace(layout: &Layout, id: SessionId, draft: &Path) -> Result<PathBuf, StoreError> {
    let place = layout.directory(id);
    let failed = |error| StoreError::io(format!("replacing {}", place.display()), error);
    let day = place.parent().unwrap_or(&place).to_owned();
    sync_directory(draft).map_err(failed)?;
    match renameat_with(CWD, draft, CWD, &place, RenameFlags::EXCHANGE) {
        Ok(()) => {
            sync_directory(&day).map_err(failed)?;
            Ok(draft.to_owned())
        }
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            let old = beside(layout, id, OLD);
            std::fs::rename(&place, &old).map_err(failed)?;
            std::fs::rename(draft, &place).map_err(failed)?;
            sync_directory(&day).map_err(failed)?;
            Ok(old)
        }
        Err(error) => Err(failed(error.into())),
    }
}

/// After a crash: finishes what was under way with the entry `name` of a day, if that is of this module's. Whether it was.
pub(super) fn recover(layout: &Layout, day: &Path, name: &str) -> Result<bool, StoreError> {
    let entry = day.join(name);
    if let Some(Ok(_)) = name.strip_prefix(DRAFT).map(SessionId::parse) {
        // Both directories changed places at once or not at all: this one is not needed, unless the other has just made
        // room for it.
        let left = name
            .strip_prefix(DRAFT)
            .map(|id| day.join(format!("{OLD}{id}")));
        if !left.is_some_and(|old| old.exists()) {
            remove(&entry)?;
        }
        return Ok(true);
    }
    let Some(Ok(id)) = name.strip_prefix(OLD).map(SessionId::parse) else {
        return Ok(false);
    };
    let place = layout.directory(id);
    let failed = |error| StoreError::io(format!("replacing {}", place.display()), error);
    let draft = day.join(format!("{DRAFT}{id}"));
    if !place.exists() {
        // The draft was whole and on disk before the recording made room for it.
        let from = match draft.join(Part::Manifest.name()).exists() {
            true => &draft,
            false => &entry,
        };
        std::fs::rename(from, &place).map_err(failed)?;
        sync_directory(day).map_err(failed)?;
    }
    remove(&draft)?;
    remove(&entry)?;
    Ok(true)
}

/// Leaves nothing beside a recording that is gone, from which [`recover`] would make it anew.
pub(super) fn forget(layout: &Layout, id: SessionId) -> Result<(), StoreError> {
    remove(&beside(layout, id, DRAFT))?;
    remove(&beside(layout, id, OLD))
}

fn beside(layout: &Layout, id: SessionId, prefix: &str) -> PathBuf {
    layout.directory(id).with_file_name(format!("{prefix}{id}"))
}

/// Removes what was replaced, or a draft that came to nothing.
pub(super) fn discard(directory: &Path) -> Result<(), StoreError> {
    let ours = directory.file_name().and_then(|name| name.to_str());
    match ours.is_some_and(|name| name.starts_with(DRAFT) || name.starts_with(OLD)) {
        true => remove(directory),
        false => Ok(()),
    }
}

fn remove(directory: &Path) -> Result<(), StoreError> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io(
            format!("removing {}", directory.display()),
            error,
        )),
        _ => Ok(()),
    }
}
