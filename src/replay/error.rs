//! What goes wrong when one looks for a recording. Each says what to do next.

use crate::recording::ReadError;
use crate::session::SessionId;
use crate::store::StoreError;

/// Why a recording was not found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// There is none at all, or none that the reader may see.
    #[error("there are no recordings yet")]
    Empty,
    /// None begins like that.
    #[error("no recording begins with {prefix}; the newest are {}", list(newest))]
    Unknown {
        /// What was asked for.
        prefix: String,
        /// Some that exist.
        newest: Vec<SessionId>,
    },
    /// Several begin like that.
    #[error(
        "{count} recordings begin with {prefix}; add a character or more: {}",
        list(candidates)
    )]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many.
        count: usize,
        /// The newest of them.
        candidates: Vec<SessionId>,
    },
    /// No id begins like that.
    #[error("{0} is no session id, nor the beginning of one; see `sessions`, or say `latest`")]
    NotAnId(String),
    /// It exists and cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<StoreError> for FindError {
    fn from(error: StoreError) -> Self {
        Self::Read(error.into())
    }
}

fn list(ids: &[SessionId]) -> String {
    ids.iter()
        .map(SessionId::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Why a replay or an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The recording cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The reader of the output is gone, or its disk is full.
    #[error("writing the output: {0}")]
    Write(#[source] std::io::Error),
}

impl From<StoreError> for PlayError {
    fn from(error: StoreError) -> Self {
        Self::Read(error.into())
    }
}
