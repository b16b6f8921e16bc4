//! Requests to a provider: over TLS only, each answer short and soon, and nobody sent elsewhere.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};

use super::ProviderError;
use crate::causes::causes;
use crate::config::IdentityProvider;
use crate::https;

/// One request with its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer, in bytes: a key set with certificates takes some 20 KiB.
const LONGEST: usize = 256 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0} is not https")]
    NotHttps(String),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Slow,
    #[error("{0}")]
    Connection(String),
    #[error("the answer is longer than {LONGEST} bytes, or broke off")]
    Body,
}

/// The way to one provider.
#[derive(Debug)]
pub(super) struct Http(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}

impl Http {
    pub(super) async fn open(provider: &IdentityProvider) -> Result<Self, ProviderError> {
        let ca: Option<PathBuf> = provider.certificate_authority.clone();
        // Reading the system's CAs takes its time.
        let connector = tokio::task::spawn_blocking(move || https::connector(ca.as_deref())).await;
        let connector = connector.map_err(|_| ProviderError::Down {
            provider: provider.name.clone(),
            why: "reading the CAs died".to_owned(),
        })??;
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }

    /// Redirects are answers like others, and none that is of use.
    pub(super) async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if request.uri().scheme_str() != Some("https") {
            return Err(HttpError::NotHttps(request.uri().to_string()));
        }
        let answered = tokio::time::timeout(PATIENCE, self.exchange(request)).await;
        answered.unwrap_or(Err(HttpError::Slow))
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let request = request.map(|body| Full::new(Bytes::from(body)));
        let answer = self.0.request(request).await;
        let answer = answer.map_err(|error| HttpError::Connection(causes(&error)))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LONGEST).collect().await;
        let body = body.map_err(|_| HttpError::Body)?.to_bytes();
        Ok(HttpResponse::from_parts(head, body.to_vec()))
    }
}
