//! Conversations with an API server: bounded in time and size, and honest about whether a request may have arrived.

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::client::{AuthError, Body};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::error::MintError;
use super::lease::Impersonated;

/// Tokens, reviews and statuses are some kilobytes.
const MAX_ANSWER: usize = 1 << 20;

/// As much of the API server's own words as a log line bears.
const MAX_MESSAGE: usize = 500;

/// One API server, with a pool of connections.
#[derive(Clone)]
pub(super) struct ApiServer {
    client: kube::Client,
    cluster: String,
    server: String,
    agent: String,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer")
            .field("cluster", &self.cluster)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// What to ask.
#[derive(Clone)]
pub(super) struct Call<'a> {
    /// As errors say it: "creating the session's Secret".
    pub(super) doing: &'static str,
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) body: Bytes,
    /// The session that it is for: the API server's audit log shows the User-Agent.
    pub(super) session: Option<crate::session::SessionId>,
    /// In whose name, if not in the daemon's.
    pub(super) acting: Option<&'a Impersonated>,
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) audit_id: Option<String>,
    /// May hold a token.
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// No answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// Nothing was sent.
    #[error("{0}")]
    NotSent(MintError),
    /// The request may have arrived and been carried out.
    #[error("{0}")]
    InDoubt(MintError),
    /// As [`NoAnswer::InDoubt`], by a connection that broke: the pool's connection may have been closed by the other
    /// side a moment ago, and a second try is due.
    #[error("{0}")]
    Broken(MintError),
}

impl From<NoAnswer> for MintError {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::NotSent(error) | NoAnswer::InDoubt(error) | NoAnswer::Broken(error) => error,
        }
    }
}

impl ApiServer {
    /// Runs the kubeconfig's exec plugin, if it has one.
    pub(super) async fn connect(cluster: &str, config: kube::Config) -> Result<Self, MintError> {
        let server = config.cluster_url.to_string();
        let build = tokio::task::spawn_blocking(move || kube::Client::try_from(config));
        let reason = match build.await {
            Ok(Ok(client)) => return Ok(Self::new(cluster, server, client)),
            // An exec plugin's output may be the credential; kube prints it with the error.
            Ok(Err(kube::Error::Auth(AuthError::AuthExecRun { cmd, out }))) => {
                format!("the kubeconfig's exec plugin {cmd} failed ({})", out.status)
            }
            Ok(Err(kube::Error::Auth(AuthError::AuthExecParse(_)))) => {
                "the kubeconfig's exec plugin printed no ExecCredential".to_owned()
            }
            Ok(Err(error)) => causes(&error),
            Err(_) => "reading the daemon's own credential failed".to_owned(),
        };
        Err(MintError::Access {
            cluster: cluster.to_owned(),
            reason,
        })
    }

