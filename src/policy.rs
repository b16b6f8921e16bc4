//! Which role an identity may take. Pure, no I/O, and the only place that says yes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{CredentialTtl, Name, RecordInput, SessionKind};

/// What a proven identity asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The login name: the identity's own, `ROLE` or `ROLE+CLUSTER`. Whatever a client sends.
    pub principal: String,
    /// The kind of session.
    pub kind: SessionKind,
}

/// One decision: this identity may take this role on this cluster for this kind of session.
#[must_use = "a grant that opens no session must be a denial in the audit log"]
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    identity: Name,
    role: Name,
    cluster: Name,
    kind: SessionKind,
    subject: KubernetesSubject,
    ttl: CredentialTtl,
    ends: Timestamp,
    record_input: RecordInput,
    binding: Name,
    reason: Option<String>,
    config_digest: String,
}

/// The ServiceAccount that a grant stands for, `{identity}` filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesSubject {
    /// Kubernetes namespace.
    pub namespace: String,
    /// ServiceAccount name.
    pub name: String,
}

impl std::fmt::Display for KubernetesSubject {
    /// As Kubernetes writes its user name: `system:serviceaccount:NAMESPACE:NAME`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

impl Grant {
    /// Who.
    pub fn identity(&self) -> &Name {
        &self.identity
    }
    /// Takes which role.
    pub fn role(&self) -> &Name {
        &self.role
    }
    /// On which cluster.
    pub fn cluster(&self) -> &Name {
        &self.cluster
    }
    /// For which kind of session.
    pub fn kind(&self) -> SessionKind {
        self.kind
    }
    /// As which ServiceAccount.
    pub fn subject(&self) -> &KubernetesSubject {
        &self.subject
    }
    /// Lifetime of each credential.
    pub fn ttl(&self) -> CredentialTtl {
        self.ttl
    }
    /// When the session ends at the latest: the role's `maxSession` from now, or the binding's `until` if sooner.
    pub fn ends(&self) -> Timestamp {
        self.ends
    }
    /// What is kept of standard input.
    pub fn record_input(&self) -> RecordInput {
        self.record_input
    }
    /// Allowed by which binding.
    pub fn binding(&self) -> &Name {
        &self.binding
    }
    /// The binding's reason.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
    /// The configuration that it was decided under.
    pub fn config_digest(&self) -> &str {
        &self.config_digest
    }
}
