//! Where things lie, and how a recording comes to lie there.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use jiff::tz::TimeZone;

use crate::session::SessionId;
use crate::store::{Beginning, Part, StoreError};

/// A manifest that is being written.
pub(super) const MANIFEST_DRAFT: &str = "manifest.json.new";
/// Prefix of a recording's directory until its header is on disk.
pub(super) const DRAFT: &str = ".new-";

#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    /// The day's directory that is known to be on disk, so that only a day's first recording pays for it.
    day: Mutex<Option<PathBuf>>,
}

impl Layout {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            root: state_dir.join("recordings"),
            day: Mutex::new(None),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of a recording.
    pub(super) fn directory(&self, id: SessionId) -> PathBuf {
        self.day(id).join(id.to_string())
    }

    fn day(&self, id: SessionId) -> PathBuf {
        let date = id.opened().to_zoned(TimeZone::UTC).date();
        self.root
            .join(format!("{:04}", date.year()))
            .join(format!("{:02}", date.month()))
            .join(format!("{:02}", date.day()))
    }

    /// Makes a recording, all of it on disk or none: it is written under another name first.
    pub(super) fn create(&self, id: SessionId, beginning: &Beginning) -> Result<Begun, StoreError> {
        let day = self.day(id);
        self.ensure_day(&day)?;

        let directory = day.join(id.to_string());
        let draft = day.join(format!("{DRAFT}{id}"));
        let doing = || format!("opening the recording {}", directory.display());
        let failed = |error| StoreError::io(doing(), error);

        if directory.exists() {
            return Err(StoreError::Exists(id));
        }
        private_directory(&draft).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => StoreError::Exists(id),
            _ => failed(error),
        })?;
        let begun = begin(&draft, beginning)
            .and_then(|begun| sync_directory(&draft).map(|()| begun))
            .and_then(|begun| std::fs::rename(&draft, &directory).map(|()| begun))
            .and_then(|begun| sync_directory(&day).map(|()| begun));
        begun.map_err(|error| {
            // On a full disk the draft would stay in the way; what cannot be removed, recovery removes.
            drop(std::fs::remove_dir_all(&draft));
            failed(error)
        })
    }

    fn ensure_day(&self, day: &Path) -> Result<(), StoreError> {
        let mut known = self
            .day
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if known.as_deref() == Some(day) && day.is_dir() {
            return Ok(());
        }
        let above: Vec<&Path> = day
            .ancestors()
            .take_while(|path| path.starts_with(&self.root))
            .collect();
        for path in above.into_iter().rev() {
            let failed = |error| StoreError::io(format!("creating {}", path.display()), error);
            match private_directory(path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
            // Also when it existed: the daemon that made it may have died before this.
            path.parent()
                .map_or(Ok(()), sync_directory)
                .map_err(failed)?;
        }
        *known = Some(day.to_owned());
        Ok(())
    }
}

/// The files of a recording that has just begun.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) cast: File,
    pub(super) checkpoints: File,
    pub(super) note_bytes: u64,
}

fn begin(directory: &Path, beginning: &Beginning) -> io::Result<Begun> {
    let cast = match &beginning.spool_key {
        None => Part::Cast,
        Some(key) => {
            write_new(&directory.join(Part::SpoolKey.name()), key)?;
            Part::CastSpool
        }
    };
    Ok(Begun {
        cast: write_new(&directory.join(cast.name()), &beginning.cast)?,
        checkpoints: write_new(&directory.join(Part::Checkpoints.name()), &beginning.note)?,
        note_bytes: beginning.note.len() as u64,
    })
}

/// Writes a manifest beside its place.
pub(super) fn draft_manifest(directory: &Path, manifest: &[u8]) -> io::Result<()> {
    let draft = directory.join(MANIFEST_DRAFT);
    match std::fs::remove_file(&draft) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    write_new(&draft, manifest)?;
    sync_directory(directory)
}

/// Puts the drafted manifest in place: there is the whole of it or none.
pub(super) fn place_manifest(directory: &Path) -> io::Result<()> {
    let manifest = directory.join(Part::Manifest.name());
    std::fs::rename(directory.join(MANIFEST_DRAFT), manifest)?;
    sync_directory(directory)
}

/// A file that is appended to, for its owner only.
pub(super) fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = new_file(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

pub(super) fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
