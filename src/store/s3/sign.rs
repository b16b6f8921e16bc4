//! What each request carries besides what `object_store` puts there, and the signature over all of it.
//!
//! `object_store` has no words for Object Lock, for a condition on the end of a multipart upload, or for the checksum
//! that a server keeps. So it is told not to sign, the headers are added here, and then everything is signed.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{HeaderName, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, Uri};
use jiff::{SignedDuration, Timestamp};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{
    HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};

use super::http::Http;
use crate::clock::Clock;
use crate::config::{ObjectLock, Sse};

const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");
const CHECKSUM_MODE: HeaderName = HeaderName::from_static("x-amz-checksum-mode");
const LOCK_MODE: HeaderName = HeaderName::from_static("x-amz-object-lock-mode");
const LOCK_UNTIL: HeaderName = HeaderName::from_static("x-amz-object-lock-retain-until-date");
const SSE: HeaderName = HeaderName::from_static("x-amz-server-side-encryption");
const SSE_KEY: HeaderName = HeaderName::from_static("x-amz-server-side-encryption-aws-kms-key-id");

/// What the server says of the SHA-256 of an object: base64, and of a multipart one `-` and the number of its parts.
#[derive(Clone, Debug)]
pub(super) struct ServerChecksum(pub(super) String);

/// Adds, signs, sends.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    pub(super) http: Http,
    pub(super) credentials: AwsCredentialProvider,
    pub(super) region: String,
    pub(super) sse: Option<Sse>,
    pub(super) lock: Option<ObjectLock>,
    pub(super) clock: Arc<dyn Clock>,
}

#[async_trait]
impl HttpService for Signed {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.add(&mut request)?;
        let credential = self
            .credentials
            .get_credential()
            .await
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let digest = payload_digest(request.headers());
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, digest.as_deref())
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let mut response = self.http.call(request).await?;
        let checksum = response.headers().get(CHECKSUM);
        if let Some(checksum) = checksum.and_then(|value| value.to_str().ok()) {
            let checksum = ServerChecksum(checksum.to_owned());
            response.extensions_mut().insert(checksum);
        }
        Ok(response)
    }
}

impl object_store::client::HttpConnector for Signed {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl Signed {
    fn add(&self, request: &mut HttpRequest) -> Result<(), HttpError> {
        match Deed::of(request.method(), request.uri()) {
            Deed::Create => self.describe(request.headers_mut())?,
            Deed::Finish => {
                let any = HeaderValue::from_static("*");
                request.headers_mut().insert(IF_NONE_MATCH, any);
            }
            Deed::Look => {
                let enabled = HeaderValue::from_static("ENABLED");
                request.headers_mut().insert(CHECKSUM_MODE, enabled);
            }
            Deed::Else => {}
        }
        Ok(())
    }

    /// How the server is to keep what is created.
    fn describe(&self, headers: &mut HeaderMap) -> Result<(), HttpError> {
        let unfit = |error| HttpError::new(HttpErrorKind::Unknown, error);
        match &self.sse {
            None => {}
            Some(Sse::Aes256) => {
                headers.insert(SSE, HeaderValue::from_static("AES256"));
            }
            Some(Sse::Kms(key)) => {
                headers.insert(SSE, HeaderValue::from_static("aws:kms"));
                if let Some(key) = key {
                    headers.insert(SSE_KEY, HeaderValue::from_str(key).map_err(unfit)?);
                }
            }
        }
        if let Some(lock) = self.lock {
            let until = until(self.clock.now(), lock);
            headers.insert(LOCK_MODE, HeaderValue::from_static(lock.mode.as_str()));
            headers.insert(LOCK_UNTIL, HeaderValue::from_str(&until).map_err(unfit)?);
        }
        Ok(())
    }
}

/// What a request does, as far as that takes headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Puts an object, or begins a multipart upload of one.
    Create,
    /// Makes an object of the parts of an upload.
    Finish,
    /// Asks what is known of an object.
    Look,
    /// Anything else.
    Else,
}

impl Deed {
    fn of(method: &Method, uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        let has = |key: &str| {
            query
                .split('&')
                .any(|pair| pair.split('=').next() == Some(key))
        };
        let puts = method == Method::PUT && !has("partNumber");
        let begins = method == Method::POST && has("uploads");
        if puts || begins {
            Self::Create
        } else if method == Method::POST && has("uploadId") {
            Self::Finish
        } else if method == Method::HEAD {
            Self::Look
        } else {
            Self::Else
        }
    }
}

/// Rounded up to the second, so that it is never a moment less than was asked for.
fn until(now: Timestamp, lock: ObjectLock) -> String {
    let retain = SignedDuration::try_from(lock.retain).unwrap_or(SignedDuration::MAX);
    let until = now
        .saturating_add(retain.saturating_add(SignedDuration::from_secs(1)))
        .unwrap_or(Timestamp::MAX);
    until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The checksum header is over the same bytes: they need not be hashed twice.
fn payload_digest(headers: &HeaderMap) -> Option<Vec<u8>> {
    let checksum = headers.get(CHECKSUM)?.to_str().ok()?;
    BASE64_STANDARD.decode(checksum).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::LockMode;

    #[test]
    fn creations_completions_and_looks_are_told_apart() {
        let deed = |method: Method, uri: &str| Deed::of(&method, &uri.parse().unwrap());
        let base = "https://s3.example.com/b/k";
        assert_eq!(deed(Method::PUT, base), Deed::Create);
        assert_eq!(
            deed(Method::POST, &format!("{base}?uploads=")),
            Deed::Create
        );
        let part = format!("{base}?partNumber=1&uploadId=u");
        assert_eq!(deed(Method::PUT, &part), Deed::Else);
        let finish = format!("{base}?uploadId=u");
        assert_eq!(deed(Method::POST, &finish), Deed::Finish);
        assert_eq!(deed(Method::DELETE, &finish), Deed::Else);
        assert_eq!(deed(Method::HEAD, base), Deed::Look);
        assert_eq!(deed(Method::GET, base), Deed::Else);
    }

    #[test]
    fn a_lock_never_ends_before_its_time() {
        let lock = ObjectLock {
            mode: LockMode::Compliance,
            retain: Duration::from_secs(86_400),
        };
        let now: Timestamp = "2026-11-26T12:00:00.999Z".parse().unwrap();
        assert_eq!(until(now, lock), "2026-11-27T12:00:01Z");
    }
}
