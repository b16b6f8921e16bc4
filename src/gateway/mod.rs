//! The gateway: an HTTPS proxy to the clusters' API servers, inside the daemon. It listens nowhere: a session hands it
//! the connections of its own clients, and it adds the session's credential, which no client ever holds.
//!
//! Each request is on record before it is forwarded, and what came of it afterwards. Exec, attach and
//! port-forward are taken apart ([`streams`]).

mod answer;
mod asked;
mod authority;
mod bodies;
mod exchange;
mod forward;
pub mod front;
mod headers;
mod marks;
pub mod request_info;
mod session;
pub mod spdy;
mod status;
pub mod streams;
mod upstream;
pub mod websocket;

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

pub use authority::AuthorityError;
pub use session::{Admission, ApiSession, ApiSessionParts};
pub use upstream::{Upstream, UpstreamError};

use crate::clock::Clock;
use authority::Authority;
use front::Front;

/// One for the daemon. Clones are the same.
#[derive(Clone)]
pub struct Gateway {
    authority: Arc<Authority>,
    front: Front,
}

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// It has no certificate authority.
    #[error("the gateway's certificate authority: {0}")]
    Authority(#[from] AuthorityError),
    /// TLS cannot be served.
    #[error("the gateway's TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl Gateway {
    /// Opens its certificate authority in `state_dir`, or makes one there.
    pub fn open(state_dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, GatewayError> {
        let authority = Arc::new(Authority::open(&state_dir.join("gateway"), clock)?);
        Ok(Self {
            front: Front::new(Arc::clone(&authority) as _)?,
            authority,
        })
    }

    /// PEM of the certificate that clients verify the gateway by.
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// Serves one connection of a session's clients, until either side ends it or the session is over. When it
    /// returns, the last of its requests may still be on its way into the record: see [`ApiSession::settled`].
    pub async fn serve<S>(&self, stream: S, session: Arc<ApiSession>, admission: Admission)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (over, tasks) = (session.over().clone(), session.tasks().clone());
        let answer =
            move |request| forward::answer(Arc::clone(&session), admission.clone(), request);
        let serving = self.front.serve(stream, over.clone(), tasks, answer);
        // Dropping the connection drops what is under way on it.
        over.run_until_cancelled(serving).await;
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
