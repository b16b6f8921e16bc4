//! What a file is, by its digests: the whole, and part by part as an upload cuts it.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use object_store::path::Path;
use tokio::io::AsyncReadExt;

use crate::recording::hex;
use crate::store::s3::{Bucket, BucketError, Stat};
use crate::store::{StoreError, StoredFile};

/// What fits into one request. Also the size of a part, until there would be too many.
pub(super) const ONE_REQUEST: u64 = 8 << 20;
/// S3 takes 10,000.
const MOST_PARTS: u64 = 9_000;

/// A file's size and digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) bytes: u64,
    /// Hex.
    pub(super) sha256: String,
    /// As servers write it: of one that is put in one request.
    plain: String,
    /// As servers write it: of one that is put in parts.
    composite: String,
}

/// The size of each part but the last. A function of the file's size alone, so that an upload can be taken up again.
pub(super) fn part_bytes(file_bytes: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    let least = file_bytes
        .div_ceil(MOST_PARTS)
        .div_ceil(MIB)
        .saturating_mul(MIB);
    least.max(ONE_REQUEST)
}

impl Digests {
    /// Reads a file from its beginning to its end.
    pub(super) async fn of(file: &mut StoredFile) -> Result<Self, StoreError> {
        let part_bytes = part_bytes(file.bytes);
        let mut whole = Context::new(&SHA256);
        let mut all_parts = Context::new(&SHA256);
        let (mut part, mut in_part) = (Context::new(&SHA256), 0_u64);
        let (mut bytes, mut parts) = (0_u64, 0_u64);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let room = part_bytes.saturating_sub(in_part).min(buffer.len() as u64);
            let room = usize::try_from(room).unwrap_or(buffer.len());
            let into = buffer.get_mut(..room).unwrap_or_default();
            let read = file
                .reader
                .read(into)
                .await
                .map_err(|error| StoreError::io("reading a recording to be shipped", error))?;
            let read_bytes = buffer.get(..read).unwrap_or_default();
            whole.update(read_bytes);
            part.update(read_bytes);
            bytes = bytes.saturating_add(read as u64);
            in_part = in_part.saturating_add(read as u64);
            if in_part > 0 && (in_part == part_bytes || read == 0) {
                let done = std::mem::replace(&mut part, Context::new(&SHA256));
                all_parts.update(done.finish().as_ref());
                (parts, in_part) = (parts.saturating_add(1), 0);
            }
            if read == 0 {
                break;
            }
        }
        let whole = whole.finish();
        let all_parts = all_parts.finish();
        Ok(Self {
            bytes,
            sha256: hex(whole.as_ref()),
            plain: BASE64_STANDARD.encode(whole.as_ref()),
            composite: format!("{}-{parts}", BASE64_STANDARD.encode(all_parts.as_ref())),
        })
    }

    /// Whether this is what the bucket holds: by the server's own checksum, or else by reading all of it.
    /// What it holds instead, if it is something else.
    pub(super) async fn compare(
        &self,
        bucket: &Bucket,
        key: &Path,
        stat: &Stat,
    ) -> Result<Result<(), String>, BucketError> {
        if stat.bytes != self.bytes {
            return Ok(Err(format!("{} bytes", stat.bytes)));
        }
        if let Some(theirs) = &stat.checksum {
            let same = match theirs.contains('-') {
                true => *theirs == self.composite,
                false => *theirs == self.plain,
            };
            if same {
                return Ok(Ok(()));
            }
        }
        // No checksum, or one over other parts than ours would be: the bytes themselves decide.
        let theirs = read_back(bucket, key, stat.bytes).await?;
        Ok(match theirs == self.sha256 {
            true => Ok(()),
            false => Err(format!("SHA-256 {theirs}")),
        })
    }
}

async fn read_back(bucket: &Bucket, key: &Path, bytes: u64) -> Result<String, BucketError> {
    let mut digest = Context::new(&SHA256);
    let mut at = 0_u64;
    while at < bytes {
        let end = at.saturating_add(ONE_REQUEST).min(bytes);
        let range: Bytes = bucket.read(key, at..end).await?;
        digest.update(&range);
        at = end;
    }
    Ok(hex(digest.finish().as_ref()))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    async fn digests(bytes: Vec<u8>) -> Digests {
        let mut file = StoredFile {
            bytes: bytes.len() as u64,
            reader: Box::new(Cursor::new(bytes)),
        };
        Digests::of(&mut file).await.unwrap()
    }

    fn sha256(bytes: &[u8]) -> Vec<u8> {
        aws_lc_rs::digest::digest(&SHA256, bytes).as_ref().to_vec()
    }

    #[tokio::test]
    async fn the_composite_is_that_of_the_parts_and_the_plain_one_that_of_the_whole() {
        for extra in [0, 1] {
            let one = usize::try_from(ONE_REQUEST).unwrap();
            let bytes: Vec<u8> = (0..2 * one + extra).map(|n| (n % 251) as u8).collect();
            let found = digests(bytes.clone()).await;
            assert_eq!(found.sha256, hex(&sha256(&bytes)));
            assert_eq!(found.plain, BASE64_STANDARD.encode(sha256(&bytes)));
            let parts: Vec<Vec<u8>> = bytes.chunks(one).map(sha256).collect();
            let composite = BASE64_STANDARD.encode(sha256(&parts.concat()));
            assert_eq!(found.composite, format!("{composite}-{}", 2 + extra));
        }
        assert_eq!(digests(Vec::new()).await.bytes, 0);
    }

    #[test]
    fn parts_are_never_too_many() {
        assert_eq!(part_bytes(0), ONE_REQUEST);
        assert_eq!(part_bytes(100 << 20), ONE_REQUEST);
        for file in [(9_000_u64 << 23) + 1, 1 << 40, 5 << 40] {
            let parts = file.div_ceil(part_bytes(file));
            assert!(parts <= MOST_PARTS, "{file}: {parts}");
        }
    }
}
