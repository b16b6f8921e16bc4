//! What a home directory begins with.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Most files, directories and links.
const ENTRIES: u32 = 1000;
/// Most bytes in all files: each session has a copy, in memory.
const BYTES: u64 = 16 << 20;
/// Directories within each other.
const DEPTH: u32 = 16;

/// Why a home directory could not be begun.
#[derive(Debug, thiserror::Error)]
pub enum SkeletonError {
    /// Something could not be read, or copied.
    #[error("spec.sandbox.skeleton: {path}: {source}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A device, a socket or the like.
    #[error("spec.sandbox.skeleton: {0} is no file, directory or link")]
    Kind(PathBuf),
    /// It is more than dotfiles.
    #[error(
        "spec.sandbox.skeleton holds too much: at most {ENTRIES} files, 16 MiB, {DEPTH} directories deep"
    )]
    TooMuch,
}

/// Copies what is in `from` into `home`, modes and links as they are.
///
/// # Errors
///
/// If that is not possible, or too much.
pub fn copy(from: &Path, home: &Path) -> Result<(), SkeletonError> {
    let mut left = Left {
        entries: ENTRIES,
        bytes: BYTES,
    };
    left.directory(from, home, DEPTH)
}

/// What may still be copied.
struct Left {
    entries: u32,
    bytes: u64,
}

impl Left {
    fn directory(&mut self, from: &Path, to: &Path, depth: u32) -> Result<(), SkeletonError> {
        let depth = depth.checked_sub(1).ok_or(SkeletonError::TooMuch)?;
        for entry in fs::read_dir(from).map_err(failed(from))? {
            let entry = entry.map_err(failed(from))?;
            self.entries = self.entries.checked_sub(1).ok_or(SkeletonError::TooMuch)?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let meta = fs::symlink_metadata(&from).map_err(failed(&from))?;
            let mode = meta.permissions().mode() & 0o777;
            if meta.is_dir() {
                DirBuilder::new()
                    .mode(mode | 0o700)
                    .create(&to)
                    .map_err(failed(&to))?;
                self.directory(&from, &to, depth)?;
            } else if meta.is_file() {
                self.file(&from, &to, mode | 0o600)?;
            } else if meta.is_symlink() {
                let target = fs::read_link(&from).map_err(failed(&from))?;
                symlink(target, &to).map_err(failed(&to))?;
            } else {
                return Err(SkeletonError::Kind(from));
            }
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, to: &Path, mode: u32) -> Result<(), SkeletonError> {
        let source = fs::File::open(from).map_err(failed(from))?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(to)
            .map_err(failed(to))?;
        // One more than may be, so that it shows.
        let mut source = io::Read::take(source, self.bytes.saturating_add(1));
        let copied = io::copy(&mut source, &mut file).map_err(failed(from))?;
        self.bytes = self
            .bytes
            .checked_sub(copied)
            .ok_or(SkeletonError::TooMuch)?;
        Ok(())
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> SkeletonError {
    let path = path.to_owned();
    move |source| SkeletonError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn files_directories_and_links_are_copied_as_they_are() {
        let (from, home) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        fs::write(from.path().join(".bashrc"), "alias x=y\n").unwrap();
        fs::create_dir_all(from.path().join(".config/k9s")).unwrap();
        let script = from.path().join(".config/k9s/run");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o555)).unwrap();
        symlink("/nowhere", from.path().join("link")).unwrap();
        copy(from.path(), home.path()).unwrap();
        let read = |name: &str| fs::read_to_string(home.path().join(name)).unwrap();
        assert_eq!(read(".bashrc"), "alias x=y\n");
        let copied = fs::metadata(home.path().join(".config/k9s/run")).unwrap();
        // It is the operator's to change.
        assert_eq!(copied.permissions().mode() & 0o777, 0o755);
        let link = fs::read_link(home.path().join("link")).unwrap();
        assert_eq!(link, Path::new("/nowhere"));
    }

    #[test]
    fn what_is_more_than_dotfiles_is_refused() {
        let too_much = |from: &TempDir| {
            let home = TempDir::new().unwrap();
            matches!(copy(from.path(), home.path()), Err(SkeletonError::TooMuch))
        };
        let many = TempDir::new().unwrap();
        for n in 0..=ENTRIES {
            fs::write(many.path().join(n.to_string()), "").unwrap();
        }
        assert!(too_much(&many));
        fs::remove_file(many.path().join("0")).unwrap();
        assert!(!too_much(&many));

        let large = TempDir::new().unwrap();
        let file = fs::File::create(large.path().join("file")).unwrap();
        file.set_len(BYTES).unwrap();
        assert!(!too_much(&large));
        fs::write(large.path().join("another"), "x").unwrap();
        assert!(too_much(&large));

        let deep = TempDir::new().unwrap();
        fs::create_dir_all(deep.path().join("d/".repeat(DEPTH as usize))).unwrap();
        assert!(too_much(&deep));
    }

    #[test]
    fn a_socket_is_refused() {
        let (from, home) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let _socket = std::os::unix::net::UnixListener::bind(from.path().join("s")).unwrap();
        let refused = copy(from.path(), home.path());
        assert!(matches!(refused, Err(SkeletonError::Kind(_))));
    }
}
