//! A question of the daemon's own, asked in somebody's name: what RBAC lets them do. It goes the way of a session's requests and by the
//! same credential, but nobody's client wrote it: so it is in the audit log, and not in a recording.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Limited};
use k8s_openapi::api::authorization::v1::{
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec, SubjectRulesReviewStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

use super::acting::authorize;
use super::answer::whole;
use super::asked::audit_id;
use super::forward::AUDIT_ID;
use super::session::agent;
use super::upstream::Upstream;
use crate::causes::causes;
use crate::config::Name;
use crate::mint::Acting;
use crate::session::SessionId;

const PATH: &str = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
/// Longest answer, in bytes.
const LONGEST: usize = 1 << 20;
/// From the question to the end of its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What somebody may do in a namespace (SelfSubjectRulesReview, authorization.k8s.io/v1).
#[derive(Clone, Debug)]
pub struct RightsQuestion {
    namespace: String,
    agent: String,
    audit_id: String,
}

/// Why there is no answer, in words that go behind the cluster's name.
#[derive(Debug, thiserror::Error)]
pub enum NotAnswered {
    /// It could not be put in anybody's name.
    #[error("{0}")]
    NotAsked(String),
    /// No connection.
    #[error("its API server cannot be reached; try again, or tell your administrator")]
    Unreachable,
    /// A connection, and no answer.
    #[error(
        "its API server broke off, or answered what is no answer; try again, or tell your administrator"
    )]
    Broken,
    /// It takes too long.
    #[error("its API server did not answer within {} s; try again", PATIENCE.as_secs())]
    Slow,
    /// It says no.
    #[error("its API server answers {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The API server's words.
        message: String,
    },
}

impl RightsQuestion {
    /// About one namespace, by somebody in a role, under an id that is theirs.
    ///
    /// # Errors
    ///
    /// If the system has no randomness.
    pub fn new(
        namespace: &str,
        identity: &Name,
        role: &Name,
        session: SessionId,
    ) -> Result<Self, NotAnswered> {
        Ok(Self {
            namespace: namespace.to_owned(),
            agent: agent(identity, role, session),
            audit_id: audit_id().map_err(|sorry| NotAnswered::NotAsked(sorry.message))?,
        })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// By what the API server's audit log knows it.
    pub fn audit_id(&self) -> &str {
        &self.audit_id
    }

    /// Asks. Answers within 5 s, one way or the other.
    ///
    /// # Errors
    ///
    /// If there is no answer, or it is a refusal.
    pub async fn ask(
        &self,
        upstream: &Upstream,
        acting: &Acting,
    ) -> Result<SubjectRulesReviewStatus, NotAnswered> {
        let exchange = async {
            let request = self.request(upstream, acting).await?;
            let answer = upstream.ask(request).await.map_err(|error| {
                tracing::warn!("asking for somebody's rights: {}", causes(&error));
                NotAnswered::Unreachable
            })?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), LONGEST).collect().await;
            let body = body.map_err(|_| NotAnswered::Broken)?.to_bytes();
            if !status.is_success() {
                let said: Status = serde_json::from_slice(&body).unwrap_or_default();
                return Err(NotAnswered::Refused {
                    status: status.as_u16(),
                    message: printable(said.message.as_deref().unwrap_or("no reason given")),
                });
            }
            let review: SelfSubjectRulesReview =
                serde_json::from_slice(&body).map_err(|_| NotAnswered::Broken)?;
            review.status.ok_or(NotAnswered::Broken)
        };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(NotAnswered::Slow),
        }
    }

    async fn request(
        &self,
        upstream: &Upstream,
        acting: &Acting,
    ) -> Result<Request<super::answer::RequestBody>, NotAnswered> {
        let broken = || NotAnswered::NotAsked("the question cannot be written".to_owned());
        let review = SelfSubjectRulesReview {
            spec: SelfSubjectRulesReviewSpec {
                namespace: Some(self.namespace.clone()),
            },
            ..SelfSubjectRulesReview::default()
        };
        let body = serde_json::to_vec(&review).map_err(|_| broken())?;
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(ACCEPT, json.clone());
        headers.insert(CONTENT_TYPE, json);
        headers.insert(HOST, upstream.host());
        let text = |text: &str| HeaderValue::from_str(text).map_err(|_| broken());
        headers.insert(USER_AGENT, text(&self.agent)?);
        headers.insert(AUDIT_ID, text(&self.audit_id)?);
        authorize(upstream, acting, &mut headers)
            .await
            .map_err(|sorry| NotAnswered::NotAsked(sorry.message))?;
        let mut request = Request::new(whole(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        let path = http::uri::PathAndQuery::from_static(PATH);
        *request.uri_mut() = upstream.uri(&path).map_err(|_| broken())?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

fn printable(text: &str) -> String {
    let visible = |c: char| if c.is_control() { '?' } else { c };
    text.chars().take(500).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mint::Credential;

    #[tokio::test]
    async fn a_cluster_that_is_down_is_no_cluster_that_grants_nothing() {
        let upstream = Upstream::new(&kube::Config::new(http::Uri::from_static(
            "https://127.0.0.1:1",
        )))
        .unwrap();
        let name = |text: &str| Name::new(text).unwrap();
        let session = SessionId::new(jiff::Timestamp::UNIX_EPOCH);
        let question = RightsQuestion::new("default", &name("ann"), &name("viewer"), session);
        let acting = Acting::Credential(Arc::new(Credential::new("t0ps3cret".to_owned())));
        let answer = question.unwrap().ask(&upstream, &acting).await;
        let error = answer.unwrap_err();
        assert!(matches!(error, NotAnswered::Unreachable), "{error}");
        assert!(!format!("{error:?}{error}").contains("t0ps3cret"));
    }
}