    /// With a client of one's own.
    pub(super) fn new(cluster: &str, server: String, client: kube::Client) -> Self {
        Self {
            client,
            cluster: cluster.to_owned(),
            server,
            agent: concat!("bastion-audit/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// The URL, as the journal keeps it.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Asks once.
    pub(super) async fn ask(&self, call: &Call<'_>, deadline: Instant) -> Result<Answer, NoAnswer> {
        let began = crate::clock::monotonic();
        let request = self
            .request(call)
            .map_err(|what| NoAnswer::NotSent(self.bad_answer(call.doing, what.to_string())))?;
        let exchange = async {
            let response = self
                .client
                .send(request)
                .await
                .map_err(|error| self.classify(call.doing, &error))?;
            let status = response.status();
            let audit_id = response
                .headers()
                .get("audit-id")
                .and_then(|value| value.to_str().ok())
                .filter(|id| id.len() <= 128)
                .map(str::to_owned);
            let body = self.read(call.doing, response.into_body()).await?;
            Ok(Answer {
                status,
                audit_id,
                body,
            })
        };
        match tokio::time::timeout_at(deadline, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(NoAnswer::InDoubt(MintError::Timeout {
                cluster: self.cluster.clone(),
                doing: call.doing,
                seconds: began.elapsed().as_secs(),
            })),
        }
    }

    /// Asks, and once more if the connection broke. Only for what may be done twice.
    pub(super) async fn ask_again(
        &self,
        call: &Call<'_>,
        deadline: Instant,
    ) -> Result<(Answer, Tries), NoAnswer> {
        match self.ask(call, deadline).await {
            Err(NoAnswer::Broken(_)) => Ok((self.ask(call, deadline).await?, Tries::Two)),
            answer => Ok((answer?, Tries::One)),
        }
    }

    /// Has the pool hold a connection that works. Any answer will do.
    pub(super) async fn warm(&self, deadline: Instant) -> Result<(), MintError> {
        let call = Call {
            doing: "connecting",
            method: Method::GET,
            path: "/version",
            body: Bytes::new(),
            session: None,
            acting: None,
        };
        self.ask_again(&call, deadline).await?;
        Ok(())
    }

    /// Reads an answer that must be a success.
    pub(super) fn parse<T: DeserializeOwned>(
        &self,
        doing: &'static str,
        answer: &Answer,
    ) -> Result<T, MintError> {
        if !answer.status.is_success() {
            return Err(self.refusal(doing, answer));
        }
        // serde_json's error may quote a value; the position is enough.
        serde_json::from_slice(&answer.body).map_err(|error| {
            self.bad_answer(
                doing,
                format!(
                    "no such object at line {} column {}",
                    error.line(),
                    error.column()
                ),
            )
        })
    }

    /// What a status that is no success means.
    pub(super) fn refusal(&self, doing: &'static str, answer: &Answer) -> MintError {
        let said: Status = serde_json::from_slice(&answer.body).unwrap_or_default();
        let cluster = self.cluster.clone();
        let message = plain(said.message.as_deref().unwrap_or("no reason given"));
        match answer.status {
            StatusCode::UNAUTHORIZED => MintError::Unauthorized {
                cluster,
                doing,
                message,
            },
            StatusCode::FORBIDDEN => MintError::Forbidden {
                cluster,
                doing,
                message,
            },
            status => MintError::Refused {
                cluster,
                doing,
                status: status.as_u16(),
                reason: plain(
                    said.reason
                        .as_deref()
                        .or(status.canonical_reason())
                        .unwrap_or("unknown"),
                ),
                message,
            },
        }
    }

    pub(super) fn bad_answer(&self, doing: &'static str, what: String) -> MintError {
        MintError::BadAnswer {
            cluster: self.cluster.clone(),
            doing,
            what,
        }
    }

    fn request(&self, call: &Call<'_>) -> Result<Request<Body>, http::Error> {
        let agent = match call.session {
            Some(session) => format!("{} session/{session}", self.agent),
            None => self.agent.clone(),
        };
        let request = Request::builder()
            .method(call.method.clone())
            .uri(call.path)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, agent);
        let named = call.acting.map(Impersonated::headers).transpose()?;
        let named = named.into_iter().flatten();
        let request = named.fold(request, |request, (name, value)| {
            request.header(name, value)
        });
        if call.body.is_empty() {
            request.body(Body::empty())
        } else {
            request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(call.body.clone()))
        }
    }

    async fn read(
        &self,
        doing: &'static str,
        mut body: Body,
    ) -> Result<Zeroizing<Vec<u8>>, NoAnswer> {
        // Reserved at once: a vector that grows leaves copies behind that are not wiped.
        let mut read = Zeroizing::new(Vec::with_capacity(16 << 10));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                NoAnswer::InDoubt(MintError::Unreachable {
                    cluster: self.cluster.clone(),
                    doing,
                    reason: format!("the answer broke off: {}", causes(&error)),
                })
            })?;
            if let Some(data) = frame.data_ref() {
                if read.len() + data.len() > MAX_ANSWER {
                    return Err(NoAnswer::InDoubt(
                        self.bad_answer(doing, "longer than 1 MiB".to_owned()),
                    ));
                }
                read.extend_from_slice(data);
            }
        }
        Ok(read)
    }

    fn classify(&self, doing: &'static str, error: &kube::Error) -> NoAnswer {
        let cluster = self.cluster.clone();
        let mut not_sent = false;
        let mut broken = false;
        for cause in chain(error) {
            if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
                return NoAnswer::NotSent(tls_error(cluster, tls));
            }
            if let Some(auth) = cause.downcast_ref::<AuthError>() {
                return NoAnswer::NotSent(MintError::Access {
                    cluster,
                    reason: match auth {
                        AuthError::AuthExecRun { cmd, out } => {
                            format!("the kubeconfig's exec plugin {cmd} failed ({})", out.status)
                        }
                        AuthError::AuthExecParse(_) => {
                            "the kubeconfig's exec plugin printed no ExecCredential".to_owned()
                        }
                        auth => auth.to_string(),
                    },
                });
            }
            if let Some(http) = cause.downcast_ref::<hyper_util::client::legacy::Error>() {
                not_sent |= http.is_connect();
            }
            if let Some(http) = cause.downcast_ref::<hyper::Error>() {
                not_sent |= http.is_canceled();
                broken |= http.is_incomplete_message() || http.is_closed();
            }
            if let Some(io) = cause.downcast_ref::<std::io::Error>() {
                use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
                broken |= matches!(io.kind(), BrokenPipe | ConnectionReset | UnexpectedEof);
            }
        }
        let error = MintError::Unreachable {
            cluster,
            doing,
            reason: causes(error),
        };
        match (not_sent, broken) {
            (true, _) => NoAnswer::NotSent(error),
            (false, true) => NoAnswer::Broken(error),
            (false, false) => NoAnswer::InDoubt(error),
        }
    }
}

/// How often was asked before there was an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tries {
    One,
    Two,
}

fn tls_error(cluster: String, error: &rustls::Error) -> MintError {
    use rustls::CertificateError::{Expired, ExpiredContext};
    let reason = error.to_string();
    match error {
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => {
            MintError::CertificateExpired { cluster, reason }
        }
        _ => MintError::Tls { cluster, reason },
    }
}

/// An error and its causes. An `io::Error` hides the error that it carries from `source()`.
fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        match error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        }
    })
    .take(16)
}

/// The causes in one line, each once. The outermost are kube's and hyper's packaging.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in chain(error) {
        let text = cause.to_string();
        if !said.iter().any(|before| before.contains(&text)) {
            said.retain(|before| !text.contains(before.as_str()));
            said.push(text);
        }
    }
    plain(&said.join(": "))
}

/// What another machine said, fit for a log: no control characters, not too long.
fn plain(text: &str) -> String {
    let mut out: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_MESSAGE)
        .collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}
