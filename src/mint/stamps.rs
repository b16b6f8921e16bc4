//! Whether files are still what they were when they were read.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Files as they were found. What is replaced, written to or taken away is not the same any more; through symbolic links, as a
/// kubelet replaces what it projects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

/// Device, inode, length, and when it was changed: seconds and nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

impl Stamps {
    /// Looks at a file, before it is read.
    pub(super) fn note(&mut self, path: &Path) {
        self.0.push((path.to_owned(), stamp(path)));
    }

    /// The same files as they are now. Reads the file system: not for a thread that others wait for.
    pub(super) fn now(&self) -> Self {
        let again = |(path, _): &(PathBuf, _)| (path.clone(), stamp(path));
        Self(self.0.iter().map(again).collect())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some((
        found.dev(),
        found.ino(),
        found.size(),
        found.mtime(),
        found.mtime_nsec(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_happens_to_a_file_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("token"), "one").unwrap();
        std::os::unix::fs::symlink("token", path("link")).unwrap();
        let mut stamps = Stamps::default();
        stamps.note(&path("link"));
        stamps.note(&path("none"));
        assert_eq!(stamps.now(), stamps);
        std::fs::write(path("none"), "here").unwrap();
        let appeared = stamps.now();
        assert_ne!(appeared, stamps);
        std::fs::write(path("new"), "two").unwrap();
        std::fs::rename(path("new"), path("token")).unwrap();
        let replaced = appeared.now();
        assert_ne!(replaced, appeared);
        std::fs::remove_file(path("token")).unwrap();
        assert_ne!(replaced.now(), replaced);
    }
}
