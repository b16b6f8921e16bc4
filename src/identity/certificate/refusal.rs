//! Why a certificate proves nobody.

use serde::{Deserialize, Serialize};

use crate::config::Name;

/// Why a certificate proves nobody. For the audit log: the client itself is never told which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum CertificateRefusal {
    /// It is none, or not of the key that was signed with.
    #[error("what was offered is not a certificate of the key that was signed with")]
    Unreadable,
    /// Nobody trusts the key that signed it.
    #[error("the key that signed the certificate ({signed_by}) is of no CertificateAuthority")]
    UnknownAuthority {
        /// Its fingerprint.
        signed_by: String,
    },
    /// It was signed by an algorithm that its authority may not use.
    #[error("{authority} may not sign certificates with {algorithm}")]
    Algorithm {
        /// Which authority.
        authority: Name,
        /// Which algorithm.
        algorithm: String,
    },
    /// The authority's signature does not hold.
    #[error("the signature of the certificate is not that of its authority")]
    BadSignature,
    /// It is a host's.
    #[error("the certificate is for hosts, not for users")]
    NotForUsers,
    /// Its time has not come.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// Its time is over.
    #[error("the certificate has expired")]
    Expired,
    /// It was taken back.
    #[error("the certificate was revoked by {by}")]
    Revoked {
        /// By what it is on the list.
        by: String,
    },
    /// It names no principal, which would be everybody.
    #[error("the certificate names no principal")]
    NoPrincipals,
    /// It names more principals than OpenSSH takes.
    #[error("the certificate names more than {} principals", super::MAX_PRINCIPALS)]
    TooManyPrincipals,
    /// It must not be accepted by who does not know this option.
    #[error("the certificate has the critical option '{name}', which is not known")]
    CriticalOption {
        /// Which, shown.
        name: String,
    },
    /// It allows one command only.
    #[error(
        "the certificate forces a command (force-command); what may be done is said by roles here, so it could only be ignored"
    )]
    ForceCommand,
    /// It asks for a security key whose owner was verified.
    #[error(
        "the certificate asks for a verified security key (verify-required), which cannot be enforced"
    )]
    VerifyRequired,
    /// Its source-address cannot be read.
    #[error("the certificate's source-address is not a list of networks")]
    BadSourceAddress,
    /// It is not good from there.
    #[error("the certificate may not be used from this address")]
    SourceNotAllowed,
    /// No principal of it means anybody.
    #[error("no principal of the certificate is an identity of {authority}")]
    NobodysPrincipals {
        /// By whose rules.
        authority: Name,
    },
    /// It could be several people's.
    #[error(
        "the principals of the certificate are several identities ({}), and the login name is none of them",
        list(identities)
    )]
    SeveralIdentities {
        /// Which, the first few.
        identities: Vec<Name>,
    },
    /// What it says in place of groups is none.
    #[error("the certificate's groups cannot be read: {why}")]
    Groups {
        /// Why.
        why: String,
    },
}

fn list(names: &[Name]) -> String {
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    names.join(", ")
}
