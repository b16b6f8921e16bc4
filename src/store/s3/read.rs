//! An object as a file: read from anywhere, in ranges.

use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use object_store::path::Path;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};

use super::bucket::Bucket;
use super::error::BucketError;

/// The first range after a seek: a header, a keyframe.
const FIRST: u64 = 256 << 10;
/// The largest range, when it is read on and on.
const LARGEST: u64 = 8 << 20;

type Fetch = Pin<Box<dyn Future<Output = Result<Bytes, BucketError>> + Send>>;

/// Reads an object; memory for one range.
pub(super) struct ObjectReader {
    bucket: Arc<Bucket>,
    key: Path,
    bytes: u64,
    position: u64,
    /// What was fetched from `position` on and not read yet.
    held: Bytes,
    next: u64,
    /// Only ever polled by who holds the reader; the lock makes it `Sync`.
    fetch: Mutex<Option<Fetch>>,
}

impl ObjectReader {
    pub(super) fn new(bucket: Arc<Bucket>, key: Path, bytes: u64) -> Self {
        Self {
            bucket,
            key,
            bytes,
            position: 0,
            held: Bytes::new(),
            next: FIRST,
            fetch: Mutex::new(None),
        }
    }

    fn under_way(&mut self) -> &mut Option<Fetch> {
        self.fetch
            .get_mut()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn ask(&mut self) -> Fetch {
        let end = self.position.saturating_add(self.next).min(self.bytes);
        let range = self.position..end;
        self.next = self.next.saturating_mul(2).min(LARGEST);
        let (bucket, key) = (Arc::clone(&self.bucket), self.key.clone());
        Box::pin(async move { bucket.read(&key, range).await })
    }
}

impl AsyncRead for ObjectReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if into.remaining() == 0 || self.position >= self.bytes {
            return Poll::Ready(Ok(()));
        }
        if self.held.is_empty() {
            let mut fetch = match self.under_way().take() {
                Some(fetch) => fetch,
                None => self.ask(),
            };
            match fetch.as_mut().poll(context) {
                Poll::Pending => {
                    *self.under_way() = Some(fetch);
                    return Poll::Pending;
                }
                Poll::Ready(fetched) => self.held = fetched.map_err(io::Error::other)?,
            }
        }
        let length = self.held.len().min(into.remaining());
        into.put_slice(&self.held.split_to(length));
        self.position = self.position.saturating_add(length as u64);
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for ObjectReader {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let target = match to {
            SeekFrom::Start(from_start) => Some(from_start),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        let target = target.ok_or(io::ErrorKind::InvalidInput)?;
        if target != self.position {
            self.position = target;
            self.held = Bytes::new();
            *self.under_way() = None;
            self.next = FIRST;
        }
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position))
    }
}
