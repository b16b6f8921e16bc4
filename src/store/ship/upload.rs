//! One recording's way into the bucket: file by file, the manifest last, each checked when it is there.

use bytes::Bytes;
use object_store::path::Path;
use std::io::SeekFrom;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::book::{Book, FileState, Page, Upload};
use super::digest::{Digests, ONE_REQUEST, part_bytes};
use super::error::ShipError;
use crate::clock::Clock;
use crate::session::SessionId;
use crate::store::s3::{Bucket, BucketError, Put};
use crate::store::{Part, StoreError, StoredFile, StoredFiles};

/// A recording on its way.
pub(super) struct Shipment<'a> {
    id: SessionId,
    bucket: &'a Bucket,
    book: &'a Book,
    page: Page,
}

/// Brings all files of a closed recording over. When this returns well, the bucket has all of them, that was checked,
/// and it is on disk that it was.
pub(super) async fn ship(
    id: SessionId,
    files: &dyn StoredFiles,
    bucket: &Bucket,
    book: &Book,
    clock: &Arc<dyn Clock>,
) -> Result<(), ShipError> {
    let page = on_disk(book, move |book| book.read(id)).await?;
    let mut shipment = Shipment {
        id,
        bucket,
        book,
        page,
    };
    // An outage shows before anything large is read.
    bucket.stat(&bucket.key(id, Part::Manifest)).await?;
    // Of all parts the manifest is the last: who finds it in the bucket, finds the others.
    for part in Part::ALL {
        if let Some(file) = files.read(part).await? {
            shipment.file(part, file).await?;
        }
    }
    shipment.page.acknowledged = Some(clock.now());
    shipment.save().await
}

