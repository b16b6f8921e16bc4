//! The way to the server: HTTPS by rustls, and everything within a bounded time and size.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpService,
};

use super::error::BucketError;
use crate::https;

/// One request with its answer. The largest carry a part of some MiB: 30 KiB a second are enough.
const PATIENCE: Duration = Duration::from_secs(300);
/// After which a connection that nobody uses is closed.
const IDLE: Duration = Duration::from_secs(30);
/// The largest answer: a range of an object, or a page of a list.
const MOST: usize = 32 << 20;

/// A client for one server, or for those that hand out credentials.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, HttpRequestBody>,
    patience: Duration,
}

impl Http {
    /// Trusts the CAs of `ca_file`, or the system's.
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, BucketError> {
        // Which plain addresses are allowed is judged for each request.
        let connector =
            https::connector(ca_file).map_err(|error| BucketError::Trust(error.to_string()))?;
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self {
            client,
            patience: PATIENCE,
        })
    }

    /// With another bound on a request and its answer.
    #[cfg(test)]
    pub(super) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = self.client.request(request).await.map_err(of_request)?;
        let (head, body) = answer.into_parts();
        // A body that ends before its time is an error here, not a short object.
        let body = Limited::new(body, MOST)
            .collect()
            .await
            .map_err(|error| HttpError::new_boxed(HttpErrorKind::Interrupted, error))?;
        Ok(HttpResponse::from_parts(head, body.to_bytes().into()))
    }
}

#[async_trait]
impl HttpService for Http {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if request.uri().scheme_str() != Some("https") && !may_be_plain(request.uri()) {
            return Err(HttpError::new(HttpErrorKind::Unknown, Plain));
        }
        tokio::time::timeout(self.patience, self.ask(request))
            .await
            .map_err(|elapsed| HttpError::new(HttpErrorKind::Timeout, elapsed))?
    }
}

impl object_store::client::HttpConnector for Http {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

/// A request that would go in clear over a network.
#[derive(Debug, thiserror::Error)]
#[error("only loopback and the host's own metadata service are spoken to without TLS")]
struct Plain;

/// Loopback, and the link-local addresses at which clouds hand out credentials.
fn may_be_plain(uri: &http::Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        // fd00:ec2::254 (instances) and fd00:ec2::23 (pods).
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.segments().starts_with(&[0xfd00, 0xec2])
        }
        Err(_) => false,
    }
}

fn of_request(error: legacy::Error) -> HttpError {
    let kind = if error.is_connect() {
        HttpErrorKind::Connect
    } else {
        HttpErrorKind::Interrupted
    };
    HttpError::new(kind, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_on_the_host_may_be_plain() {
        let may = |uri: &str| may_be_plain(&uri.parse().unwrap());
        for fine in [
            "http://127.0.0.1:9000/x",
            "http://[::1]:9000/",
            "http://169.254.169.254/latest",
            "http://[fd00:ec2::254]/latest",
        ] {
            assert!(may(fine), "{fine}");
        }
        for wrong in [
            "http://10.0.0.1/",
            "http://localhost.example.com/",
            "http://[2001:db8::1]/",
            "http://127.0.0.1.example.com/",
        ] {
            assert!(!may(wrong), "{wrong}");
        }
    }
}
