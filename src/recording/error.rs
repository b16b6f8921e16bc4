//! What goes wrong with recordings.

use super::requests::RequestNumber;
use crate::store::StoreError;

/// Why something could not be recorded. After the first one of a recording every call fails: there are no gaps.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The disk is full.
    #[error("the session cannot be recorded: no space is left for recordings")]
    NoSpace,
    /// The store failed.
    #[error("the session cannot be recorded: {0}")]
    Store(#[source] StoreError),
    /// The header or manifest could not be written as JSON.
    #[error("the session cannot be recorded: its description is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// An earlier call failed.
    #[error("the session is no longer recorded, since: {first}")]
    Failed {
        /// The first failure.
        first: String,
    },
    /// A request is too large to be put on record, so it must be refused. The recording goes on.
    #[error("the request is too large to be recorded: {bytes} bytes")]
    TooLarge {
        /// What its line would take.
        bytes: usize,
    },
    /// There is no such request, or it is over. The recording goes on.
    #[error("the request {request} is not under way in this recording")]
    NotUnderWay {
        /// What was said to be.
        request: RequestNumber,
    },
    /// The recording is sealed, or about to be.
    #[error("the recording is sealed already")]
    Sealed,
}

impl From<StoreError> for RecordingError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSpace { .. } => Self::NoSpace,
            error => Self::Store(error),
        }
    }
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Reading failed midway.
    #[error("the recording cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// The first line is not a header of ours.
    #[error("this is no recording of ours: {0}")]
    Header(String),
    /// A line is damaged.
    #[error("the recording is damaged at line {line}: {what}")]
    Line {
        /// Number of the line; the header is 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A line of the request index is damaged, or the index is of a version that is not known here.
    #[error("the request index is damaged at line {line}: {what}")]
    Index {
        /// Number of the line; the first is 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The manifest is damaged, or of a version that is not known here.
    #[error("the manifest of this recording cannot be read: {0}")]
    Manifest(String),
}
