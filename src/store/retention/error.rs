//! Why a recording is not deleted, or not held.

use crate::recording::ReadError;
use crate::session::SessionId;
use crate::store::StoreError;
use crate::store::s3::BucketError;
use crate::store::ship::ShipError;

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// It may not go.
    #[error(transparent)]
    Not(#[from] NotDeleted),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The recording's manifest could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The bucket failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// What is known of its shipping could not be put away.
    #[error(transparent)]
    Ship(#[from] ShipError),
    /// It could not be put on record, so nothing was done.
    #[error("the deletion could not be put on record, so nothing was deleted: {0}")]
    Evidence(String),
}

/// Why a recording may not be deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDeleted {
    /// Somebody needs it.
    #[error("{session} is held since {since:.0} by {who}: {reason}")]
    Held {
        /// Which one.
        session: SessionId,
        /// Since when.
        since: jiff::Timestamp,
        /// By whom.
        who: String,
        /// Why.
        reason: String,
    },
    /// Its session goes on, or it is not packed yet.
    #[error("{0} is not closed yet")]
    Open(SessionId),
    /// The bucket does not have it.
    #[error("{0} is not shipped yet; it can be deleted when the object store has acknowledged it")]
    NotShipped(SessionId),
    /// Nothing proves that what it says of itself, its age, its role and what it is part of, is what the daemon wrote.
    #[error("{session} stays as evidence, see `verify`: {why}")]
    Unproven {
        /// Which one.
        session: SessionId,
        /// What is wrong with it.
        why: String,
    },
}