impl Shipment<'_> {
    async fn file(&mut self, part: Part, mut file: StoredFile) -> Result<(), ShipError> {
        let name = part.name();
        let ours = Digests::of(&mut file).await?;
        let known = self.page.files.get(name);
        if let Some(stale) = known.filter(|known| known.sha256 != ours.sha256) {
            // What was closed does not change. If it did, what is under way is of no use, and is not left behind.
            if let Some(upload) = stale.upload.clone() {
                let key = self.bucket.key(self.id, part);
                self.bucket.abort(&key, &upload.id).await?;
            }
            self.page.files.remove(name);
        } else if known.is_some_and(|known| known.there) {
            return Ok(());
        }
        self.page.files.entry(name.to_owned()).or_insert(FileState {
            bytes: ours.bytes,
            sha256: ours.sha256.clone(),
            there: false,
            upload: None,
        });
        let key = self.bucket.key(self.id, part);
        if !self.look(name, &key, &ours).await? {
            if ours.bytes <= ONE_REQUEST {
                self.put(&key, &mut file).await?;
            } else {
                self.put_in_parts(name, &key, &mut file).await?;
            }
            // Whoever put it: what the bucket holds now is looked at, not what was answered.
            if !self.look(name, &key, &ours).await? {
                return Err(ShipError::Bucket(BucketError::Damaged {
                    key: key.to_string(),
                    reason: "there is nothing under the key".to_owned(),
                }));
            }
        }
        if let Some(state) = self.page.files.get_mut(name) {
            state.there = true;
        }
        self.save().await
    }

    /// Whether the bucket has it. If anything is under its key, no upload of it goes on.
    async fn look(&mut self, name: &str, key: &Path, ours: &Digests) -> Result<bool, ShipError> {
        let looked = self.is_there(key, ours).await;
        let decided = match &looked {
            Ok(there) => *there,
            Err(error) => error.is_conflict(),
        };
        if decided && self.under_way(name).is_some() {
            match self.give_up(name, key).await {
                Err(error) if error.is_unavailable() => return Err(error),
                // An upload that has become an object is no upload any more; not every server says so by 404.
                Err(error) => {
                    tracing::warn!(%error, "an upload could not be given up");
                    self.note(name, None).await?;
                }
                Ok(()) => {}
            }
        }
        looked
    }

    /// Whether the bucket has it. Anything else under its key is an error.
    async fn is_there(&self, key: &Path, ours: &Digests) -> Result<bool, ShipError> {
        let Some(stat) = self.bucket.stat(key).await? else {
            return Ok(false);
        };
        match ours.compare(self.bucket, key, &stat).await? {
            Ok(()) => Ok(true),
            Err(theirs) => Err(ShipError::Bucket(BucketError::Conflict {
                key: key.to_string(),
                ours: format!("{} bytes, SHA-256 {}", ours.bytes, ours.sha256),
                theirs,
            })),
        }
    }

    async fn put(&self, key: &Path, file: &mut StoredFile) -> Result<(), ShipError> {
        let bytes = read_at(file, 0, file.bytes).await?;
        match self.bucket.put_new(key, bytes).await? {
            // Somebody was faster, perhaps we ourselves: what is there is looked at next.
            Put::Taken | Put::There => Ok(()),
        }
    }

    /// Goes on with an upload that was begun, or begins one.
    async fn put_in_parts(
        &mut self,
        name: &str,
        key: &Path,
        file: &mut StoredFile,
    ) -> Result<(), ShipError> {
        let size = part_bytes(file.bytes);
        let mut upload = match self
            .under_way(name)
            .filter(|upload| upload.part_bytes == size)
        {
            Some(upload) => upload,
            None => {
                let id = self.bucket.begin(key).await?;
                let parts = Vec::new();
                let part_bytes = size;
                let upload = Upload {
                    id,
                    part_bytes,
                    parts,
                };
                // Before any part is put: one that nobody knows of would take room for ever.
                self.note(name, Some(&upload)).await?;
                upload
            }
        };
        let result = self.parts_and_end(name, key, file, &mut upload).await;
        if let Err(ShipError::Bucket(BucketError::Refused { .. } | BucketError::Missing { .. })) =
            &result
        {
            // This upload will never be finished. The next try begins another.
            self.give_up(name, key).await?;
        }
        result
    }

    async fn parts_and_end(
        &mut self,
        name: &str,
        key: &Path,
        file: &mut StoredFile,
        upload: &mut Upload,
    ) -> Result<(), ShipError> {
        let total = file.bytes.div_ceil(upload.part_bytes);
        while (upload.parts.len() as u64) < total {
            let number = upload.parts.len();
            let start = (number as u64).saturating_mul(upload.part_bytes);
            let end = start.saturating_add(upload.part_bytes).min(file.bytes);
            let bytes = read_at(file, start, end).await?;
            let answer = self.bucket.put_part(key, &upload.id, number, bytes).await?;
            upload.parts.push(answer);
            self.note(name, Some(upload)).await?;
        }
        let parts = upload.parts.clone();
        match self.bucket.finish(key, &upload.id, parts).await? {
            Put::Taken => self.note(name, None).await,
            // The object decides, which is looked at next.
            Put::There => Ok(()),
        }
    }

    fn under_way(&self, name: &str) -> Option<Upload> {
        self.page.files.get(name)?.upload.clone()
    }

    /// Leaves nothing of an upload behind.
    async fn give_up(&mut self, name: &str, key: &Path) -> Result<(), ShipError> {
        if let Some(upload) = self.under_way(name) {
            self.bucket.abort(key, &upload.id).await?;
            self.note(name, None).await?;
        }
        Ok(())
    }

    async fn note(&mut self, name: &str, upload: Option<&Upload>) -> Result<(), ShipError> {
        if let Some(state) = self.page.files.get_mut(name) {
            state.upload = upload.cloned();
        }
        self.save().await
    }

    async fn save(&self) -> Result<(), ShipError> {
        let (id, page) = (self.id, self.page.clone());
        on_disk(self.book, move |book| book.write(id, &page)).await
    }
}

async fn read_at(file: &mut StoredFile, start: u64, end: u64) -> Result<Bytes, ShipError> {
    let failed = |error| StoreError::io("reading a recording to be shipped", error);
    let length = end.saturating_sub(start);
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    let reader = &mut file.reader;
    reader.seek(SeekFrom::Start(start)).await.map_err(failed)?;
    reader
        .take(length)
        .read_to_end(&mut bytes)
        .await
        .map_err(failed)?;
    if bytes.len() as u64 == length {
        Ok(bytes.into())
    } else {
        Err(failed(std::io::ErrorKind::UnexpectedEof.into()).into())
    }
}

/// Does what waits for the disk where waiting is allowed.
pub(super) async fn on_disk<T: Send + 'static>(
    book: &Book,
    work: impl FnOnce(&Book) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ShipError> {
    let book = book.clone();
    let done = tokio::task::spawn_blocking(move || work(&book)).await;
    Ok(done.map_err(|_| StoreError::WriterGone)??)
}
