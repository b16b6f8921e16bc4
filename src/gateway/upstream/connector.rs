//! How a connection to an API server is made: TCP, TLS, and reads that fetch much at once.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use kube::client::ConfigExt as _;
use tokio::net::TcpStream;
use tower_service::Service;

use super::UpstreamError;
use crate::gateway::reading::{Ahead, Whole};

/// TCP and TLS together: a server that takes a connection and says nothing is down.
const CONNECT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(30);

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Tcp = TokioIo<Ahead<TcpStream>>;
/// A connection to an API server.
pub(super) type Connected = TokioIo<Whole<TokioIo<MaybeHttpsStream<Tcp>>>>;

/// Makes connections to the API server of a cluster.
#[derive(Clone, Debug)]
pub(super) struct Connector(HttpsConnector<TcpConnector>);

impl Connector {
    /// With what `config` says of TLS.
    pub(super) fn new(config: &kube::Config) -> Result<Self, UpstreamError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        let https = config
            .rustls_https_connector_with_connector(TcpConnector(tcp))
            .map_err(|error| UpstreamError::Tls(error.to_string()))?;
        Ok(Self(https))
    }
}

impl Service<Uri> for Connector {
    type Response = Connected;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Connected, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.0.call(to);
        Box::pin(async move {
            match tokio::time::timeout(CONNECT, connecting).await {
                Ok(connected) => Ok(TokioIo::new(Whole::new(TokioIo::new(connected?)))),
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        })
    }
}

#[derive(Clone, Debug)]
struct TcpConnector(HttpConnector);

impl Service<Uri> for TcpConnector {
    type Response = Tcp;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Tcp, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(ready!(self.0.poll_ready(cx))?))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.0.call(to);
        Box::pin(async move { Ok(TokioIo::new(Ahead::new(connecting.await?.into_inner()))) })
    }
}
