//! Recordings that are written here and kept in a bucket.
//!
//! A recording begins, goes on and is closed in the local store: a bucket cannot append, and a server that is gone must
//! end no session. [`crate::store::ship`] brings over what is closed. Reading finds a recording in either place.

mod bucket;
mod credentials;
mod error;
mod http;
mod read;
mod sign;
#[cfg(test)]
#[allow(dead_code, missing_docs, unreachable_pub)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;

pub use bucket::{Bucket, Put, Stat};
pub use error::BucketError;

use self::read::ObjectReader;
use super::{
    Beginning, FsStore, Part, RecordingSink, RecordingStore, Span, StoreError, StoredFile,
    StoredFiles,
};
use crate::session::SessionId;

/// Names that are told; whoever puts more there has made the point.
const MOST_STRANGERS: usize = 16;

/// A local store, and the bucket behind it.
#[derive(Debug)]
pub struct S3Store {
    local: FsStore,
    bucket: Arc<Bucket>,
}

impl S3Store {
    /// Nothing is asked of the server yet.
    pub fn new(local: FsStore, bucket: Arc<Bucket>) -> Self {
        Self { local, bucket }
    }
}

#[async_trait]
impl RecordingStore for S3Store {
    async fn create(
        &self,
        id: SessionId,
        beginning: Beginning,
    ) -> Result<Arc<dyn RecordingSink>, StoreError> {
        self.local.create(id, beginning).await
    }

    async fn open(&self, id: SessionId) -> Result<Box<dyn StoredFiles>, StoreError> {
        match self.local.open(id).await {
            Err(StoreError::NotFound(_)) => {}
            opened => return opened,
        }
        // The manifest is put last: without one the recording is on its way here, or on its way out.
        let manifest = self.bucket.key(id, Part::Manifest);
        match self.bucket.stat(&manifest).await? {
            Some(manifest) => Ok(Box::new(BucketFiles {
                bucket: Arc::clone(&self.bucket),
                id,
                manifest,
            })),
            None => Err(StoreError::NotFound(id)),
        }
    }

    async fn list(&self, span: Span) -> Result<Vec<SessionId>, StoreError> {
        let mut found = self.bucket.list(span).await?;
        found.extend(self.local.list(span).await?);
        Ok(found.into_iter().rev().collect())
    }
}

#[derive(Debug)]
struct BucketFiles {
    bucket: Arc<Bucket>,
    id: SessionId,
    /// Lists read nothing else, of each recording: it need not be asked for twice.
    manifest: Stat,
}

#[async_trait]
impl StoredFiles for BucketFiles {
    async fn read(&self, part: Part) -> Result<Option<StoredFile>, StoreError> {
        let key = self.bucket.key(self.id, part);
        let found = match part {
            Part::Manifest => Some(self.manifest.clone()),
            _ => self.bucket.stat(&key).await?,
        };
        Ok(found.map(|stat| StoredFile {
            bytes: stat.bytes,
            reader: Box::new(ObjectReader::new(Arc::clone(&self.bucket), key, stat.bytes)),
        }))
    }

    async fn strangers(&self) -> Result<Vec<String>, StoreError> {
        let mut names = self.bucket.names(self.id).await?;
        names.retain(|name| Part::named(name).is_none());
        names.truncate(MOST_STRANGERS);
        Ok(names)
    }
}
