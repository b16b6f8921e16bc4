//! A cluster: where its API server is, and how credentials for it come about.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Impersonation, Name};

/// `kind: Cluster`: an API server and the daemon's credential for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// `metadata.name`.
    pub name: Name,
    /// `metadata.labels`, for roles that select clusters.
    pub labels: BTreeMap<String, String>,
    /// Where the daemon's own credential comes from.
    pub access: ClusterAccess,
    /// How operators' credentials come about.
    pub mint: Mint,
}

/// `spec.mint` of a Cluster: how operators' credentials for it come about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mint {
    /// The API server issues them, of ServiceAccounts.
    #[default]
    TokenRequest,
    /// The daemon signs them, in the operator's own name, and the API server trusts it as an OpenID Connect issuer.
    OidcIssuer {
        /// Who they are for: this cluster and no other.
        audience: String,
    },
    /// The daemon asks in the operator's own name, by its own credential: there is none to be issued.
    Impersonation(Impersonation),
}

impl Mint {
    /// As `spec.mint` says it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::TokenRequest => "tokenRequest",
            Self::OidcIssuer { .. } => "oidcIssuer",
            Self::Impersonation(_) => "impersonation",
        }
    }
}

/// How the daemon reaches a cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterAccess {
    /// A kubeconfig file (absolute path), current context.
    Kubeconfig(PathBuf),
    /// The pod's own ServiceAccount.
    InCluster,
    /// An address and files of its own.
    Server(ClusterServer),
}

/// `spec.server` of a Cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterServer {
    /// `https://...`.
    pub url: String,
    /// The authority of its certificate, PEM; absolute path.
    pub certificate_authority: PathBuf,
    /// The daemon's own token, absolute path; none where the daemon is nobody.
    pub token_file: Option<PathBuf>,
    /// The daemon requests the next token itself and writes it there.
    pub renew_token: bool,
}
