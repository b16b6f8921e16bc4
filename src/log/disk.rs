//! What the log does to the disk, one step at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::store::room::Room;

/// What is done here, for whoever reads of an error.
const WRITING: &str = "writing the evidence log";

/// The disk. In tests it can break at any step and stay broken, as a process that is killed leaves it.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    /// Where there is no space, some of this is given up.
    pub(super) room: Room,
    #[cfg(test)]
    pub(super) fuse: Option<std::sync::Arc<super::tests::fuse::Fuse>>,
}

impl Disk {
    /// With room for what finds none.
    pub(super) fn with_room(room: Room) -> Self {
        Self {
            room,
            #[cfg(test)]
            fuse: None,
        }
    }

    /// Adds to the end of a file.
    pub(super) fn append(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if let Some(fuse) = &self.fuse {
            return fuse.write(file, bytes);
        }
        let before = file.metadata()?.len();
        self.room.with_room(WRITING, || {
            let mut writer = file;
            writer
                .write_all(bytes)
                .map_err(|error| match file.set_len(before) {
                    Ok(()) => error,
                    // Not to be made again behind half of itself.
                    Err(_) => io::Error::other(error.to_string()),
                })
        })
    }

    /// Returns when all of the file is on stable storage.
    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        self.step()?;
        #[cfg(test)]
        if let Some(fuse) = &self.fuse {
            fuse.count_sync();
        }
        let synced = file.sync_data();
        synced.inspect_err(|error| self.room.note_error(WRITING, error))
    }

    /// Puts a file in place: there is the whole of it or what was there before. Its name is not synced.
    pub(super) fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<File> {
        self.room.with_room(WRITING, || self.put_once(path, bytes))
    }

    fn put_once(&self, path: &Path, bytes: &[u8]) -> io::Result<File> {
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        let draft = Path::new(&draft);
        self.remove(draft)?;
        self.step()?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(draft)?;
        self.append(&file, bytes)?;
        self.step()?;
        file.sync_all()?;
        self.step()?;
        std::fs::rename(draft, path)?;
        Ok(file)
    }

    /// As [`Disk::put`], with the directories below `root` that it takes, and with all names synced.
    pub(super) fn put_deep(&self, root: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.directories(root, path)?;
        self.put(path, bytes)?;
        for above in path.ancestors().skip(1) {
            self.sync_directory(above)?;
            if above == root {
                break;
            }
        }
        Ok(())
    }

    /// Makes the directories between `root` and `path`.
    pub(super) fn directories(&self, root: &Path, path: &Path) -> io::Result<()> {
        self.step()?;
        match path.parent() {
            Some(parent) if parent != root => self.room.with_room(WRITING, || {
                DirBuilder::new().recursive(true).mode(0o700).create(parent)
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        File::open(path)?.sync_all()
    }

    /// Cuts a file's end off.
    pub(super) fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        self.step()?;
        file.set_len(length)
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    #[cfg_attr(not(test), allow(clippy::unused_self))]
    fn step(&self) -> io::Result<()> {
        #[cfg(test)]
        if let Some(fuse) = &self.fuse {
            return fuse.step();
        }
        Ok(())
    }
}
