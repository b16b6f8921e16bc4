//! The connections to a cluster's API server that all its sessions share.

use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::ConfigExt as _;

use super::answer::RequestBody;

/// TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(5);
/// After which a connection that nobody uses is closed: before the API server does (90 s).
const IDLE: Duration = Duration::from_secs(60);
/// As many connections as a busy moment leaves behind.
const IDLE_CONNECTIONS: usize = 64;
const KEEPALIVE: Duration = Duration::from_secs(30);
/// The longest head of an answer.
const MAX_HEAD: usize = 64 * 1024;

/// An API server, verified by its CA. It holds no credential: each request brings its session's own, and the daemon's
/// never goes with one.
#[derive(Clone, Debug)]
pub struct Upstream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client<TimeoutConnector<HttpsConnector<HttpConnector>>, RequestBody>,
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    /// What the server's URL has before the API's own paths; often nothing.
    prefix: String,
}

/// Why there is no way to an API server.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Its address is no URL of a server.
    #[error("the cluster's server is no URL of one")]
    Address,
    /// Its CA cannot be used.
    #[error("the cluster's CA: {0}")]
    Tls(String),
}

impl Upstream {
    /// To the cluster of `config`, with nothing of its credential.
    pub fn new(config: &kube::Config) -> Result<Self, UpstreamError> {
        let mut config = config.clone();
        // A client certificate would make every session's requests the daemon's own.
        config.auth_info = kube::config::AuthInfo::default();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        let https = config
            .rustls_https_connector_with_connector(tcp)
            .map_err(|error| UpstreamError::Tls(error.to_string()))?;
        // A server that takes a connection and says nothing is down.
        let mut connector = TimeoutConnector::new(https);
        connector.set_connect_timeout(Some(CONNECT));
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_max_buf_size(MAX_HEAD * 4)
            // It is set for each request.
            .set_host(false)
            .build(connector);
        let parts = config.cluster_url.into_parts();
        let authority = parts.authority.ok_or(UpstreamError::Address)?;
        let prefix = parts
            .path_and_query
            .map(|path| path.path().trim_end_matches('/').to_owned());
        Ok(Self(Arc::new(Inner {
            client,
            scheme: parts.scheme.unwrap_or(Scheme::HTTPS),
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| UpstreamError::Address)?,
            authority,
            prefix: prefix.unwrap_or_default(),
        })))
    }

    /// `Host`.
    pub(super) fn host(&self) -> HeaderValue {
        self.0.host.clone()
    }

    /// Where a path of the API is there.
    pub(super) fn uri(&self, path: &PathAndQuery) -> Result<Uri, http::Error> {
        let builder = Uri::builder()
            .scheme(self.0.scheme.clone())
            .authority(self.0.authority.clone());
        if self.0.prefix.is_empty() {
            builder.path_and_query(path.clone()).build()
        } else {
            builder
                .path_and_query(format!("{}{path}", self.0.prefix))
                .build()
        }
    }

    /// Asks once, and answers with the head of the answer.
    pub(super) async fn ask(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, legacy::Error> {
        self.0.client.request(request).await
    }
}
