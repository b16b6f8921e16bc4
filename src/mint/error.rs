//! Why no credential was issued.

use super::journal::JournalError;

/// Why no credential was issued. `Display` is the reason for administrators; [`MintError::for_operator`] the
/// sentence for operators. Neither ever holds a credential.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The API server took a connection but did not answer in time.
    #[error("cluster {cluster}: no answer within {seconds} s while {doing}")]
    Timeout {
        /// Cluster name.
        cluster: String,
        /// What was asked of it.
        doing: &'static str,
        /// How long was waited in all.
        seconds: u64,
    },
    /// There is no API server to be reached, or the connection broke.
    #[error("cluster {cluster}: {doing}: the API server cannot be reached: {reason}")]
    Unreachable {
        /// Cluster name.
        cluster: String,
        /// What was asked of it.
        doing: &'static str,
        /// The connection's error, its causes joined.
        reason: String,
    },
    /// The API server's certificate has expired.
    #[error(
        "cluster {cluster}: the API server's certificate has expired ({reason}): renew it there, or set this host's clock right"
    )]
    CertificateExpired {
        /// Cluster name.
        cluster: String,
        /// What TLS says.
        reason: String,
    },
    /// TLS failed otherwise: an unknown authority, a wrong name, an alert.
    #[error(
        "cluster {cluster}: TLS with the API server failed: {reason}: check certificate-authority and server in the kubeconfig"
    )]
    Tls {
        /// Cluster name.
        cluster: String,
        /// What TLS says.
        reason: String,
    },
    /// The API server does not know the daemon's own credential.
    #[error(
        "cluster {cluster}: {doing}: the API server does not accept the daemon's own credential (401): {message}: renew the one in the kubeconfig"
    )]
    Unauthorized {
        /// Cluster name.
        cluster: String,
        /// What was asked of it.
        doing: &'static str,
        /// What it said.
        message: String,
    },
    /// The daemon's own credential may not do it.
    #[error(
        "cluster {cluster}: {doing}: forbidden (403): {message}: apply the role namespace's manifest (see examples/deploy) and try `bastion-audit check --cluster`"
    )]
    Forbidden {
        /// Cluster name.
        cluster: String,
        /// What was asked of it.
        doing: &'static str,
        /// What it said.
        message: String,
    },
    /// The API server said no for another reason: no such ServiceAccount, an admission policy, a limit.
    #[error("cluster {cluster}: {doing}: refused ({status} {reason}): {message}")]
    Refused {
        /// Cluster name.
        cluster: String,
        /// What was asked of it.
        doing: &'static str,
        /// HTTP status.
        status: u16,
        /// Kubernetes' reason, such as `NotFound`, `Invalid`, `TooManyRequests`.
        reason: String,
        /// What it said.
        message: String,
    },
    /// The answer was not what Kubernetes answers.
    #[error("cluster {cluster}: {doing}: the answer cannot be used: {what}")]
    BadAnswer {
        /// Cluster name.
        cluster: String,
        /// What was asked of it.
        doing: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The daemon's own credential for the cluster cannot be read.
    #[error("cluster {cluster}: {reason}")]
    Access {
        /// Cluster name.
        cluster: String,
        /// What is wrong with the kubeconfig and what to do.
        reason: String,
    },
    /// The cluster is not, or no longer, configured.
    #[error("cluster {cluster}: not in the configuration")]
    NotConfigured {
        /// Cluster name.
        cluster: String,
    },
    /// The configuration changed between the decision and the signature.
    #[error("cluster {cluster}: it does not, or no longer, mint by an issuer of ours")]
    NoIssuer {
        /// Cluster name.
        cluster: String,
    },
    /// The configuration changed between the decision and what it led to.
    #[error(
        "cluster {cluster}: credentials for it do not come about as they did when this was decided"
    )]
    OtherMint {
        /// Cluster name.
        cluster: String,
    },
    /// Nobody of ours is one of Kubernetes' own, and nobody is without a group.
    #[error(
        "{username:?} or a group of theirs is one of Kubernetes' own, or there is none: correct the role"
    )]
    KubernetesOwn {
        /// Who it would have been.
        username: String,
    },
    /// We could not sign.
    #[error(transparent)]
    Issuer(#[from] crate::issuer::IssuerError),
    /// The lease is not, or no longer, open.
    #[error("the lease of session {session} is not open any more")]
    Closed {
        /// The session.
        session: crate::session::SessionId,
    },
    /// A session has one lease.
    #[error("session {session} has a lease already")]
    Twice {
        /// The session.
        session: crate::session::SessionId,
    },
    /// The role's subject cannot be a ServiceAccount.
    #[error("{namespace:?}/{name:?} cannot be the name of a ServiceAccount: correct the role")]
    NotAServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Too many leases wait to be taken back.
    #[error(
        "{open} leases are open or wait to be taken back, which is the limit: is a cluster down, or a permission to delete Secrets missing?"
    )]
    Full {
        /// How many.
        open: usize,
    },
    /// What cannot be written down is not done.
    #[error("nothing is issued that cannot be recorded: {0}")]
    Journal(#[from] JournalError),
}

