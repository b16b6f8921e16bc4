//! Why a recording is not in the bucket yet.

use crate::recording::ReadError;
use crate::store::StoreError;
use crate::store::s3::BucketError;

/// Why a recording could not be shipped this time.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The local store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The recording's manifest is not understood, so nobody can say what belongs to it.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl ShipError {
    /// Whether nothing else need be tried for a while.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Bucket(error) if error.is_outage())
    }

    /// It may go away by itself.
    pub(super) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Bucket(BucketError::Unavailable { .. }))
    }

    /// What the bucket holds is not what we have: somebody has to look.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Bucket(BucketError::Conflict { .. }))
    }
}
