//! A decision that opens one session.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::judge::Decision;
use crate::config::{Config, CredentialTtl, Factor, Name, RecordBodies, RecordInput, SessionKind};
use crate::identity::Identity;

/// One decision: this identity may take this role on this cluster for this kind of session.
#[must_use = "a grant that opens no session must be a denial in the audit log"]
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    #[serde(flatten)]
    decision: Decision,
    config_digest: String,
    /// Events name it beside the grant.
    #[serde(skip)]
    fingerprint: String,
    #[serde(skip)]
    certificate: Option<Arc<str>>,
    #[serde(skip)]
    from: IpAddr,
    /// What its operator made of the end since; on record as an event of its own.
    #[serde(skip)]
    extended: Option<Timestamp>,
    /// What was proven.
    factors: Vec<Factor>,
    #[serde(skip)]
    enrolment: Option<Timestamp>,
    /// By the device flow of which provider its holder has signed in, if that is what gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_flow: Option<Name>,
}

/// Whom a grant stands for in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum KubernetesSubject {
    /// A ServiceAccount, `{identity}` filled in.
    ServiceAccount {
        /// Kubernetes namespace.
        namespace: String,
        /// ServiceAccount name.
        name: String,
    },
    /// The identity itself, as the API server reads the tokens that the daemon signs.
    Own {
        /// Kubernetes user name: `ssh:IDENTITY`.
        username: String,
        /// Kubernetes groups: `ssh:GROUP`.
        groups: Vec<String>,
    },
    /// The identity as RBAC there calls it, in whose name the daemon asks.
    Impersonated {
        /// Kubernetes user name.
        #[serde(rename = "impersonated")]
        username: String,
        /// Kubernetes groups.
        groups: Vec<String>,
    },
}

impl KubernetesSubject {
    /// For people: what RBAC may bind, in words.
    pub fn in_words(&self) -> String {
        match self {
            Self::ServiceAccount { .. } => self.to_string(),
            Self::Own { username, groups } | Self::Impersonated { username, groups } => {
                format!("{username} in {}", groups.join(", "))
            }
        }
    }
}

impl std::fmt::Display for KubernetesSubject {
    /// As Kubernetes writes its user name: `system:serviceaccount:NAMESPACE:NAME`, `ssh:IDENTITY`, or as the cluster calls it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ServiceAccount { namespace, name } => {
                write!(f, "system:serviceaccount:{namespace}:{name}")
            }
            Self::Own { username, .. } | Self::Impersonated { username, .. } => {
                f.write_str(username)
            }
        }
    }
}

impl Grant {
    pub(super) fn new(
        decision: Decision,
        identity: &Identity,
        config: &Config,
        from: IpAddr,
    ) -> Self {
        let proof = identity.proof();
        Self {
            decision,
            config_digest: config.digest.clone(),
            fingerprint: proof.fingerprint().to_owned(),
            certificate: proof
                .certificate()
                .map(|certified| Arc::clone(certified.text())),
            from,
            extended: None,
            factors: identity.factors(),
            enrolment: identity.passed().map(|passed| passed.enrolment()),
            device_flow: None,
        }
    }

    /// The same, had by the device flow of that provider.
    pub(super) fn by_device(self, provider: Option<Name>) -> Self {
        Self {
            device_flow: provider,
            ..self
        }
    }

    /// The same with another end.
    pub(super) fn until(&self, end: Timestamp) -> Self {
        Self {
            extended: Some(end),
            ..self.clone()
        }
    }

    /// What was decided, without what it may open.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }
    /// Who.
    pub fn identity(&self) -> &Name {
        &self.decision.identity
    }
    /// Proven by which key, `SHA256:...`.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
    /// Proven by which certificate of that key, OpenSSH format, if it was one.
    pub fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }
    /// The enrolment of the one-time code that was accepted besides, by when it began, if one was.
    pub fn enrolment(&self) -> Option<Timestamp> {
        self.enrolment
    }
    /// From which address.
    pub fn from(&self) -> IpAddr {
        self.from
    }
    /// Takes which role.
    pub fn role(&self) -> &Name {
        &self.decision.role
    }
    /// On which cluster.
    pub fn cluster(&self) -> &Name {
        &self.decision.cluster
    }
    /// For which kind of session.
    pub fn kind(&self) -> SessionKind {
        self.decision.kind
    }
    /// As whom in the cluster.
    pub fn subject(&self) -> &KubernetesSubject {
        &self.decision.subject
    }
    /// Lifetime of each credential.
    pub fn ttl(&self) -> CredentialTtl {
        self.decision.ttl
    }
    /// When the session ends at the latest: the role's `maxSession` after the decision, or the binding's `until` if sooner; later if it was
    /// extended.
    pub fn ends(&self) -> Timestamp {
        self.extended.unwrap_or(self.decision.ends)
    }
    /// When it would end if it had never been extended.
    pub(super) fn first_end(&self) -> Timestamp {
        self.decision.ends
    }
    /// What is kept of standard input.
    pub fn record_input(&self) -> RecordInput {
        self.decision.record_input
    }
    /// What is kept of what requests to the cluster carry.
    pub fn bodies(&self) -> RecordBodies {
        self.decision.bodies
    }
    /// Whether it may be opened while the disk of the recordings is full.
    pub fn rescue(&self) -> bool {
        self.decision.rescue
    }
    /// Allowed by which binding.
    pub fn binding(&self) -> &Name {
        &self.decision.binding
    }
    /// The binding's reason.
    pub fn reason(&self) -> Option<&str> {
        self.decision.reason.as_deref()
    }
    /// The configuration that it was decided under.
    pub fn config_digest(&self) -> &str {
        &self.config_digest
    }
}
