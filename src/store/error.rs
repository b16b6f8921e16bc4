//! What goes wrong with a store.

use std::io;

use rustix::io::Errno;

use super::s3::BucketError;
use crate::session::SessionId;

/// Why a store could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk, or the daemon's quota on it, is full.
    #[error("no space is left for recordings while {doing}")]
    NoSpace {
        /// What was being done.
        doing: String,
    },
    /// The file system refuses writes.
    #[error("the file system of the recordings is read-only ({doing})")]
    ReadOnly {
        /// What was being done.
        doing: String,
    },
    /// The store may not be read or written by this OS user.
    #[error(
        "{doing}: permission denied; recordings belong to the daemon's OS user, run this as that user or as root"
    )]
    Permission {
        /// What was being done.
        doing: String,
    },
    /// Anything else that the operating system answered.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// There is no such recording.
    #[error("there is no recording {0}")]
    NotFound(SessionId),
    /// There is such a recording already: ids are never used twice.
    #[error("there is a recording {0} already")]
    Exists(SessionId),
    /// The bucket failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The store's writer has ended; nothing can be recorded any more.
    #[error("the writer of recordings has ended")]
    WriterGone,
    /// An earlier write or sync of this recording failed.
    #[error("the recording failed earlier: {0}")]
    Failed(String),
}

impl StoreError {
    /// Sorts an error of the operating system.
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        let doing = doing.into();
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::NoSpace { doing },
            Some(Errno::ROFS) => Self::ReadOnly { doing },
            Some(Errno::ACCESS | Errno::PERM) => Self::Permission { doing },
            _ => Self::Io { doing, source },
        }
    }
}
