//! What goes wrong with recordings.

use super::check::Problem;
use super::notary::NotaryError;
use super::requests::RequestNumber;
use crate::config::show_size;
use crate::store::StoreError;
use crate::store::room::Trouble;

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
    /// There is no signature for it, or the log cannot be written.
    #[error("the session cannot be recorded: {0}")]
    Notary(#[from] NotaryError),
    /// The random generator or the cipher failed.
    #[error("the session cannot be recorded: it cannot be encrypted")]
    Cipher,
    /// The recipients are none.
    #[error("the session cannot be recorded: it cannot be encrypted to the recipients")]
    Recipients,
    /// Encrypting failed.
    #[error("the session cannot be recorded: it cannot be encrypted: {0}")]
    Encrypt(#[source] std::io::Error),
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
    /// The recording is as large as one may be. It can still be sealed.
    #[error("its recording has reached its quota of {}", show_size(*.quota))]
    Quota {
        /// Bytes.
        quota: u64,
    },
    /// Nothing can be recorded now, and that is known of all recordings. It can still be sealed.
    #[error("{trouble}")]
    NoRoom {
        /// Why.
        trouble: Trouble,
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
    /// A checkpoint is damaged.
    #[error("checkpoint {number} is damaged: {what}")]
    Checkpoint {
        /// Its number; the first is 0.
        number: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The recording is encrypted, and there is no key to it here.
    #[error(
        "this recording is encrypted: give --identity FILE, with the private key of one of its recipients"
    )]
    Encrypted,
    /// The manifest is damaged, or of a version that is not known here.
    #[error("the manifest of this recording cannot be read: {0}")]
    Manifest(String),
}

/// Why a recording that nobody sealed could not be closed. It stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log says that it was begun, and it is not there.
    #[error("the log says that it was begun, and it is gone from the store")]
    Gone,
    /// The log says that it was closed, and its manifest is not there.
    #[error(
        "the log says that it was closed, and its manifest is gone: it stays as it is, see `verify`"
    )]
    Closed,
    /// There is no checkpoint.
    #[error("it has no whole checkpoint that says what it is: it stays as it is")]
    NoCheckpoint,
    /// Somebody else signed it.
    #[error("it is signed by no key of this bastion: it stays as it is")]
    Foreign,
    /// It does not hold against its checkpoints.
    #[error("it does not hold against its checkpoints, and stays as it is: {0}")]
    Unsound(Problem),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nothing can be signed or entered.
    #[error(transparent)]
    Notary(#[from] NotaryError),
    /// A description is no JSON.
    #[error("its description is no JSON: {0}")]
    Json(#[from] serde_json::Error),
}
