//! Durable bytes: where recordings lie.
//!
//! A store knows nothing of what it holds: a cast, a request index and checkpoints are bytes that are appended, a manifest
//! is a document that closes them. What they mean is [`crate::recording`]'s.

#[cfg(test)]
mod contract;
mod error;
pub mod faulty;
pub mod fs;
mod papers;
mod part;
pub mod retention;
pub mod room;
pub mod s3;
pub(crate) mod second;
mod settled;
pub mod ship;
mod space;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncSeek};

pub use error::StoreError;
pub use fs::FsStore;
pub use part::Part;
pub use space::{Inodes, Space};

use crate::session::SessionId;

/// Where recordings lie.
#[async_trait]
pub trait RecordingStore: Send + Sync + std::fmt::Debug {
    /// Begins a recording. When this returns, it survives a power cut.
    async fn create(
        &self,
        id: SessionId,
        beginning: Beginning,
    ) -> Result<Arc<dyn RecordingSink>, StoreError>;

    /// Opens a recording for reading, closed or not.
    async fn open(&self, id: SessionId) -> Result<Box<dyn StoredFiles>, StoreError>;

    /// The recordings that were begun within a span of time, newest first.
    async fn list(&self, span: Span) -> Result<Vec<SessionId>, StoreError>;
}

/// The writing end of one recording. Dropped without a seal, it leaves an interrupted recording behind.
///
/// The methods take an `Arc`, so that their futures own what they need: whoever waits for an append may
/// go away, and the next one to come can wait for it to end.
#[async_trait]
pub trait RecordingSink: Send + Sync + std::fmt::Debug {
    /// Adds whole lines (encrypted: whole records). When this returns, they survive the daemon's death (not yet a power
    /// cut). After an error nothing more can be added. Who dies in the midst of it leaves of each file a beginning, and
    /// more of the request index than of the cast.
    async fn append(self: Arc<Self>, lines: Lines) -> Result<(), StoreError>;

    /// Adds a checkpoint, once everything that was appended before this call survives a power cut: what it says is
    /// there, is there. Only one at a time.
    async fn checkpoint(self: Arc<Self>, note: Bytes) -> Result<(), StoreError>;

    /// Closes the recording with its last checkpoint and its manifest, atomically. When this returns, all of it survives
    /// a power cut.
    async fn seal(self: Arc<Self>, note: Bytes, manifest: Bytes) -> Result<(), StoreError>;
}

/// How a recording begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The first bytes of the cast: [`Part::Cast`], or [`Part::CastSpool`] if there is a key.
    pub cast: Bytes,
    /// The first checkpoint.
    pub note: Bytes,
    /// [`Part::SpoolKey`]. With one, the cast is a spool.
    pub spool_key: Option<Bytes>,
    /// What the request index will be: [`Part::Requests`] or [`Part::RequestsSpool`].
    pub requests: Part,
}

/// Bytes for the files of a recording, added together. What is empty adds nothing; a request index to which
/// nothing was ever added does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// For the cast.
    pub cast: Bytes,
    /// For the request index.
    pub requests: Bytes,
}

/// A recording as it lies in a store: the same one, whatever becomes of the recording meanwhile.
#[async_trait]
pub trait StoredFiles: Send + Sync {
    /// One of its files, from the beginning; `None` if it has none such. Of a recording that goes on, what was
    /// appended so far; its last line or record may be torn.
    async fn read(&self, part: Part) -> Result<Option<StoredFile>, StoreError>;

    /// The names of what lies there and is no [`Part`], but for what the store itself leaves for a moment. A store that
    /// cannot hold anything else has none.
    async fn strangers(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }
}

/// A file of a recording.
pub struct StoredFile {
    /// Size in bytes, at the time of opening.
    pub bytes: u64,
    /// Its bytes.
    pub reader: Box<dyn StoredReader>,
}

/// Reads and seeks.
pub trait StoredReader: AsyncRead + AsyncSeek + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncSeek + Send + Sync + Unpin> StoredReader for T {}

impl std::fmt::Debug for StoredFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredFile")
            .field("bytes", &self.bytes)
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
