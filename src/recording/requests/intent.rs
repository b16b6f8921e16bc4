//! What a client is about to ask of a cluster.

use serde::{Deserialize, Serialize};

use super::RecordedBody;

/// A request's number in its recording: the first one is 1, and none is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestNumber(u64);

impl RequestNumber {
    pub(crate) fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for RequestNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A request that has been understood and is about to be forwarded, or refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// The `Audit-ID` that the gateway set: the API server's audit log has it too.
    pub audit_id: String,
    /// The HTTP method as it came.
    pub method: String,
    /// The path as it came, without the query.
    pub path: String,
    /// What it means to the API server.
    pub info: RequestSummary,
    /// The query, decoded, in its order: `command=` more than once, each in full.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<(String, String)>,
    /// What the client says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Nothing is to be changed by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// What stands out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
    /// What it carries, as far as it is kept and known already; else it comes with the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<RecordedBody>,
    /// Of an upgrade: the protocol, `v5.channel.k8s.io` or `SPDY/3.1` and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// A request as the API server's authorization sees it (`RequestInfo` of k8s.io/apiserver). Texts are empty where
/// there is nothing to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestSummary {
    /// Whether it is about a resource; otherwise only the verb means something.
    pub is_resource: bool,
    /// `get`, `list`, `watch`, `create`, `deletecollection`, ...; of other paths the method in lower case.
    pub verb: String,
    /// `apps`; empty for the core group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    /// `v1`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Where; empty across or without namespaces.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// `pods`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// `log`, `exec`, `status`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    /// The object's name; empty for all of them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// What makes a request stand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mark {
    /// It changes something.
    Write,
    /// It runs or reaches a process: exec, attach.
    Exec,
    /// It opens a way into a pod's network.
    PortForward,
    /// It reads the contents of Secrets.
    SecretRead,
    /// It may give a credential to the client.
    CredentialIssued,
    /// It goes through the API server to something else: `nodes|pods|services/proxy`.
    Proxy,
    /// It says that nothing is to be changed.
    DryRun,
    /// The gateway refused it: the API server never saw it.
    Refused,
}

impl Mark {
    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Exec => "exec",
            Self::PortForward => "port-forward",
            Self::SecretRead => "secret-read",
            Self::CredentialIssued => "credential-issued",
            Self::Proxy => "proxy",
            Self::DryRun => "dry-run",
            Self::Refused => "refused",
        }
    }
}
