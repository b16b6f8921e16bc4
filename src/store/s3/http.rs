//! The way to the server: HTTPS by rustls, and everything within a bounded time and size.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpService,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::error::BucketError;

/// TCP alone: a server that is gone is not waited for.
const CONNECT: Duration = Duration::from_secs(10);
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
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(roots(ca_file)?)?)
            // Which plain addresses are allowed is judged for each request.
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
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

fn tls(roots: RootCertStore) -> Result<ClientConfig, BucketError> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|error| BucketError::Trust(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, BucketError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let wrong = |why: String| BucketError::Trust(format!("{}: {why}", path.display()));
            for certificate in
                CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?
            {
                let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                roots
                    .add(certificate)
                    .map_err(|error| wrong(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("there is no certificate in it".to_owned()));
            }
        }
        // Without any, a server on loopback can still be spoken to; every other is refused by its certificate.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
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
