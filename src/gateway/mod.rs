//! The gateway: an HTTPS proxy to the clusters' API servers, inside the daemon. It listens nowhere: a session hands it
//! the connections of its own clients, and it adds the session's credential, which no client ever holds.
//!
//! Each request is on record before it is forwarded, and what came of it afterwards. Exec, attach and
//! port-forward are taken apart ([`streams`]).

mod acting;
mod answer;
mod asked;
mod authority;
mod bearer;
mod bodies;
mod exchange;
mod files;
mod forward;
pub mod front;
mod headers;
mod marks;
mod question;
mod reading;
pub mod request_info;
mod session;
pub mod spdy;
mod status;
pub mod streams;
mod upstream;
pub mod websocket;
mod workers;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use authority::AuthorityError;
pub use bearer::BearerError;
pub use question::{NotAnswered, RightsQuestion};
pub use session::{Admission, ApiSession, ApiSessionParts};
pub use upstream::{Upstream, UpstreamError};

use crate::clock::Clock;
use crate::config::{Config, Name};
use crate::recording::Secrets;
use authority::Authority;
use bearer::Bearers;
use front::Front;
use status::Sorry;
use workers::Workers;

/// How long a connection is told that there is no session for it.
const REFUSING: Duration = Duration::from_secs(30);

/// One for the daemon. Clones are the same.
#[derive(Clone)]
pub struct Gateway {
    authority: Arc<Authority>,
    bearers: Arc<Bearers>,
    front: Front,
    workers: Arc<Workers>,
}

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// It has no certificate authority.
    #[error("the gateway's certificate authority: {0}")]
    Authority(#[from] AuthorityError),
    /// It cannot tell its own kubeconfigs.
    #[error("the gateway's bearers: {0}")]
    Bearer(#[from] BearerError),
    /// TLS cannot be served.
    #[error("the gateway's TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// It has no threads.
    #[error("the gateway's threads: {0}")]
    Workers(io::Error),
}

impl Gateway {
    /// Opens its certificate authority in `state_dir`, or makes one there.
    /// Its bearers are among `secrets` from then on.
    pub fn open(
        state_dir: &Path,
        clock: Arc<dyn Clock>,
        secrets: Secrets,
    ) -> Result<Self, GatewayError> {
        let directory = state_dir.join("gateway");
        let authority = Arc::new(Authority::open(&directory, clock)?);
        Ok(Self {
            bearers: Arc::new(Bearers::open(&directory, secrets)?),
            front: Front::new(Arc::clone(&authority) as _)?,
            authority,
            workers: Arc::new(Workers::start().map_err(GatewayError::Workers)?),
        })
    }

    /// The threads that connections are to be served on.
    pub fn workers(&self) -> &Handle {
        self.workers.handle()
    }

    /// PEM of the certificate that clients verify the gateway by.
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// What an identity's kubeconfig says on its tunnels.
    pub fn bearer(&self, identity: &Name) -> String {
        self.bearers.bearer(identity)
    }

    /// Takes a configuration over: the bearers of its identities may be in kubeconfigs since long ago.
    pub fn update(&self, config: &Config) {
        for identity in config.identities.keys() {
            self.bearers.known(identity);
        }
    }

    /// Has every kubeconfig of an identity that was written until now count no more. The new generation's number.
    pub fn rotate(&self, identity: &Name) -> Result<u64, GatewayError> {
        Ok(self.bearers.rotate(identity)?)
    }

    /// Who may speak on a tunnel that was authenticated as this identity.
    pub fn admission(&self, identity: &Name) -> Admission {
        let (bearers, identity) = (Arc::clone(&self.bearers), identity.clone());
        Admission::Bearer(Arc::new(move |bearer: &str| {
            bearers.knows(&identity, bearer)
        }))
    }

    /// Answers every request of one connection by the same sentence: there is no session for it.
    pub async fn refuse<S>(&self, stream: S, sentence: &str, admission: Admission)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let sorry = Sorry::new(http::StatusCode::FORBIDDEN, sentence);
        let answer = move |request| {
            let answer = forward::refuse(&sorry, &admission, request);
            async move { answer }
        };
        let (over, tasks) = (CancellationToken::new(), TaskTracker::new());
        let serving = self.front.serve(stream, over.clone(), tasks, answer);
        // Long enough to be asked a few times.
        if tokio::time::timeout(REFUSING, serving).await.is_err() {
            over.cancel();
        }
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
