//! The connections to a cluster's API server that all its sessions share.

mod arriving;
mod connector;
mod idle;
mod line;
mod own;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::sync::{Arc, PoisonError, RwLock};

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use tower_service::Service as _;

pub(super) use self::arriving::Arriving;
use self::connector::{BoxError, Connector};
use self::idle::Idle;
use self::line::Line;
use self::own::Own;
use super::answer::RequestBody;

/// An API server, verified by its CA. Made by [`Upstream::new`] it holds no credential: each request brings its session's own, and
/// the daemon's never goes with one. Made by [`Upstream::of_the_daemon`], it holds the daemon's, and none goes without a name of
/// somebody's.
#[derive(Clone, Debug)]
pub struct Upstream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    way: RwLock<Arc<Way>>,
    idle: Arc<Idle>,
    server: Uri,
    host: HeaderValue,
    /// What the server's URL has before the API's own paths; often nothing.
    prefix: String,
}

/// How connections are made now.
#[derive(Debug)]
struct Way {
    connector: Connector,
    own: Option<Own>,
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
    /// The daemon cannot say who it is.
    #[error(
        "the daemon's own credential cannot be had: does the kubeconfig's exec plugin work, is its token file there?"
    )]
    Own,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// It was not sent.
    #[error("connecting to the API server")]
    Connect(#[source] BoxError),
    /// It may have been sent, and may have been done.
    #[error("asking the API server")]
    Broken(#[from] hyper::Error),
}

impl Upstream {
    /// To the cluster of `config`, with nothing of its credential.
    pub fn new(config: &kube::Config) -> Result<Self, UpstreamError> {
        Self::by(Way::without_credential(config)?, config)
    }

    /// To the cluster of `config`, as the daemon itself. May run a plugin: not for a thread that others wait for.
    pub fn of_the_daemon(config: &kube::Config) -> Result<Self, UpstreamError> {
        Self::by(Way::of_the_daemon(config)?, config)
    }

    /// From now on connections are made by what `config` says, also for sessions that are open. Where the API server is does not
    /// change. May run a plugin, as [`Upstream::of_the_daemon`].
    pub fn replace(&self, config: &kube::Config) -> Result<(), UpstreamError> {
        let way = match self.way().own {
            None => Way::without_credential(config)?,
            Some(_) => Way::of_the_daemon(config)?,
        };
        let mut place = self.0.way.write().unwrap_or_else(PoisonError::into_inner);
        *place = Arc::new(way);
        Ok(())
    }

    /// Whether that is where it leads.
    pub fn leads_to(&self, config: &kube::Config) -> bool {
        let prefix = config.cluster_url.path().trim_end_matches('/');
        let authority = config.cluster_url.authority();
        authority.is_some_and(|there| self.0.host == there.as_str()) && self.0.prefix == prefix
    }

    fn by(way: Way, config: &kube::Config) -> Result<Self, UpstreamError> {
        let parts = config.cluster_url.clone().into_parts();
        let authority = parts.authority.ok_or(UpstreamError::Address)?;
        let prefix = parts
            .path_and_query
            .map(|path| path.path().trim_end_matches('/').to_owned());
        let host = HeaderValue::from_str(authority.as_str());
        let server = Uri::builder()
            .scheme(parts.scheme.unwrap_or(Scheme::HTTPS))
            .authority(authority)
            .path_and_query("/")
            .build();
        Ok(Self(Arc::new(Inner {
            way: RwLock::new(Arc::new(way)),
            idle: Arc::default(),
            host: host.map_err(|_| UpstreamError::Address)?,
            server: server.map_err(|_| UpstreamError::Address)?,
            prefix: prefix.unwrap_or_default(),
        })))
    }

    /// Whether sessions that hold one go the way of the other.
    #[cfg(test)]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Which way is gone, to compare it with another.
    #[cfg(test)]
    pub(crate) fn way_now(&self) -> usize {
        Arc::as_ptr(&self.way()).addr()
    }

    fn way(&self) -> Arc<Way> {
        Arc::clone(&self.0.way.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who the daemon is, if requests are its own.
    pub(super) fn own(&self) -> Option<Own> {
        self.way().own.clone()
    }

    /// `Host`.
    pub(super) fn host(&self) -> HeaderValue {
        self.0.host.clone()
    }

    /// Where a path of the API is there.
    pub(super) fn uri(&self, path: &PathAndQuery) -> Result<Uri, http::Error> {
        match self.0.prefix.is_empty() {
            true => Ok(Uri::from(path.clone())),
            false => Ok(format!("{}{path}", self.0.prefix).parse()?),
        }
    }

    /// Asks once, and answers with the head of the answer.
    pub(super) async fn ask(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Arriving>, AskError> {
        loop {
            let rested = self.0.idle.take();
            let again = rested.is_some();
            let mut line = match rested {
                Some(line) => line,
                None => self.connect().await?,
            };
            match line.ask(request).await {
                Ok(answer) => return Ok(self.arriving(answer, line)),
                Err(mut unanswered) => match unanswered.take_message() {
                    // The API server closed what had rested before anything was sent: that is no answer of its.
                    Some(unsent) if again => request = unsent,
                    _ => return Err(unanswered.into_error().into()),
                },
            }
        }
    }

    async fn connect(&self) -> Result<Line, AskError> {
        let mut connector = self.way().connector.clone();
        let connected = async {
            poll_fn(|cx| connector.poll_ready(cx)).await?;
            connector.call(self.0.server.clone()).await
        };
        Ok(Line::new(connected.await.map_err(AskError::Connect)?).await?)
    }

    fn arriving(&self, answer: Response<hyper::body::Incoming>, line: Line) -> Response<Arriving> {
        let line = match answer.status() {
            StatusCode::SWITCHING_PROTOCOLS => {
                line.leave();
                None
            }
            _ => Some(line),
        };
        answer.map(|body| Arriving::new(body, line, Arc::clone(&self.0.idle)))
    }
}

impl Way {
    fn without_credential(config: &kube::Config) -> Result<Self, UpstreamError> {
        let mut config = config.clone();
        // A client certificate would make every session's requests the daemon's own.
        config.auth_info = kube::config::AuthInfo::default();
        Ok(Self {
            connector: Connector::new(&config)?,
            own: None,
        })
    }

    fn of_the_daemon(config: &kube::Config) -> Result<Self, UpstreamError> {
        Ok(Self {
            connector: Connector::new(config)?,
            own: Some(Own::of(config)?),
        })
    }
}
