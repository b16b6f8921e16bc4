//! The daemon's own directory: recordings, journal, admin socket.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Others may pass through it (to what they own inside), not look around.
const MODE: u32 = 0o711;

/// Why a directory cannot hold the daemon's state, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It could not be made or looked at.
    #[error("state directory {}: {source}", path.display())]
    Io {
        /// Which directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something else has that name.
    #[error("state directory {}: this is not a directory; remove it or name another", path.display())]
    NotADirectory {
        /// Which path.
        path: PathBuf,
    },
    /// Others than the daemon can list or change it.
    #[error("state directory {}: others can read or write it (mode {mode:04o}); run: chmod 0711 {}", path.display(), path.display())]
    TooOpen {
        /// Which directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else owns it.
    #[error("state directory {}: it belongs to uid {owner} and the daemon is uid {daemon}; run: chown {daemon} {}", path.display(), path.display())]
    Owner {
        /// Which directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who we are.
        daemon: u32,
    },
}

/// Makes the state directory if it is not there (its parent must be), and refuses one that others can read or
/// write or that somebody else owns.
pub fn state_dir(path: &Path) -> Result<(), StateDirError> {
    match DirBuilder::new().mode(MODE).create(path) {
        Ok(()) => {
            // The umask may have taken more away than we want, never less.
            fs::set_permissions(path, fs::Permissions::from_mode(MODE))
                .map_err(|source| io(path, source))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(io(path, source)),
    }
    check_state_dir(path)
}

/// As [`state_dir`], making nothing.
pub fn check_state_dir(path: &Path) -> Result<(), StateDirError> {
    let meta = fs::metadata(path).map_err(|source| io(path, source))?;
    let (owner, daemon) = (meta.uid(), rustix::process::geteuid().as_raw());
    if !meta.is_dir() {
        Err(StateDirError::NotADirectory {
            path: path.to_owned(),
        })
    } else if owner != daemon {
        Err(StateDirError::Owner {
            path: path.to_owned(),
            owner,
            daemon,
        })
    } else if meta.mode() & 0o066 != 0 {
        Err(StateDirError::TooOpen {
            path: path.to_owned(),
            mode: meta.mode() & 0o7777,
        })
    } else {
        Ok(())
    }
}

fn io(path: &Path, source: std::io::Error) -> StateDirError {
    StateDirError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn it_is_made_once_and_stays_as_strict_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        state_dir(&path).unwrap();
        assert_eq!(mode(&path), 0o711);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        state_dir(&path).unwrap();
        assert_eq!(mode(&path), 0o700, "a stricter one is left alone");
    }

    #[test]
    fn one_that_others_can_read_or_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        fs::create_dir(&path).unwrap();
        for open in [0o755, 0o733, 0o750, 0o730, 0o705, 0o703, 0o1777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
            let message = state_dir(&path).unwrap_err().to_string();
            assert!(message.contains("chmod 0711"), "{open:o}: {message}");
            assert_eq!(mode(&path), open, "what is there is not changed");
        }
    }

    #[test]
    fn files_and_missing_parents_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(
            state_dir(&file),
            Err(StateDirError::NotADirectory { .. })
        ));
        assert!(matches!(
            state_dir(&dir.path().join("no/parent")),
            Err(StateDirError::Io { .. })
        ));
    }
}
