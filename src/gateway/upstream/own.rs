//! The daemon's own credential, for requests that it makes in somebody's name. Whatever its kubeconfig says counts: a token, a file of
//! one, an exec plugin that is run again in time; a client certificate is in the connection.

use std::future::{Ready, poll_fn, ready};
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response};
use kube::client::middleware::AuthLayer;
use kube::client::{Body, ConfigExt as _};
use tower_layer::Layer;
use tower_service::Service;

use super::UpstreamError;
use super::connector::BoxError;

/// Says who the daemon is.
#[derive(Clone)]
pub(in crate::gateway) struct Own(Option<<AuthLayer as Layer<Headers>>::Service>);

/// It cannot say so. What an exec plugin or a file had in it is not told.
#[derive(Debug, thiserror::Error)]
#[error("the daemon's own credential cannot be had")]
pub(in crate::gateway) struct NoCredential;

impl Own {
    /// Reads files and runs plugins: not for a thread that others wait for.
    pub(super) fn of(config: &kube::Config) -> Result<Self, UpstreamError> {
        // The library's error may quote what a plugin printed, which may be the credential.
        let layer = config.auth_layer().map_err(|_| UpstreamError::Own)?;
        Ok(Self(layer.map(|layer| layer.layer(Headers))))
    }

    /// `Authorization`, as it is now; nothing where a client certificate is all there is.
    pub(in crate::gateway) async fn headers(&self) -> Result<HeaderMap, NoCredential> {
        let Some(mut said) = self.0.clone() else {
            return Ok(HeaderMap::new());
        };
        let asked = async {
            poll_fn(|cx| said.poll_ready(cx)).await?;
            said.call(Request::new(Body::empty())).await
        };
        let said: Result<Response<()>, BoxError> = asked.await;
        said.map(|said| said.into_parts().0.headers)
            .map_err(|_| NoCredential)
    }
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Own(redacted)")
    }
}

/// Answers with the headers of what it was asked.
#[derive(Clone, Debug)]
struct Headers;

impl Service<Request<Body>> for Headers {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Ready<Result<Response<()>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut answer = Response::new(());
        *answer.headers_mut() = request.into_parts().0.headers;
        ready(Ok(answer))
    }
}