impl MintError {
    /// One sentence for the operator, without addresses, paths or the API server's own words.
    pub fn for_operator(&self) -> String {
        match self {
            Self::Timeout { cluster, .. } => {
                format!("cluster {cluster} did not answer in time; try again, or tell your administrator")
            }
            Self::Unreachable { cluster, .. } => {
                format!("cluster {cluster} cannot be reached; try again, or tell your administrator")
            }
            Self::CertificateExpired { cluster, .. } => {
                format!("cluster {cluster} cannot be trusted: its certificate has expired; tell your administrator")
            }
            Self::Tls { cluster, .. } => {
                format!("cluster {cluster} cannot be trusted: its certificate is not the expected one; tell your administrator")
            }
            Self::Unauthorized { cluster, .. } | Self::Access { cluster, .. } => {
                format!("the bastion has no valid credential for cluster {cluster}; tell your administrator")
            }
            Self::Forbidden { cluster, .. } => {
                format!("the bastion may not issue this role's credential on cluster {cluster}; tell your administrator")
            }
            Self::Refused {
                cluster,
                status: 429 | 503,
                ..
            } => format!("cluster {cluster} is overloaded; try again in a minute"),
            Self::Refused { cluster, .. } | Self::BadAnswer { cluster, .. } => {
                format!("cluster {cluster} issued no credential for this role; tell your administrator")
            }
            Self::NoIssuer { cluster } | Self::OtherMint { cluster } => {
                format!("how credentials for cluster {cluster} come about was just changed; try again")
            }
            Self::Issuer(_) => "the bastion cannot sign credentials; tell your administrator".to_owned(),
            Self::NotConfigured { cluster } => {
                format!("cluster {cluster} is no longer configured; tell your administrator")
            }
            Self::KubernetesOwn { .. } => {
                "the role's user or groups cannot be; tell your administrator".to_owned()
            }
            Self::NotAServiceAccount { .. } => {
                "the role's ServiceAccount cannot be; tell your administrator".to_owned()
            }
            Self::Closed { .. } | Self::Twice { .. } => "the session's credential has been taken back".to_owned(),
            Self::Full { .. } | Self::Journal(_) => {
                "the bastion cannot record new credentials and therefore issues none; tell your administrator".to_owned()
            }
        }
    }

    /// Whether trying again soon may help.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Unreachable { .. } | Self::Full { .. } => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_see_no_internals() {
        let error = MintError::Unreachable {
            cluster: "prod".into(),
            doing: "creating the session's Secret",
            reason: "tcp connect error: 10.1.2.3:6443 refused".into(),
        };
        assert!(error.to_string().contains("10.1.2.3"));
        assert!(!error.for_operator().contains("10.1.2.3"));
        assert!(error.for_operator().contains("prod"));
        assert!(error.is_temporary());
    }
}
