//! Why nothing can be recorded.

use std::io;

use rustix::io::Errno;
use serde::Serialize;

use crate::store::StoreError;

/// Why nothing can be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Trouble {
    /// No bytes or no inodes are left.
    NoSpace,
    /// The file system refuses writes.
    ReadOnly,
    /// The disk answers with errors.
    Broken,
}

impl Trouble {
    /// All that there can be.
    pub const ALL: [Self; 3] = [Self::NoSpace, Self::ReadOnly, Self::Broken];

    /// What an error of the operating system says of the disk; `None` if it is about something else.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        match Errno::from_raw_os_error(error.raw_os_error()?) {
            Errno::NOSPC | Errno::DQUOT => Some(Self::NoSpace),
            Errno::ROFS => Some(Self::ReadOnly),
            Errno::IO | Errno::UCLEAN | Errno::NXIO | Errno::NODEV | Errno::STALE => {
                Some(Self::Broken)
            }
            _ => None,
        }
    }

    /// The same of one that was sorted already.
    pub(super) fn of_store(error: &StoreError) -> Option<Self> {
        match error {
            StoreError::NoSpace { .. } => Some(Self::NoSpace),
            StoreError::ReadOnly { .. } => Some(Self::ReadOnly),
            StoreError::Io { source, .. } => Self::of(source),
            _ => None,
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoSpace => "no space is left for recordings",
            Self::ReadOnly => "the file system of the recordings is read-only",
            Self::Broken => "the disk of the recordings answers with errors",
        })
    }
}
