//! The objects of a bucket, by recording and part.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::{
    AmazonS3, AmazonS3Builder, AwsCredentialProvider, Checksum, S3ConditionalPut,
};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    BackoffConfig, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig,
};

use super::credentials::CredentialsFile;
use super::error::BucketError;
use super::http::Http;
use super::sign::{ServerChecksum, Signed};
use crate::clock::Clock;
use crate::config::S3;
use crate::session::SessionId;
use crate::store::{Part, Span};

/// Below our prefix.
const RECORDINGS: &str = "recordings";
/// Lists that are asked for at the same time.
const LISTS_AT_ONCE: usize = 16;
/// Within one request, for what a moment heals. Whoever asks has a patience of its own.
const RETRIES: usize = 2;

/// A bucket, and what all our keys in it begin with.
#[derive(Debug)]
pub struct Bucket {
    store: AmazonS3,
    root: Path,
}

/// What the server says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 by the server's count, if it keeps one: base64, of a multipart one with `-` and the number of parts.
    pub checksum: Option<String>,
}

/// What came of putting an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It was taken.
    Taken,
    /// There is one already, and it was left as it is.
    There,
}

impl Bucket {
    /// Nothing is asked of the server yet.
    pub fn open(settings: &S3, clock: Arc<dyn Clock>) -> Result<Self, BucketError> {
        Self::over(settings, clock, Http::new(settings.ca_file.as_deref())?)
    }

    /// One that waits no longer for an answer.
    #[cfg(test)]
    pub(crate) fn patient(
        settings: &S3,
        clock: Arc<dyn Clock>,
        patience: Duration,
    ) -> Result<Self, BucketError> {
        let http = Http::new(settings.ca_file.as_deref())?;
        Self::over(settings, clock, http.with_patience(patience))
    }

    fn over(settings: &S3, clock: Arc<dyn Clock>, http: Http) -> Result<Self, BucketError> {
        let credentials = credentials(settings, &http)?;
        let signed = Signed {
            credentials: Arc::clone(&credentials),
            http,
            region: settings.region.clone(),
            sse: settings.sse.clone(),
            lock: settings.object_lock,
            clock,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_checksum_algorithm(Checksum::SHA256)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(retries())
            // The one deletion that every server knows.
            .with_disable_bulk_delete(true)
            // Signed by us, when all headers are there.
            .with_skip_signature(true)
            .with_credentials(credentials)
            .with_http_connector(signed);
        if let Some(endpoint) = &settings.endpoint {
            // Whether it may be plain is judged by the configuration, and again for each request.
            builder = builder.with_endpoint(endpoint).with_allow_http(true);
        }
        let store = builder
            .build()
            .map_err(|error| BucketError::Settings(error.to_string()))?;
        let root = Path::from(settings.prefix.as_str()).join(RECORDINGS);
        Ok(Self { store, root })
    }

    /// The key of a part: `PREFIX/recordings/YYYY/MM/DD/ULID/NAME`, as in a directory.
    pub fn key(&self, id: SessionId, part: Part) -> Path {
        self.recording(id).join(part.name())
    }

    fn recording(&self, id: SessionId) -> Path {
        let date = id.opened().to_zoned(jiff::tz::TimeZone::UTC).date();
        self.root
            .clone()
            .join(format!("{:04}", date.year()))
            .join(format!("{:02}", date.month()))
            .join(format!("{:02}", date.day()))
            .join(id.to_string())
    }

    /// What is known of an object; `None` if there is none.
    pub async fn stat(&self, key: &Path) -> Result<Option<Stat>, BucketError> {
        let options = GetOptions::new().with_head(true);
        match self.store.get_opts(key, options).await {
            Ok(found) => Ok(Some(Stat {
                bytes: found.meta.size,
                checksum: found
                    .extensions
                    .get::<ServerChecksum>()
                    .map(|checksum| checksum.0.clone()),
            })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(BucketError::of(format!("asking for {key}"), &error)),
        }
    }

    /// Puts an object where there is none.
    pub async fn put_new(&self, key: &Path, bytes: Bytes) -> Result<Put, BucketError> {
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(key, bytes.into(), options).await {
            Ok(_) => Ok(Put::Taken),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(Put::There),
            Err(error) => Err(BucketError::of(format!("putting {key}"), &error)),
        }
    }

    /// Begins an upload in parts, and returns its id.
    pub async fn begin(&self, key: &Path) -> Result<String, BucketError> {
        let begun = self.store.create_multipart(key).await;
        begun.map_err(|error| BucketError::of(format!("beginning the upload of {key}"), &error))
    }

    /// Puts a part, the first is 0. What is returned must be given to [`Self::finish`].
    pub async fn put_part(
        &self,
        key: &Path,
        upload: &str,
        number: usize,
        bytes: Bytes,
    ) -> Result<String, BucketError> {
        let put = self
            .store
            .put_part(key, &upload.to_owned(), number, bytes.into())
            .await;
        put.map(|part| part.content_id)
            .map_err(|error| BucketError::of(format!("putting a part of {key}"), &error))
    }

    /// Makes an object of the parts, where there is none.
    pub async fn finish(
        &self,
        key: &Path,
        upload: &str,
        parts: Vec<String>,
    ) -> Result<Put, BucketError> {
        let parts = parts
            .into_iter()
            .map(|content_id| PartId { content_id })
            .collect();
        let finished = self
            .store
            .complete_multipart(key, &upload.to_owned(), parts)
            .await;
        match finished {
            Ok(_) => Ok(Put::Taken),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(Put::There),
            Err(error) => Err(BucketError::of(
                format!("finishing the upload of {key}"),
                &error,
            )),
        }
    }

    /// Gives an upload up, so that its parts take no room. One that is gone already is no error.
    pub async fn abort(&self, key: &Path, upload: &str) -> Result<(), BucketError> {
        match self.store.abort_multipart(key, &upload.to_owned()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BucketError::of(
                format!("giving the upload of {key} up"),
                &error,
            )),
        }
    }

    /// Some bytes of an object, all of those that were asked for.
    pub async fn read(&self, key: &Path, range: Range<u64>) -> Result<Bytes, BucketError> {
        let doing = || format!("reading {key}");
        let wanted = range.end.saturating_sub(range.start);
        let read = self.store.get_range(key, range).await;
        let bytes = read.map_err(|error| BucketError::of(doing(), &error))?;
        if bytes.len() as u64 == wanted {
            Ok(bytes)
        } else {
            Err(BucketError::Unavailable {
                doing: doing(),
                reason: format!("{} bytes came of {wanted}", bytes.len()),
            })
        }
    }

    /// Removes an object. One that is gone already is no error.
    pub async fn delete(&self, key: &Path) -> Result<(), BucketError> {
        match ObjectStoreExt::delete(&self.store, key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BucketError::of(format!("deleting {key}"), &error)),
        }
    }

