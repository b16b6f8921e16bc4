//! Durable bytes: where recordings lie.
//!
//! A store knows nothing of what it holds: a cast and a request index are lines that are appended, a manifest is a
//! document that closes them. What they mean is [`crate::recording`]'s.

mod error;
pub mod faulty;
pub mod fs;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::io::AsyncRead;

pub use error::StoreError;
pub use fs::FsStore;

use crate::session::SessionId;

/// Where recordings lie.
#[async_trait]
pub trait RecordingStore: Send + Sync + std::fmt::Debug {
    /// Begins a recording with its first line. When this returns, the recording survives a power cut.
    async fn create(
        &self,
        id: SessionId,
        header: Bytes,
    ) -> Result<Arc<dyn RecordingSink>, StoreError>;

    /// Opens a recording for reading, sealed or not.
    async fn open(&self, id: SessionId) -> Result<Stored, StoreError>;

    /// The recordings that were begun within a span of time, newest first.
    async fn list(&self, span: Span) -> Result<Vec<SessionId>, StoreError>;
}

/// The writing end of one recording. Dropped without a seal, it leaves an interrupted recording behind.
///
/// The methods take an `Arc`, so that their futures own what they need: whoever waits for an append may
/// go away, and the next one to come can wait for it to end.
#[async_trait]
pub trait RecordingSink: Send + Sync + std::fmt::Debug {
    /// Adds whole lines. When this returns, they survive the daemon's death (not yet a power cut). After an
    /// error nothing more can be added. Who dies in the midst of it leaves of each file a beginning, and more of
    /// the request index than of the cast.
    async fn append(self: Arc<Self>, lines: Lines) -> Result<(), StoreError>;

    /// Closes the recording with its manifest, atomically. When this returns, all of it survives a power cut.
    async fn seal(self: Arc<Self>, manifest: Bytes) -> Result<(), StoreError>;
}

/// Whole lines for the files of a recording, added together. What is empty adds nothing; a request index to which
/// nothing was ever added does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// For the cast.
    pub cast: Bytes,
    /// For the request index.
    pub requests: Bytes,
}

/// A recording as it lies in a store.
pub struct Stored {
    /// The manifest, if the recording is closed.
    pub manifest: Option<Bytes>,
    /// The cast. Of a live recording, what was appended so far; its last line may be torn.
    pub cast: Box<dyn AsyncRead + Send + Sync + Unpin>,
    /// Size of the cast in bytes, at the time of opening.
    pub cast_bytes: u64,
    /// The request index, if there is one. Its last line may be torn, too.
    pub requests: Option<Box<dyn AsyncRead + Send + Sync + Unpin>>,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stored")
            .field("sealed", &self.manifest.is_some())
            .field("cast_bytes", &self.cast_bytes)
            .field("has_requests", &self.requests.is_some())
            .finish_non_exhaustive()
    }
}

/// A span of time, both ends included; an open end has no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
}

impl Span {
    /// Whether `moment` lies in it.
    pub fn contains(&self, moment: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= moment)
            && self.until.is_none_or(|until| moment <= until)
    }
}
