//! How full a file system is.

use std::io;
use std::path::Path;

/// What is there and what of it is free, for whoever is not root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All bytes.
    pub bytes: u64,
    /// Of these, free.
    pub bytes_free: u64,
    /// None where the file system does not count them.
    pub inodes: Option<Inodes>,
}

/// Files and directories that there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inodes {
    /// All of them.
    pub all: u64,
    /// Of these, free.
    pub free: u64,
}

impl Space {
    /// Of the file system that `path` is on. Blocks.
    pub fn at(path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        Ok(Self {
            // As df(1) counts: what is kept for root is neither used nor free.
            bytes: bytes(used.saturating_add(stat.f_bavail)),
            bytes_free: bytes(stat.f_bavail),
            inodes: (stat.f_files > 0).then_some(Inodes {
                all: stat.f_files,
                free: stat.f_favail,
            }),
        })
    }
}