    /// The recordings that were begun within `span`, in no order. Only its days are looked at.
    pub async fn list(&self, span: Span) -> Result<BTreeSet<SessionId>, BucketError> {
        let mut level = vec![self.root.clone()];
        for depth in 1..=3 {
            let mut below = self.below(level).await?;
            below.retain(|path| is_number(path.filename()) && self.may_hold(path, depth, span));
            level = below;
        }
        let mut found = BTreeSet::new();
        for path in self.below(level).await? {
            let id = path.filename().and_then(|name| SessionId::parse(name).ok());
            // Readers go by the id: what lies elsewhere would be listed and not found.
            if let Some(id) = id.filter(|id| self.recording(*id) == path)
                && span.contains(id.opened())
            {
                found.insert(id);
            }
        }
        Ok(found)
    }

    /// The folders in these, in no order. A year has 365, which are not waited for one after the other.
    async fn below(&self, folders: Vec<Path>) -> Result<Vec<Path>, BucketError> {
        let asked = stream::iter(folders).map(|folder| async move { self.folders(&folder).await });
        let found: Vec<Vec<Path>> = asked.buffer_unordered(LISTS_AT_ONCE).try_collect().await?;
        Ok(found.concat())
    }

    /// The names of a recording's objects, and of what lies among them.
    pub async fn names(&self, id: SessionId) -> Result<Vec<String>, BucketError> {
        let folder = self.recording(id);
        let listed = self.store.list_with_delimiter(Some(&folder)).await;
        let listed =
            listed.map_err(|error| BucketError::of(format!("listing {folder}"), &error))?;
        let objects = listed.objects.iter().map(|object| &object.location);
        let paths = objects.chain(&listed.common_prefixes);
        Ok(paths
            .filter_map(|path| path.filename().map(str::to_owned))
            .collect())
    }

    async fn folders(&self, folder: &Path) -> Result<Vec<Path>, BucketError> {
        let listed = self.store.list_with_delimiter(Some(folder)).await;
        let listed =
            listed.map_err(|error| BucketError::of(format!("listing {folder}"), &error))?;
        Ok(listed.common_prefixes)
    }

    /// Whether a year, month or day (`depth` 1 to 3) overlaps `span`: by name, whose order is that of time.
    fn may_hold(&self, path: &Path, depth: usize, span: Span) -> bool {
        let bound = |moment: jiff::Timestamp| {
            let date = moment.to_zoned(jiff::tz::TimeZone::UTC).date();
            [date.year(), date.month().into(), date.day().into()]
        };
        let skipped = self.root.parts().count();
        let here: Vec<i16> = path
            .parts()
            .skip(skipped)
            .filter_map(|part| part.as_ref().parse().ok())
            .collect();
        let before = |bound: [i16; 3]| here.iter().lt(bound.iter().take(depth));
        let after = |bound: [i16; 3]| here.iter().gt(bound.iter().take(depth));
        !span.since.is_some_and(|since| before(bound(since)))
            && !span.until.is_some_and(|until| after(bound(until)))
    }
}

fn is_number(name: Option<&str>) -> bool {
    name.is_some_and(|name| {
        (2..=4).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_digit())
    })
}

/// From the file that is named, or from wherever AWS's own tools would look.
fn credentials(settings: &S3, http: &Http) -> Result<AwsCredentialProvider, BucketError> {
    if let Some(path) = &settings.credentials_file {
        return Ok(Arc::new(CredentialsFile::open(path)?));
    }
    let found = AmazonS3Builder::from_env()
        .with_bucket_name(&settings.bucket)
        .with_region(&settings.region)
        .with_retry(retries())
        .with_http_connector(http.clone())
        .build()
        .map_err(|error| BucketError::Settings(error.to_string()))?;
    Ok(Arc::clone(found.credentials()))
}

fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: RETRIES,
        retry_timeout: Duration::from_secs(60),
    }
}
